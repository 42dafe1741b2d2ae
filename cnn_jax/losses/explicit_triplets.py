"""The triplet loss on triplets that are given: row i of three arrays. Triplets mined from a batch are in `triplet.py`."""

import math
from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_rows, check_same_shape
from cnn_jax.losses.examples import per_example, read
from cnn_jax.losses.row_distances import row_distances
from cnn_jax.ops.arguments import check_flag, check_function, check_number


def triplet_margin(
    anchors: Float[Array, "b e"],
    positives: Array,
    negatives: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    margin: float = 1.0,
    p: float = 2.0,
    epsilon: float = 1e-6,
    swap: bool = False,
) -> Float[Array, "b"]:
    """Returns max(0, d(a, p) − d(a, n) + margin): positives are of the anchor's class, negatives of another. d is the p-norm of a − b + ε.

    torch's formula; thanks to ε the gradient is finite at coincident points.

    Args:
      swap: take the nearer of d(a, n) and d(p, n): the positive, if that is harder, plays the anchor.

    Raises:
      ValueError: p or the margin is not positive, or shapes differ.

    Reference: Balntas et al., "Learning local feature descriptors with triplets and shallow convolutional neural networks", 2016.

    >>> triplet_margin(jnp.array([[0.0]]), jnp.array([[2.0]]), jnp.array([[1.0]]), epsilon=0.0).tolist()
    [2.0]
    """
    distance_fn = partial(row_distances, p=p, epsilon=epsilon)
    return triplet_margin_with_distance(
        anchors, positives, negatives, distance_fn=distance_fn, where=where, margin=margin, swap=swap
    )


def triplet_margin_with_distance(
    anchors: Float[Array, "b e"],
    positives: Array,
    negatives: Array,
    *,
    distance_fn: Callable[[Array, Array], Array],
    where: Bool[Array, "b"] | None = None,
    margin: float = 1.0,
    swap: bool = False,
) -> Float[Array, "b"]:
    """Returns max(0, d(a, p) − d(a, n) + margin) for any distance: `distance_fn` of two [b, e] gives [b].

    Args:
      swap: take the nearer of d(a, n) and d(p, n).

    Raises:
      ValueError: the margin is not positive, or shapes differ.

    >>> city_block = lambda x, y: jnp.abs(x - y).sum(1)
    >>> triplet_margin_with_distance(jnp.zeros((1, 2)), jnp.ones((1, 2)), jnp.ones((1, 2)), distance_fn=city_block).tolist()
    [1.0]
    """
    check_number("margin", margin, lambda v: 0 < v < math.inf, "positive and finite")
    check_flag("swap", swap)
    check_function("distance_fn", distance_fn, "a function of two arrays [b, e] that gives [b]")
    check_rows("anchors", anchors, "[b, e]")
    check_same_shape(anchors=anchors, positives=positives, negatives=negatives)
    a, p, n = read("anchors", anchors, where), read("positives", positives, where), read("negatives", negatives, where)
    negative = distance_fn(a, n)
    if negative.shape != a.shape[:1]:
        raise ValueError(f"distance_fn gives {list(negative.shape)} for two arrays {list(a.shape)}: it must give {list(a.shape[:1])}")
    if swap:
        negative = jnp.minimum(negative, distance_fn(p, n))
    return per_example(jnp.maximum(distance_fn(a, p) - negative + margin, 0), where, anchors)
