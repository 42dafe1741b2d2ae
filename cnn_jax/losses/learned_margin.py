"""The margin loss: pairs against a boundary β between near and far, which is learned."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import constant

from cnn_jax.losses.checks import check_margin, class_index
from cnn_jax.losses.comparison import Miner, compare, distances_of, spread_mean, weigh
from cnn_jax.losses.examples import hide
from cnn_jax.ops.arguments import check_number, check_whole, check_word
from cnn_jax.ops.distance import DistanceName


class LearnedMargin(nn.Module):
    """Each anchor's sum over its triplets of max(0, d(a, p) − β + m) + max(0, β − d(a, n) + m) + ν·β, with a β that is learned.

    Sums are scaled: the batch mean is Σ over triplets / number of such terms of pairs that are above zero. A β for all has its ν·β
    added once, undivided, wherever there is a triplet. Parameter: `beta` [k] or [1].

    Attributes:
      num_classes: k.
      betas: "class" for one β each, that of the anchor; "one" for all.
      beta: what they start from.
      margin: m, not negative.
      regularisation: ν, not negative: what draws β down.
      distance: one of `ops.distance.DISTANCES`.
      miner: narrows or weighs the pairs, as for the other losses.

    Raises:
      ValueError: margin or ν are negative, β is not finite, `betas` or the distance are unknown, or as `comparison.compare`.

    Reference: Wu et al., "Sampling Matters in Deep Embedding Learning", 2017, equation 4; PyTorch Metric Learning's MarginLoss, which
      counts pairs once for every triplet they are in, with `learn_beta`.

    >>> import jax
    >>> loss = LearnedMargin(2, beta=1.0)
    >>> values, _ = loss.init_with_output(jax.random.key(0), jnp.array([[0.0], [1.5], [4.0]]), jnp.array([0, 0, 1]))
    >>> round(values.mean().item(), 4)  # both positives are 0.5 beyond β, and the margin comes on top
    0.7
    """

    num_classes: int
    betas: Literal["class", "one"] = "class"
    beta: float = 1.2
    margin: float = 0.2
    regularisation: float = 0.0
    distance: DistanceName = "euclidean"
    miner: Miner | None = None

    @nn.compact
    def __call__(self, embeddings, labels, *, where=None, references=None):
        check_whole("num_classes", self.num_classes)
        check_word("betas", self.betas, ("class", "one"))
        check_number("beta", self.beta, lambda v: abs(v) < float("inf"), "finite")
        check_margin(self.margin)
        check_margin(self.regularisation, "regularisation")
        comparison = compare(embeddings, labels, where, references, self.miner)
        start = constant(self.beta)
        if self.betas == "class":
            index = class_index(hide(labels, where), self.num_classes)
            betas = self.param("beta", start, (self.num_classes,), jnp.float32).at[index].get(mode="fill", fill_value=jnp.nan)
        else:
            betas = jnp.broadcast_to(self.param("beta", start, (1,), jnp.float32), labels.shape)

        distances, dtype = distances_of(comparison, self.distance), comparison.anchors.dtype
        positives, negatives = comparison.positives.astype(dtype), comparison.negatives.astype(dtype)
        num_positives, num_negatives = positives.sum(1), negatives.sum(1)
        num_triplets = num_positives * num_negatives
        drawn = jnp.maximum(distances - betas[:, None] + self.margin, 0)
        pushed = jnp.maximum(betas[:, None] - distances + self.margin, 0)
        # A pair stands for all the triplets that it is in.
        pairs = (drawn, positives * num_negatives[:, None]), (pushed, negatives * num_positives[:, None])
        sums = sum(weigh(losses, weights).sum(1) for losses, weights in pairs)
        active = sum(jnp.where(losses <= 0, 0, weights).sum(1) for losses, weights in pairs)  # NaN is not to vanish
        if self.betas == "class":
            sums += self.regularisation * weigh(betas, num_triplets)
        values = jnp.where(active.sum() > 0, spread_mean(sums, active, where), 0)
        if self.betas == "one":
            values += hide(jnp.where((num_triplets > 0).any(), self.regularisation * betas, 0), where)
        return values.astype(embeddings.dtype)
