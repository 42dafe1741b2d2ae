"""The margin loss with a boundary β between near and far that is learned."""

import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import constant

from cnn_jax.losses.checks import check_margin, class_index
from cnn_jax.losses.comparison import Miner, compare
from cnn_jax.losses.examples import hide
from cnn_jax.losses.margin_loss import margin_around
from cnn_jax.ops.arguments import check_number, check_whole, check_word
from cnn_jax.ops.distance import DistanceName
from cnn_jax.ops.precision import result_type


class LearnedMargin(nn.Module):
    """`margin_loss` with a learned β, and ν·β added to each triplet.

    The batch mean is Σ over triplets / number of their terms above zero. A β for all has its ν·β added once, undivided, wherever there
    is a triplet. Parameter: `beta` [k] or [1].

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

    Reference: Wu et al., "Sampling Matters in Deep Embedding Learning", 2017, section 4.2; PyTorch Metric Learning's MarginLoss with
      `learn_beta`.

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
        check_number("beta", self.beta, math.isfinite, "finite")
        check_margin(self.regularisation, "regularisation")
        comparison = compare(embeddings, labels, where, references, self.miner)
        options = {"margin": self.margin, "distance": self.distance}
        if self.betas == "class":
            index = class_index(hide(labels, where), self.num_classes)
            beta = self.param("beta", constant(self.beta), (self.num_classes,), jnp.float32)
            own = beta.at[index].get(mode="fill", fill_value=jnp.nan)
            return margin_around(comparison, own, **options, regularisation=self.regularisation).astype(result_type(embeddings))
        beta = self.param("beta", constant(self.beta), (1,), jnp.float32)[0]
        values = margin_around(comparison, jnp.broadcast_to(beta, labels.shape), **options)
        triplets = (comparison.positives != 0).any(1) & (comparison.negatives != 0).any(1)
        values += hide(jnp.where(triplets.any(), self.regularisation * beta, jnp.zeros_like(values)), where)
        return values.astype(result_type(embeddings))
