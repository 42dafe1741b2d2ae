"""Miners: which pairs of a comparison a loss reads, and how often. `f(comparison, *, <options>) -> Comparison`, without gradient.

Bind a miner's options with `functools.partial` and hand it to a loss as `miner=`. Some choose pairs. Others choose triplets
(a, p, n), and then a pair counts as often as it is in a chosen one: losses over pairs read exactly the chosen triplets, but to losses
over triplets a triplet counts positives[a, p] · negatives[a, n] times, so that one of chosen pairs counts though it was not chosen
itself. An anchor of which nothing is chosen is left without pairs.
"""

import math
from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_margin
from cnn_jax.losses.comparison import Comparison, distances_of, similarities_of
from cnn_jax.losses.each_positive import at, fold_positives
from cnn_jax.losses.triplet import next_farther
from cnn_jax.ops.arguments import check_number, check_word
from cnn_jax.ops.distance import DistanceName, euclidean_distances, unit_length


def batch_hard(comparison: Comparison, *, distance: DistanceName = "euclidean") -> Comparison:
    """Returns the farthest positive and the nearest negative of each anchor that has both; of equal ones the first.

    Raises:
      ValueError: the distance is unknown.

    Reference: Hermans et al., "In defense of the triplet loss", 2017. PyTorch Metric Learning's BatchHardMiner.

    >>> from cnn_jax.losses.comparison import compare
    >>> mined = batch_hard(compare(jnp.array([[0.0], [1.0], [3.0], [5.0]]), jnp.array([0, 0, 0, 1]), None))
    >>> mined.positives.astype(int).tolist()
    [[0, 0, 1, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    """
    d = _distances(comparison, distance)
    return _narrowed(comparison, _largest(d, comparison.positives), _largest(-d, comparison.negatives))


def easy_positive(
    comparison: Comparison, *, negatives: Literal["hard", "semi_hard"] = "semi_hard", distance: DistanceName = "euclidean"
) -> Comparison:
    """Returns the nearest positive of each anchor and its nearest negative, "semi_hard": the nearest that is farther than this positive.

    An anchor that lacks one of the two is left without pairs. Only near positives are drawn together, so that a class may fall into
    several groups.

    Raises:
      ValueError: the kind of negatives or the distance is unknown.

    Reference: Xuan et al., "Improved embeddings with easy positive triplet mining", 2020. PyTorch Metric Learning's BatchEasyHardMiner.

    >>> from cnn_jax.losses.comparison import compare
    >>> mined = easy_positive(compare(jnp.array([[0.0], [1.0], [3.0], [5.0]]), jnp.array([0, 0, 0, 1]), None))
    >>> mined.positives.astype(int).tolist()
    [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    check_word("negatives", negatives, ("hard", "semi_hard"))
    d = _distances(comparison, distance)
    nearest = _largest(-d, comparison.positives)
    farther = d > jnp.min(d, axis=1, where=comparison.positives != 0, initial=jnp.inf, keepdims=True)
    allowed = comparison.negatives != 0
    return _narrowed(comparison, nearest, _largest(-d, allowed & farther if negatives == "semi_hard" else allowed))


def semi_hard(comparison: Comparison, *, margin: float = 0.2, distance: DistanceName = "euclidean") -> Comparison:
    """Returns for each (anchor, positive) the nearest negative that is farther, if it is so by no more than the margin.

    Raises:
      ValueError: the margin is negative or not finite, or the distance is unknown.

    Reference: Schroff et al., "FaceNet", 2015, section 3.2. PyTorch Metric Learning's TripletMarginMiner takes *all* such negatives.

    >>> from cnn_jax.losses.comparison import compare
    >>> mined = semi_hard(compare(jnp.array([[0.0], [1.0], [3.0], [4.0]]), jnp.array([0, 0, 0, 1]), None), margin=2.0)
    >>> mined.negatives.astype(int).tolist()
    [[0, 0, 0, 1], [0, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    check_margin(margin)
    d = _distances(comparison, distance)
    indices = next_farther(d, comparison.negatives != 0)
    gap = jnp.take_along_axis(d, indices, axis=1) - d
    has = (comparison.negatives != 0).any(1, keepdims=True)
    chosen = _narrow(comparison.positives, has & (gap > 0) & (gap <= margin)).astype(d.dtype)
    weights = comparison.negatives.astype(d.dtype)
    counts = jnp.zeros_like(d).at[jnp.arange(len(d))[:, None], indices].add(chosen)
    return comparison._replace(positives=chosen * jnp.take_along_axis(weights, indices, axis=1), negatives=counts * weights)


def multi_similarity(comparison: Comparison, *, epsilon: float = 0.1) -> Comparison:
    """Returns each anchor's positives that are hardly more similar than a negative, and negatives hardly less than a positive.

    "Hardly": their cosines to the anchor differ by less than ε.

    Raises:
      ValueError: ε is not finite.

    Reference: Wang et al., "Multi-similarity loss with general pair weighting", 2019, equations 11 and 12.

    >>> from cnn_jax.losses.comparison import compare
    >>> x = jnp.array([[1.0, 0.0], [0.6, 0.8], [1.0, 0.1], [-1.0, 0.0]])
    >>> mined = multi_similarity(compare(x, jnp.array([0, 0, 1, 1]), None))
    >>> mined.negatives[0].astype(int).tolist()  # the other one is farther than the positive
    [0, 0, 1, 0]
    """
    check_number("epsilon", epsilon, math.isfinite, "finite")
    s = lax.stop_gradient(similarities_of(comparison))
    most = jnp.max(s, axis=1, where=comparison.negatives != 0, initial=-jnp.inf, keepdims=True)
    least = jnp.min(s, axis=1, where=comparison.positives != 0, initial=jnp.inf, keepdims=True)
    return comparison._replace(
        positives=_narrow(comparison.positives, s - epsilon < most), negatives=_narrow(comparison.negatives, s + epsilon > least)
    )


def pair_margin(
    comparison: Comparison, *, positive_margin: float = 0.2, negative_margin: float = 0.8, distance: DistanceName = "euclidean"
) -> Comparison:
    """Returns positives farther than one margin and negatives nearer than another.

    Raises:
      ValueError: a margin is negative or not finite, or the distance is unknown.

    Reference: PyTorch Metric Learning's PairMarginMiner.

    >>> from cnn_jax.losses.comparison import compare
    >>> mined = pair_margin(compare(jnp.array([[0.0], [0.1], [0.5]]), jnp.array([0, 0, 1]), None))
    >>> mined.positives.any().item(), mined.negatives.astype(int).tolist()
    (False, [[0, 0, 1], [0, 0, 1], [1, 1, 0]])
    """
    check_margin(positive_margin, "positive_margin")
    check_margin(negative_margin, "negative_margin")
    d = _distances(comparison, distance)
    return comparison._replace(
        positives=_narrow(comparison.positives, d > positive_margin), negatives=_narrow(comparison.negatives, d < negative_margin)
    )


def distance_weighted(comparison: Comparison, *, cutoff: float = 0.5, nonzero_loss_cutoff: float = 1.4) -> Comparison:
    """Returns all positives once, and negatives as often as they would be sampled, on average, if each positive drew one.

    A negative is drawn with probability ∝ 1/q(d), q(d) ∝ d^(e−2)·(1 − d²/4)^((e−3)/2) being the density of distances between points
    spread evenly over the sphere: near and far ones equally often. Distances are those of unit-length embeddings; those below `cutoff`
    count as `cutoff`, and negatives at `nonzero_loss_cutoff` or farther are never drawn. An anchor without one nearer, or without a
    positive, is left without pairs. Nothing is random: these are the expected counts, which sum to the anchor's positives.

    Raises:
      ValueError: not 0 < cutoff < nonzero_loss_cutoff ≤ 2.

    Reference: Wu et al., "Sampling matters in deep embedding learning", 2017, section 4. PyTorch Metric Learning's DistanceWeightedMiner.

    >>> from cnn_jax.losses.comparison import compare
    >>> x = jnp.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 1.0, 0.0]])
    >>> distance_weighted(compare(x, jnp.array([0, 0, 1, 1]), None)).negatives.round(2).tolist()[0]  # √2 is beyond 1.4
    [0.0, 0.0, 1.0, 0.0]
    """
    check_number("nonzero_loss_cutoff", nonzero_loss_cutoff, lambda v: 0 < v <= 2, "above 0 and at most 2")
    check_number("cutoff", cutoff, lambda v: 0 < v < nonzero_loss_cutoff, f"above 0 and below nonzero_loss_cutoff={nonzero_loss_cutoff}")
    d = lax.stop_gradient(euclidean_distances(unit_length(comparison.anchors), unit_length(comparison.references)))
    e = comparison.anchors.shape[1]
    drawn = (comparison.negatives != 0) & (d < nonzero_loss_cutoff)
    clipped = jnp.where(drawn, jnp.maximum(d, cutoff), cutoff)  # what is not drawn may lie beyond 2, where there is no logarithm
    logs = (2 - e) * jnp.log(clipped) - (e - 3) / 2 * jnp.log1p(-jnp.square(clipped) / 4)
    largest = jnp.max(logs, axis=1, where=drawn, initial=-jnp.inf, keepdims=True)
    weights = jnp.where(drawn, jnp.exp(logs - jnp.where(drawn, largest, 0)), 0) * comparison.negatives.astype(d.dtype)
    total = weights.sum(1, keepdims=True)
    kept = _narrow(comparison.positives, total > 0)
    return comparison._replace(positives=kept, negatives=weights / jnp.where(total > 0, total, 1) * kept.sum(1, keepdims=True))


def angular(comparison: Comparison, *, angle: float = 20.0) -> Comparison:
    """Returns the triplets with tan⁻¹(‖x_a − x_p‖ / (2·‖x_n − (x_a + x_p)/2‖)) above an angle in degrees.

    Seen from such a negative, anchor and positive lie far apart. Embeddings are taken as they are, of unit length or not.
    Time is O(P·b²·e) for P positives an anchor, memory O(b²).

    Raises:
      ValueError: the angle is not from 0 to below 90 degrees.

    Reference: Wang et al., "Deep metric learning with angular loss", 2017. PyTorch Metric Learning's AngularMiner.

    >>> from cnn_jax.losses.comparison import compare
    >>> x, labels = jnp.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.5], [0.0, 9.0]]), jnp.array([0, 0, 1, 1])
    >>> angular(compare(x, labels, None)).negatives[0].astype(int).tolist()
    [0, 0, 1, 0]
    """
    check_number("angle", angle, lambda v: 0 <= v < 90, "from 0 to below 90 degrees")
    anchors, references = lax.stop_gradient((comparison.anchors, comparison.references))
    d = _distances(comparison, "euclidean")

    def wide(indices):
        heights = euclidean_distances((anchors + references[indices]) / 2, references)
        return at(d, indices)[:, None] > 2 * math.tan(math.radians(angle)) * heights

    return _triplets(comparison, wide, d.dtype)


def _triplets(comparison: Comparison, chosen: Callable, dtype) -> Comparison:
    """Of triplets: `chosen(indices [b] of one positive an anchor)` tells [b, n] which negatives make one with it."""
    rows, negatives = jnp.arange(len(comparison.anchors)), comparison.negatives.astype(dtype)

    def add(indices, weights, counts):
        found = jnp.where(chosen(indices), negatives, 0)
        return counts[0].at[rows, indices].add(weights * found.sum(1)), counts[1] + weights[:, None] * found

    empty = jnp.zeros(negatives.shape, dtype)
    positives, negatives = fold_positives(comparison.positives.astype(dtype), add, (empty, empty))
    return comparison._replace(positives=positives, negatives=negatives)


def _distances(comparison: Comparison, distance: str) -> Float[Array, "b n"]:
    return lax.stop_gradient(distances_of(comparison, distance))


def _largest(values: Float[Array, "b n"], weights: Array) -> Bool[Array, "b n"]:
    """The place of each row's largest value among those that count; none, where none does."""
    counted = weights != 0
    first = jnp.argmax(jnp.where(counted, values, -jnp.inf), axis=1)
    return counted & (jnp.arange(values.shape[1])[None, :] == first[:, None])


def _narrowed(comparison: Comparison, positives: Bool[Array, "b n"], negatives: Bool[Array, "b n"]) -> Comparison:
    """Of the chosen ones, those of anchors that have both."""
    both = positives.any(1, keepdims=True) & negatives.any(1, keepdims=True)
    return comparison._replace(
        positives=_narrow(comparison.positives, positives & both), negatives=_narrow(comparison.negatives, negatives & both)
    )


def _narrow(weights: Array, chosen: Bool[Array, "b n"]) -> Array:
    return jnp.where(chosen, weights, jnp.zeros((), weights.dtype))
