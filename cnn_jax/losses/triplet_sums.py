"""Sums of max(0, d(a, p) − d(a, n) + margin) over all triplets of a batch, exactly, in the memory of its pairs.

Few positives an anchor are gone through one by one (`each_positive.py`): O(b²·P). Many are found in the sorted negatives: the triplets
of a positive that have a loss are those whose negative is nearer than d(a, p) + margin, and prefix sums over the sorted negatives tell
how many they are and what they sum to: O(b² log b), whatever the number of positives.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.losses.each_positive import at, fold_positives

# Where sorting begins to be faster: measured with `benchmarks/triplets.py` on two cores, b = 256 to 4,096.
MOST_PASSES = 200
# Anchors sorted at a time: their sorted copies, some ten arrays [rows, n], are what the memory beside the distances is.
ROWS = 256


def hinge_sums(
    distances: Float[Array, "b n"], positives: Array, negatives: Array, margin: float
) -> tuple[Float[Array, "b"], Float[Array, "b"]]:
    """Returns (Σ of the losses, number of those above zero) over each anchor's triplets, differentiable by the distances.

    The number is a float, since it may pass 2³¹ for the whole batch. The derivative of a loss of exactly zero is 0.

    Args:
      positives: [b, n], booleans or weights; the triplet (a, p, n) counts positives[a, p] · negatives[a, n] times.
      negatives: [b, n], likewise.

    >>> sums, counts = hinge_sums(jnp.array([[1.0, 0.5, 3.0]]), jnp.array([[1, 0, 0]]), jnp.array([[0, 1, 1]]), 0.25)
    >>> sums.tolist(), counts.tolist()
    ([0.75], [1.0])
    """
    weights = positives.astype(distances.dtype), negatives.astype(distances.dtype)
    return _hinge_sums(distances, *weights, margin)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _hinge_sums(distances, positives, negatives, margin):
    return _with_gradient(distances, positives, negatives, margin)[:2]


def _forwards(distances, positives, negatives, margin):
    *sums, gradient = _with_gradient(distances, positives, negatives, margin)
    return tuple(sums), gradient


def _backwards(_, gradient, cotangents):
    # Each anchor's sum depends on its own row only.
    return gradient * cotangents[0][:, None], jnp.zeros_like(gradient), jnp.zeros_like(gradient)


_hinge_sums.defvjp(_forwards, _backwards)


def _with_gradient(distances, positives, negatives, margin):
    """Sums [b], numbers [b] and each sum's derivative by its row [b, n]; all three come from the same comparisons."""
    few = (positives != 0).sum(1).max(initial=0) <= MOST_PASSES
    return lax.cond(few, partial(_by_passes, margin), partial(_by_rows, partial(_sorted, margin)), distances, positives, negatives)


def _by_passes(margin, distances, positives, negatives):
    anchors, ones = jnp.arange(len(distances)), jnp.ones(distances.shape[1], distances.dtype)

    def add(indices, weights, carry):
        sums, by_negative, by_positive = carry
        losses = at(distances, indices)[:, None] - distances + margin
        active = (negatives != 0) & ~(losses <= 0) & (weights != 0)[:, None]  # not "losses > 0", which would take NaN for 0
        counted = jnp.where(active, negatives, 0)
        # Sums over a row wait for the end, or are products: element by element is ten times faster than a sum a pass.
        sums += jnp.where(active, losses, 0) * negatives * weights[:, None]
        by_negative += counted * weights[:, None]
        return sums, by_negative, by_positive.at[anchors, indices].add(counted @ ones * weights)

    nothing = jnp.zeros_like(distances)
    sums, by_negative, by_positive = fold_positives(positives, add, (nothing, nothing, nothing))
    return sums.sum(1), by_negative.sum(1), by_positive - by_negative


def _by_rows(row_fn, *arrays):
    return lax.map(lambda rows: row_fn(*rows), arrays, batch_size=ROWS)


def _sorted(margin, d, positives, negatives):
    """Of one anchor: [n] each. Negatives with d(a, n) < d(a, p) + margin come before place k_p of the sorted ones."""
    nearest, farthest = jnp.where(negatives != 0, d, jnp.inf), jnp.where(positives != 0, d + margin, -jnp.inf)
    by_nearness, by_farness = jnp.argsort(nearest), jnp.argsort(farthest)
    weights, nearest = negatives[by_nearness], nearest[by_nearness]
    num, total = _prefix_sums(weights), _prefix_sums(jnp.where(weights != 0, nearest, 0) * weights)
    k = jnp.searchsorted(nearest, d + margin, side="left")
    sums = jnp.where(positives != 0, (d + margin) * num[k] - total[k], 0)
    # A positive's derivative is the number of nearer negatives, a negative's that of farther positives.
    nearer = jnp.where(positives != 0, num[k], 0) * positives
    up_to = _prefix_sums(positives[by_farness])
    farther = up_to[-1] - up_to[jnp.searchsorted(farthest[by_farness], d, side="right")]
    return (jnp.maximum(sums, 0) * positives).sum(), nearer.sum(), nearer - negatives * farther


def _prefix_sums(x: Array) -> Array:
    """[0, x_0, x_0 + x_1, …]."""
    return jnp.pad(jnp.cumsum(x), (1, 0))
