"""Contrastive losses: pairs of one class are drawn together, pairs of two classes pushed apart up to a margin."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_margin
from cnn_jax.losses.comparison import Comparison, Miner, References, compare, distances_of, mean_of_active, spread_mean, weigh
from cnn_jax.losses.explicit_pairs import contrastive_pair
from cnn_jax.ops.arguments import check_number
from cnn_jax.ops.distance import DistanceName
from cnn_jax.ops.precision import result_type


def contrastive(
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
    """Returns max(0, d − m₊) over pairs of one class and max(0, m₋ − d) over pairs of two, summed for each example.

    Sums are scaled: the batch mean is the mean over the positive pairs with a loss above zero plus that over such negative pairs, so
    that the many negatives, and the satisfied ones, do not outweigh the rest.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], or a margin is negative or not finite.

    Reference: PyTorch Metric Learning's ContrastiveLoss. `contrastive_squared` is the form of Hadsell et al.

    >>> contrastive(jnp.array([[0.0], [0.5], [0.75]]), jnp.array([0, 0, 1])).mean().item()
    1.0
    """
    for name, margin in (("positive_margin", positive_margin), ("negative_margin", negative_margin)):
        check_margin(margin, name)
    comparison = compare(embeddings, labels, where, references, miner)
    values = _contrasted(comparison, distances_of(comparison, distance), positive_margin, negative_margin)
    return values.astype(result_type(embeddings))


def contrastive_squared(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    margin: float = 1.0,
    distance: DistanceName = "euclidean",
) -> Float[Array, "b"]:
    """Returns `contrastive_pair` over all pairs of the batch, those of equal int labels [b] being similar, summed for each example.

    Sums are scaled: the batch mean is the mean over positive pairs plus the mean over negative pairs.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], or the margin is negative or not finite.

    Reference: Hadsell et al., "Dimensionality reduction by learning an invariant mapping", 2006.

    >>> contrastive_squared(jnp.array([[0.0], [0.5], [0.75]]), jnp.array([0, 0, 1])).mean().item()
    0.28125
    """
    check_margin(margin)
    comparison = compare(embeddings, labels, where, references, miner)
    losses = contrastive_pair(distances_of(comparison, distance), comparison.positives != 0, margin=margin)
    values = sum(
        spread_mean(weigh(losses, weights).sum(1), weights.sum(1), where) for weights in (comparison.positives, comparison.negatives)
    )
    return values.astype(result_type(embeddings))


def snr_contrastive(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    positive_margin: float = 0.0,
    negative_margin: float = 1.0,
    regularisation: float = 0.1,
) -> Float[Array, "b"]:
    """Returns `contrastive` of the signal-to-noise distance, plus λ·|Σ_e x_e| for each example: embeddings are to have mean zero.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], or a margin or λ is negative or not finite.

    Reference: Yuan et al., "Signal-to-noise ratio: a robust distance metric for deep metric learning", 2019, equations 6 and 8.

    >>> x = jnp.array([[1.0, -1.0], [0.5, -0.5], [3.0, -2.0]])
    >>> snr_contrastive(x, jnp.array([0, 0, 1]), regularisation=0.0).mean().item() > 0
    True
    """
    check_margin(positive_margin, "positive_margin")
    check_margin(negative_margin, "negative_margin")
    check_number("regularisation", regularisation, lambda v: 0 <= v < float("inf"), "finite and not negative")
    comparison = compare(embeddings, labels, where, references, miner)
    values = _contrasted(comparison, distances_of(comparison, "snr"), positive_margin, negative_margin)
    return (values + regularisation * jnp.abs(comparison.anchors.sum(1))).astype(result_type(embeddings))


def _contrasted(comparison: Comparison, distances: Array, positive_margin: float, negative_margin: float) -> Array:
    drawn = mean_of_active(jnp.maximum(distances - positive_margin, 0), comparison.positives, comparison.where)
    return drawn + mean_of_active(jnp.maximum(negative_margin - distances, 0), comparison.negatives, comparison.where)
