"""Lifted structure losses: a positive's distance against a soft minimum over all negatives."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.comparison import Miner, References, compare, distances_of, mean_over_anchors, spread_mean, weigh
from cnn_jax.losses.log_sum_exp import log_sum_exp
from cnn_jax.ops.arguments import check_number
from cnn_jax.ops.distance import DistanceName
from cnn_jax.ops.precision import result_type


def lifted_structure(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    positive_margin: float = 0.0,
    negative_margin: float = 1.0,
    distance: DistanceName = "euclidean",
) -> Float[Array, "b"]:
    """Returns Σ_p max(0, d_ap − m₊ + log(Σ_n exp(m₋ − d_an) + Σ_n exp(m₋ − d_pn)))² / 2 for each anchor.

    The negatives are those of either of the pair. Sums are scaled: the batch mean is the mean over all positive pairs.

    A positive among the further `references` has no row of its own: only the anchor's negatives count there.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], or a margin is not finite.

    Reference: Oh Song et al., "Deep metric learning via lifted structured feature embedding", 2016, equation 4. PyTorch Metric
    Learning's LiftedStructureLoss.

    >>> x = jnp.array([[0.0], [1.0], [2.0]])  # (1 + log(exp(1 − 2) + exp(1 − 1)))² / 2, twice, over two pairs
    >>> round(lifted_structure(x, jnp.array([0, 0, 1])).mean().item(), 4)
    0.8623
    """
    _check_margins(positive_margin, negative_margin)
    comparison = compare(embeddings, labels, where, references, miner)
    distances, positives = distances_of(comparison, distance), comparison.positives
    b, n = distances.shape
    pushes = log_sum_exp(negative_margin - distances, comparison.negatives)
    of_others = jnp.pad(pushes, (0, n - b), constant_values=-jnp.inf)
    either = jnp.stack([jnp.broadcast_to(pushes[:, None], (b, n)), jnp.broadcast_to(of_others[None, :], (b, n))], axis=-1)
    # Not logaddexp, whose derivative is NaN where both are −∞.
    violations = jnp.maximum(distances - positive_margin + log_sum_exp(either, jnp.ones((b, n, 2), bool)), 0)
    sums = weigh(jnp.square(violations) / 2, positives).sum(1)
    return spread_mean(sums, positives.sum(1), where).astype(result_type(embeddings))


def generalised_lifted_structure(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    positive_margin: float = 0.0,
    negative_margin: float = 1.0,
    distance: DistanceName = "euclidean",
) -> Float[Array, "b"]:
    """Returns max(0, log Σ_p exp(d_ap − m₊) + log Σ_n exp(m₋ − d_an)) for each anchor, averaged over anchors with both.

    A pair that a miner gives several times counts once.

    Differs from PyTorch Metric Learning's GeneralizedLiftedStructureLoss where an anchor lacks a positive or a negative: there the
    logarithm of the empty sum is taken as 0, not −∞, and the anchor counts.

    Raises:
      ValueError: as `lifted_structure`.

    Reference: Hermans et al., "In defense of the triplet loss", 2017, section 2.

    >>> generalised_lifted_structure(jnp.array([[0.0], [2.0], [2.5]]), jnp.array([0, 0, 1])).tolist()  # 2 + 1 − 2.5, 2 + 1 − 0.5
    [0.75, 3.75, 0.0]
    """
    _check_margins(positive_margin, negative_margin)
    comparison = compare(embeddings, labels, where, references, miner)
    distances, positives, negatives = distances_of(comparison, distance), comparison.positives != 0, comparison.negatives != 0
    drawn, pushed = log_sum_exp(distances - positive_margin, positives), log_sum_exp(negative_margin - distances, negatives)
    losses = jnp.maximum(drawn + pushed, 0)
    return mean_over_anchors(losses, positives.any(1) & negatives.any(1), where).astype(result_type(embeddings))


def _check_margins(positive_margin, negative_margin):
    for name, margin in (("positive_margin", positive_margin), ("negative_margin", negative_margin)):
        check_number(name, margin, math.isfinite, "finite")
