"""Losses on pairs that are given: row i of one array with row i of another, or their distances. `row_distances.py` measures those.

Each has its own polarity, which its first line tells. Pairs mined from a batch are in `contrastive.py` and `ranking.py`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_margin, check_rows, check_same_shape, described, signs
from cnn_jax.losses.examples import hide, per_example, read
from cnn_jax.losses.row_distances import row_cosines
from cnn_jax.ops.arguments import check_array, check_number, check_values
from cnn_jax.ops.precision import result_type


def contrastive_pair(
    distances: Float[Array, "*n"], same: Array, *, where: Bool[Array, "*n"] | None = None, margin: float = 1.0
) -> Float[Array, "*n"]:
    """Returns ½·d² for pairs of the same class (`same` True) and ½·max(0, margin − d)² for others (`same` False), a value a pair.

    Note the polarity: the paper's Y is 0 for a similar pair; here True means similar.

    Raises:
      ValueError: `same` is not boolean, a distance is negative (not noticed under jit), the margin is negative or not finite, or shapes
        differ.

    Reference: Hadsell et al., "Dimensionality reduction by learning an invariant mapping", 2006, equation 4.

    >>> contrastive_pair(jnp.array([0.5, 0.5]), jnp.array([True, False])).tolist()
    [0.125, 0.125]
    """
    check_margin(margin)
    check_same_shape(distances=distances, same=same)
    if same.dtype != jnp.bool_:  # 0 and 1 could be the paper's, the other way round
        raise ValueError(f"same {described(same)} must be bool: True for a pair of one class")
    d = read("distances", distances, where)
    check_values("distances", d, lambda v: ~(v < 0), "not negative")
    values = 0.5 * jnp.where(same, jnp.square(d), jnp.square(jnp.maximum(margin - d, 0)))
    return hide(values, where).astype(distances.dtype)


def hinge_embedding(
    distances: Float[Array, "b *n"], targets: Array, *, where: Bool[Array, "b"] | None = None, margin: float = 1.0
) -> Float[Array, "b"]:
    """Returns d where the target is +1 (similar) and max(0, margin − d) where it is −1 (dissimilar); torch's formula.

    Raises:
      ValueError: a target is neither +1 nor −1 (under jit: NaN), or shapes differ.

    >>> hinge_embedding(jnp.array([0.25, 0.25]), jnp.array([1, -1])).tolist()
    [0.25, 0.75]
    """
    check_number("margin", margin, math.isfinite, "finite")
    check_same_shape(distances=distances, targets=targets)
    d = read("distances", distances, where)
    t = signs("targets", hide(targets, where, fill=1.0), d.dtype)
    return per_example(_by_sign(t, d, jnp.maximum(margin - d, 0)), where, distances)


def cosine_embedding(
    first: Float[Array, "b e"],
    second: Array,
    targets: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    margin: float = 0.0,
) -> Float[Array, "b"]:
    """Returns 1 − cos where the target is +1 (similar) and max(0, cos − margin) where it is −1 (dissimilar); torch's formula.

    Args:
      margin: from −1 to 1; the paper on torch's side suggests 0 to 0.5.

    Raises:
      ValueError: the margin lies outside [−1, 1], a target is neither +1 nor −1 (under jit: NaN), or shapes differ.

    >>> cosine_embedding(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]]), jnp.array([1])).tolist()
    [1.0]
    """
    check_number("margin", margin, lambda v: -1 <= v <= 1, "from -1 to 1")
    check_rows("first", first, "[b, e]")
    check_same_shape(first=first, second=second)
    check_same_shape(first=first[:, 0], targets=targets)
    cosines = row_cosines(read("first", first, where), read("second", second, where))
    t = signs("targets", hide(targets, where, fill=1.0), cosines.dtype)
    return per_example(_by_sign(t, 1 - cosines, jnp.maximum(cosines - margin, 0)), where, first)


def margin_ranking_pair(
    first: Float[Array, "..."],
    second: Array,
    order: Array | int,
    *,
    where: Bool[Array, "..."] | None = None,
    margin: float = 0.0,
) -> Float[Array, "..."]:
    """Returns max(0, −order·(first − second) + margin), a value a pair; torch's formula.

    `order` is +1 where the first should score higher, −1 where the second should; 1 alone serves all. Shapes may be any that broadcast.

    Args:
      where: of the values' shape.

    Raises:
      ValueError: an order is neither +1 nor −1 (under jit: NaN), or shapes do not broadcast.

    >>> margin_ranking_pair(jnp.array([1.0, 1.0]), jnp.array([3.0, 3.0]), jnp.array([1, -1])).tolist()
    [2.0, 0.0]
    """
    check_number("margin", margin, math.isfinite, "finite")
    order = order if isinstance(order, jax.Array) else np.asarray(order)
    for name, array in (("first", first), ("second", second), ("order", order)):
        check_array(name, array)
    shapes = first.shape, second.shape, order.shape
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        shown = "first {}, second {} and order {}".format(*map(list, shapes))
        raise ValueError(f"{shown} must have shapes that broadcast") from None
    ahead = hide(jnp.broadcast_to(read("first", first) - read("second", second), shape), where)
    sign = signs("order", hide(jnp.broadcast_to(order, shape), where, fill=1.0), ahead.dtype)
    return hide(jnp.maximum(-sign * ahead + margin, 0), where).astype(result_type(first))


def _by_sign(t: Array, similar: Array, dissimilar: Array) -> Array:
    """NaN where t is, which is neither."""
    return jnp.where(t == 1, similar, jnp.where(t == -1, dissimilar, jnp.nan))
