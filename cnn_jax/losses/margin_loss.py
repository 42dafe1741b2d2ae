"""The margin loss of Wu et al.: distances to positives are to be below a boundary, those to negatives above it, by a margin each."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_margin
from cnn_jax.losses.comparison import Comparison, Miner, References, compare, distances_of, spread_mean, weigh
from cnn_jax.ops.arguments import check_number
from cnn_jax.ops.distance import DistanceName
from cnn_jax.ops.precision import result_type


def margin_loss(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    margin: float = 0.2,
    beta: float = 1.2,
    distance: DistanceName = "euclidean",
) -> Float[Array, "b"]:
    """Returns max(0, d(a, p) − β + m) + max(0, β − d(a, n) + m) over each anchor's triplets, summed and scaled.

    The batch mean is the sum over all triplets by the number of the terms above zero, of which a triplet has up to two. It is meant for
    the `distance_weighted` miner.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], the margin is negative or not finite, or β is not finite.

    Reference: Wu et al., "Sampling matters in deep embedding learning", 2017, equation 5. PyTorch Metric Learning's MarginLoss.

    >>> margin_loss(jnp.array([[0.0], [2.0], [3.0]]), jnp.array([0, 0, 1]), margin=0.5, beta=2.25).mean().item()  # 0.25, 0.25, 1.75
    0.75
    """
    check_number("beta", beta, math.isfinite, "finite")
    comparison = compare(embeddings, labels, where, references, miner)
    return margin_around(comparison, beta, margin=margin, distance=distance).astype(result_type(embeddings))


def margin_around(
    comparison: Comparison,
    beta: float | Float[Array, "b"],
    *,
    margin: float = 0.2,
    distance: DistanceName = "euclidean",
    regularisation: float = 0.0,
) -> Float[Array, "b"]:
    """Returns `margin_loss` of a comparison, with one boundary β for all or one for each anchor; differentiable by β.

    Args:
      regularisation: ν, not negative: ν·β is added to the sum for each triplet, unless none has a loss.

    Raises:
      ValueError: the margin or ν is negative or not finite, or the distance is unknown.

    >>> x, labels = jnp.array([[0.0], [2.0], [3.0]]), jnp.array([0, 0, 1])
    >>> margin_around(compare(x, labels, None), jnp.array([2.0, 1.0, 9.0]), margin=0.5).round(2).tolist()
    [0.5, 2.0, 0.0]
    """
    check_margin(margin)
    check_margin(regularisation, "regularisation")
    d = distances_of(comparison, distance)
    beta = jnp.reshape(jnp.asarray(beta, d.dtype), (-1, 1))
    positives, negatives = comparison.positives.astype(d.dtype), comparison.negatives.astype(d.dtype)
    # A pair counts in as many triplets as the anchor has pairs of the other kind.
    drawn = weigh(jnp.maximum(d - beta + margin, 0), positives * negatives.sum(1, keepdims=True))
    pushed = weigh(jnp.maximum(beta - d + margin, 0), negatives * positives.sum(1, keepdims=True))
    active = jnp.where(drawn > 0, positives * negatives.sum(1, keepdims=True), 0)
    active += jnp.where(pushed > 0, negatives * positives.sum(1, keepdims=True), 0)
    num_triplets = jnp.where(active.sum() > 0, positives.sum(1) * negatives.sum(1), 0)
    drawn_down = regularisation * weigh(jnp.broadcast_to(beta[:, 0], num_triplets.shape), num_triplets)
    return spread_mean((drawn + pushed).sum(1) + drawn_down, active.sum(1), comparison.where)
