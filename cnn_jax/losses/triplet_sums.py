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

from cnn_jax.losses.each_positive import at, sum_over_positives

# Where sorting begins to be faster: measured with `benchmarks/triplets.py` on two cores, b = 256 to 4,096.
MOST_PASSES = 96
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
    few = (positives != 0).sum(1).max(initial=0) <= MOST_PASSES
    return lax.cond(few, partial(_by_passes, margin), partial(_by_rows, partial(_sorted_sums, margin)), distances, positives, negatives)


def _forwards(distances, positives, negatives, margin):
    return _hinge_sums(distances, positives, negatives, margin), (distances, positives, negatives)


def _backwards(margin, residuals, cotangents):
    _, positives, negatives = residuals
    few = (positives != 0).sum(1).max(initial=0) <= MOST_PASSES
    gradient = lax.cond(few, partial(_gradient_by_passes, margin), partial(_by_rows, partial(_sorted_gradient, margin)), *residuals)
    # Each anchor's sum depends on its own row only.
    return gradient * cotangents[0][:, None], jnp.zeros_like(positives), jnp.zeros_like(negatives)


_hinge_sums.defvjp(_forwards, _backwards)


def _term(margin, distances, indices, negatives):
    losses = at(distances, indices)[:, None] - distances + margin
    active = (negatives != 0) & ~(losses <= 0)  # not "losses > 0", which would take NaN for 0
    return (jnp.where(active, losses, 0) * negatives).sum(1), jnp.where(active, negatives, 0).sum(1)


def _by_passes(margin, distances, positives, negatives):
    return sum_over_positives(partial(_term, margin), distances, positives, negatives)


def _gradient_by_passes(margin, distances, positives, negatives):
    return jax.grad(lambda d: _by_passes(margin, d, positives, negatives)[0].sum())(distances)


def _by_rows(row_fn, *arrays):
    return lax.map(lambda rows: row_fn(*rows), arrays, batch_size=ROWS)


def _sorted_sums(margin, d, positives, negatives):
    """Of one anchor: [n] each. Negatives with d(a, n) < d(a, p) + margin come before place k_p of the sorted ones."""
    order = jnp.argsort(jnp.where(negatives != 0, d, jnp.inf))
    weights, nearest = negatives[order], jnp.where(negatives != 0, d, jnp.inf)[order]
    num, total = _prefix_sums(weights), _prefix_sums(jnp.where(weights != 0, nearest, 0) * weights)
    k = jnp.searchsorted(nearest, d + margin, side="left")
    sums = jnp.where(positives != 0, (d + margin) * num[k] - total[k], 0)
    return (jnp.maximum(sums, 0) * positives).sum(), jnp.where(positives != 0, num[k] * positives, 0).sum()


def _sorted_gradient(margin, d, positives, negatives):
    """Of one anchor's sum: + the number of nearer negatives for a positive, − that of farther positives for a negative."""
    nearest, farthest = jnp.where(negatives != 0, d, jnp.inf), jnp.where(positives != 0, d + margin, -jnp.inf)
    by_negative, by_positive = jnp.argsort(nearest), jnp.argsort(farthest)
    nearer = _prefix_sums(negatives[by_negative])[jnp.searchsorted(nearest[by_negative], d + margin, side="left")]
    up_to = _prefix_sums(positives[by_positive])
    farther = up_to[-1] - up_to[jnp.searchsorted(farthest[by_positive], d, side="right")]
    return positives * jnp.where(positives != 0, nearer, 0) - negatives * farther


def _prefix_sums(x: Array) -> Array:
    """[0, x_0, x_0 + x_1, …]."""
    return jnp.pad(jnp.cumsum(x), (1, 0))
