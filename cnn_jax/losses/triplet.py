"""Triplet margin losses over the triplets of a batch: max(0, d(a, p) − d(a, n) + margin), mined in several ways.

An anchor a is paired with a positive p of its class and a negative n of another. Where a batch holds no triplet the loss and its
gradient are 0. None needs the memory of all triplets.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_margin
from cnn_jax.losses.comparison import Miner, References, compare, distances_of, mean_over_anchors, spread_mean
from cnn_jax.losses.each_positive import at, sum_over_positives
from cnn_jax.losses.triplet_sums import hinge_sums
from cnn_jax.ops.arguments import check_flag, check_word
from cnn_jax.ops.distance import DistanceName, distance_by_name
from cnn_jax.ops.precision import result_type

TripletKind = Literal["all", "violating", "hard", "semi_hard", "easy"]  # which triplets of a batch a loss is over
_KINDS = ("all", "violating", "hard", "semi_hard", "easy")


def triplet_batch_all(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    margin: float = 0.05,
    distance: DistanceName = "euclidean",
) -> Float[Array, "b"]:
    """Returns each anchor's sum over its triplets with a loss above zero; the mean over the batch is the mean over all *active* triplets.

    The many satisfied triplets would drown the others (L_BA≠0 of the reference). Time is O(b² log b), memory O(b²).

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], or the margin is negative or not finite.

    Reference: Hermans et al., "In defense of the triplet loss", 2017, section 2.

    >>> triplet_batch_all(jnp.array([[0.0], [2.0], [3.0]]), jnp.array([0, 0, 1]), margin=0.5).mean().item()
    1.5
    """
    check_margin(margin)
    comparison = compare(embeddings, labels, where, references, miner)
    sums, counts = hinge_sums(distances_of(comparison, distance), comparison.positives, comparison.negatives, margin)
    return spread_mean(sums, counts, where).astype(result_type(embeddings))


def triplet_margin_loss(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    margin: float = 0.05,
    triplets: TripletKind = "all",
    mining_margin: float = 0.2,
    swap: bool = False,
    smooth: bool = False,
    distance: DistanceName = "euclidean",
) -> Float[Array, "b"]:
    """Returns each anchor's sum over triplets of one kind, scaled: the batch mean is the mean over those whose loss is above zero.

    With gap = d(a, n) − d(a, p), "violating" triplets have gap ≤ `mining_margin`, "hard" ones gap ≤ 0 besides, "semi_hard" ones gap > 0
    besides; "easy" ones have gap > `mining_margin`. Time is O(P·b²) for P positives an anchor, memory O(b²).

    Args:
      swap: take the nearer of d(a, n) and d(p, n) for the loss (not for the choice).
      smooth: log(1 + exp(d(a, p) − d(a, n) + margin)) instead of the hinge.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], a margin is negative or not finite, or the kind is unknown.

    Reference: PyTorch Metric Learning's TripletMarginLoss after its TripletMarginMiner. Balntas et al. 2016 for the swap.

    >>> x, labels = jnp.array([[0.0], [2.0], [3.0]]), jnp.array([0, 0, 1])
    >>> triplet_margin_loss(x, labels, margin=0.5, triplets="hard").mean().item()
    1.5
    """
    check_margin(margin)
    check_margin(mining_margin)
    check_word("triplets", triplets, _KINDS)
    check_flag("swap", swap)
    check_flag("smooth", smooth)
    comparison = compare(embeddings, labels, where, references, miner)
    compared = comparison.references if swap else comparison.anchors  # the swap asks for d(p, n) as well
    term = partial(_kind_of_triplet, margin, triplets, mining_margin, swap, smooth)
    matrix = distance_by_name(distance)(compared, comparison.references)
    sums, counts = sum_over_positives(term, matrix, comparison.positives, comparison.negatives.astype(matrix.dtype))
    return spread_mean(sums, counts, where).astype(result_type(embeddings))


def _kind_of_triplet(margin, kind, mining_margin, swap, smooth, matrix, indices, negatives):
    """Σ over the negatives of the losses of the kind of triplet, and the number of those above zero, for one positive an anchor."""
    distances = matrix[: len(indices)]
    positive = at(distances, indices)[:, None]
    gap = distances - positive
    chosen = {
        "all": jnp.ones(gap.shape, bool),
        "violating": gap <= mining_margin,
        "hard": (gap <= mining_margin) & (gap <= 0),
        "semi_hard": (gap <= mining_margin) & (gap > 0),
        "easy": gap > mining_margin,
    }[kind]
    violation = positive - (jnp.minimum(distances, matrix[indices]) if swap else distances) + margin
    losses = jax.nn.softplus(violation) if smooth else jnp.maximum(violation, 0)
    active = chosen & (negatives != 0) & ~(losses <= 0)
    return (jnp.where(active, losses, 0) * negatives).sum(1), jnp.where(active, negatives, 0).sum(1)


def triplet_batch_hard(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    margin: float = 0.2,
    smooth: bool = False,
    distance: DistanceName = "euclidean",
) -> Float[Array, "b"]:
    """Returns max(0, farthest positive − nearest negative + margin) for each anchor, averaged over anchors with both.

    Args:
      smooth: log(1 + exp(·)) instead of max(0, ·): the reference's soft margin, with margin 0.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], or the margin is negative or not finite.

    Reference: Hermans et al., "In defense of the triplet loss", 2017, equation 5.

    >>> triplet_batch_hard(jnp.array([[0.0], [2.0], [3.0]]), jnp.array([0, 0, 1]), margin=0.0).mean().item()
    0.5
    """
    check_margin(margin)
    check_flag("smooth", smooth)
    comparison = compare(embeddings, labels, where, references)
    distances = distances_of(comparison, distance)
    valid = comparison.positives.any(1) & comparison.negatives.any(1)
    farthest = jnp.max(distances, axis=1, where=comparison.positives, initial=-jnp.inf)
    nearest = jnp.min(distances, axis=1, where=comparison.negatives, initial=jnp.inf)
    violation = jnp.where(valid, farthest, 0) - jnp.where(valid, nearest, 0) + margin
    losses = jax.nn.softplus(violation) if smooth else jnp.maximum(violation, 0)
    return mean_over_anchors(losses, valid, where).astype(result_type(embeddings))


def triplet_semi_hard(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    margin: float = 0.2,
    distance: DistanceName = "euclidean",
) -> Float[Array, "b"]:
    """Returns the triplet loss with, for each (anchor, positive), the nearest negative that is farther than the positive.

    Where no negative is farther, the farthest one is taken, as in FaceNet's public implementations. Averaged over all
    (anchor, positive) pairs that have a negative. Time is O(b² log b), memory O(b²).

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], or the margin is negative or not finite.

    Reference: Schroff et al., "FaceNet", 2015, section 3.2.

    >>> triplet_semi_hard(jnp.array([[0.0], [2.0], [3.0]]), jnp.array([0, 0, 1]), margin=0.5).mean().item()
    0.75
    """
    check_margin(margin)
    comparison = compare(embeddings, labels, where, references)
    distances = distances_of(comparison, distance)
    chosen = jnp.take_along_axis(distances, next_farther(distances, comparison.negatives), axis=1)
    valid = comparison.positives & comparison.negatives.any(1, keepdims=True)
    losses = jnp.where(valid, jnp.maximum(distances - chosen + margin, 0), 0)
    return spread_mean(losses.sum(1), valid.sum(1), where).astype(result_type(embeddings))


def next_farther(distances: Float[Array, "b n"], negatives: Bool[Array, "b n"]) -> Array:
    """Returns for each entry [a, p] the index of the nearest negative of a that is farther than p; of the farthest, where none is.

    Without a gradient: it is a choice. An anchor without negatives is given any index.

    >>> next_farther(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[True, False, True]])).tolist()
    [[2, 2, 2]]
    """
    hidden = jnp.where(negatives, jax.lax.stop_gradient(distances), jnp.inf)
    order = jnp.argsort(hidden, axis=1)
    nearest = jnp.take_along_axis(hidden, order, axis=1)
    place = jax.vmap(partial(jnp.searchsorted, side="right"))(nearest, jax.lax.stop_gradient(distances))
    last = jnp.maximum(negatives.sum(1, keepdims=True) - 1, 0)
    return jnp.take_along_axis(order, jnp.minimum(place, last), axis=1)
