"""Distances and similarities between embeddings as matrices: each row of x against each row of y."""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.ops.arguments import check_array, check_number, check_whole, check_word
from cnn_jax.ops.precision import as_floats

DistanceFn = Callable[[Float[Array, "m e"], Float[Array, "n e"]], Float[Array, "m n"]]  # distances of all pairs of two batches
DistanceName = Literal["euclidean", "squared_euclidean", "manhattan", "cosine", "dot", "snr"]  # the names of `DISTANCES`


def squared_distances(x: Float[Array, "m e"], y: Float[Array, "n e"]) -> Float[Array, "m n"]:
    """Returns ‖x_i − y_j‖² for every pair, from ‖x‖² − 2·x·y + ‖y‖², and 0 where that is no more than its own rounding.

    Both sets are first shifted by the mean of x, which changes no distance and loses less to cancellation.

    Raises:
      ValueError: x and y are not rows [m, e] and [n, e].

    >>> squared_distances(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]])).tolist()
    [[25.0]]
    """
    _check_rows(x, y)
    centre = x.mean(axis=0, keepdims=True)
    x, y = x - centre, y - centre
    norms = jnp.square(x).sum(-1)[:, None] + jnp.square(y).sum(-1)[None, :]
    squares = norms - 2 * _products(x, y)
    rounding = (4 + x.shape[-1] ** 0.5 / 2) * jnp.finfo(squares.dtype).eps  # of copies the largest seen is two thirds of it, 8 ≤ e ≤ 2,048
    return jnp.where(squares <= rounding * norms, 0, squares)  # so that duplicates are at 0; NaN stays NaN


def euclidean_distances(x: Float[Array, "m e"], y: Float[Array, "n e"]) -> Float[Array, "m n"]:
    """Returns ‖x_i − y_j‖ for every pair, with gradient 0, not NaN, where the two coincide.

    Reference: torch's `cdist`.

    >>> euclidean_distances(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]])).tolist()
    [[5.0]]
    """
    return _safe_root(squared_distances(x, y), 2.0)


def lp_distances(x: Float[Array, "m e"], y: Float[Array, "n e"], *, p: float = 2.0) -> Float[Array, "m n"]:
    """Returns (Σ_e |x_ie − y_je|^p)^(1/p) for every pair, with gradient 0 where two coordinates or two rows coincide.

    The memory of all differences is m · n · e; `by_rows` needs less.

    Raises:
      ValueError: x and y are not rows [m, e] and [n, e], or p is below 1 or not finite.

    >>> lp_distances(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]]), p=1.0).tolist()
    [[7.0]]
    """
    _check_rows(x, y)
    check_number("p", p, lambda v: 1 <= v < math.inf, "finite and at least 1")
    differences = jnp.abs(x[:, None, :] - y[None, :, :])
    if p == 1:
        return differences.sum(-1)
    apart = differences != 0
    return _safe_root(jnp.where(apart, jnp.where(apart, differences, 1) ** p, 0).sum(-1), p)


def dot_products(x: Float[Array, "m e"], y: Float[Array, "n e"]) -> Float[Array, "m n"]:
    """Returns Σ_e x_ie · y_je for every pair.

    Raises:
      ValueError: x and y are not rows [m, e] and [n, e].

    >>> dot_products(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]])).tolist()
    [[11.0]]
    """
    _check_rows(x, y)
    return _products(x, y)


def cosine_similarities(x: Float[Array, "m e"], y: Float[Array, "n e"]) -> Float[Array, "m n"]:
    """Returns x_i·y_j / (‖x_i‖·‖y_j‖) for every pair; 0, with gradient 0, where either is the zero vector.

    Raises:
      ValueError: x and y are not rows [m, e] and [n, e].

    >>> cosine_similarities(jnp.array([[0.0, 2.0]]), jnp.array([[0.0, 3.0], [4.0, 0.0], [0.0, 0.0]])).tolist()
    [[1.0, 0.0, 0.0]]
    """
    _check_rows(x, y)
    return _products(unit_length(x), unit_length(y))


def snr_distances(x: Float[Array, "m e"], y: Float[Array, "n e"]) -> Float[Array, "m n"]:
    """Returns var(y_j − x_i) / var(x_i) over the coordinates, noise to signal; not symmetric. 0 where x_i does not vary beyond rounding.

    Raises:
      ValueError: x and y are not rows [m, e] and [n, e].

    Reference: Yuan et al., "Signal-to-noise ratio: a robust distance metric for deep metric learning", 2019.

    >>> snr_distances(jnp.array([[1.0, -1.0]]), jnp.array([[3.0, -3.0]])).tolist()
    [[4.0]]
    """
    _check_rows(x, y)
    largest = jnp.abs(x).max(-1, initial=0)[:, None]
    x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    signal = jnp.square(x).sum(-1)[:, None]
    noise = signal + jnp.square(y).sum(-1)[None, :] - 2 * _products(x, y)
    varies = signal > jnp.square(4 * jnp.finfo(x.dtype).eps * x.shape[-1] * largest)  # less is the rounding of the mean
    return jnp.where(varies, jnp.maximum(noise, 0) / jnp.where(varies, signal, 1), 0)


DISTANCES: dict[str, DistanceFn] = {
    "euclidean": euclidean_distances,
    "squared_euclidean": squared_distances,
    "manhattan": partial(lp_distances, p=1.0),
    "cosine": lambda x, y: 1 - cosine_similarities(x, y),
    "dot": lambda x, y: -dot_products(x, y),
    "snr": snr_distances,
}
"""Distances by name: the smaller, the more alike. Cosine is 1 − cos, dot is −x·y."""


def distance_by_name(name: str) -> DistanceFn:
    """Returns the distance of that name.

    Raises:
      ValueError: there is none; offers the nearest.

    >>> distance_by_name("cosin")
    Traceback (most recent call last):
    ValueError: distance='cosin' is unknown (did you mean cosine?): euclidean, squared_euclidean, manhattan, cosine, dot, snr
    """
    check_word("distance", name, DISTANCES)
    return DISTANCES[name]


def by_rows(distance_fn: DistanceFn, *, block: int = 256) -> DistanceFn:
    """Returns the same distance computed for `block` rows of x at a time, forwards and backwards.

    For those whose own memory is more than the matrix they give: the Lp distances of 4,096 rows of 128 take 8 GB at once.

    Raises:
      ValueError: `block` is no whole number of at least 1.

    >>> by_rows(partial(lp_distances, p=1.0), block=2)(jnp.zeros((3, 2)), jnp.ones((2, 2))).tolist()
    [[2.0, 2.0], [2.0, 2.0], [2.0, 2.0]]
    """
    check_whole("block", block)

    def blocked(x, y):
        row = jax.checkpoint(lambda row: distance_fn(row[None], y)[0])  # the differences are not kept for the gradient
        return lax.map(row, x, batch_size=block)

    return blocked


def unit_length(x: Float[Array, "*b e"], *, epsilon: float = 1e-12) -> Float[Array, "*b e"]:
    """Returns x / max(‖x‖, ε) along the last axis; a zero vector stays zero, with gradient zero.

    Half precision is computed with in float32. In float16 ε is at least 6e-5, its least normal number.

    Raises:
      ValueError: x has no axis, or ε is negative or not finite.

    Reference: torch's `normalize`, whose gradient at zero is 1/ε.

    >>> unit_length(jnp.array([3.0, 4.0])).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    check_array("x", x)
    check_number("epsilon", epsilon, lambda v: 0 <= v < math.inf, "finite and not negative")
    if x.ndim < 1:
        raise ValueError("x must be [*b, e], got shape ()")
    x = as_floats(x)
    epsilon = max(epsilon, float(jnp.finfo(x.dtype).tiny))
    wide = jnp.promote_types(x.dtype, jnp.float32)
    v = x.astype(wide)
    # Squares of what is beyond about the square root of the largest number would overflow. A power of two rounds nothing.
    exponent = int(jnp.finfo(wide).maxexp)
    large = exponent // 2 - 8
    largest = lax.stop_gradient(jnp.max(jnp.abs(v), axis=-1, keepdims=True, initial=0))
    v = v * jnp.where(largest > 2.0**large, 2.0 ** (large - exponent), 1).astype(wide)
    squares = jnp.square(v).sum(-1, keepdims=True)
    unit = (v / jnp.sqrt(jnp.maximum(squares, epsilon**2))).astype(x.dtype)
    return jnp.where(largest == 0, lax.stop_gradient(unit), unit)  # a step of 1/ε from zero would throw a network away


def _products(x: Array, y: Array) -> Array:
    # In full float32: an accelerator's faster products would drown distances below a tenth.
    return jnp.matmul(x, y.T, precision=lax.Precision.HIGHEST)


def _safe_root(sums: Array, p: float) -> Array:
    """sums^(1/p), with gradient 0 at 0."""
    coincide = sums == 0  # not "sums > 0", which would take NaN for 0
    safe = jnp.where(coincide, 1, sums)
    return jnp.where(coincide, 0, jnp.sqrt(safe) if p == 2 else safe ** (1 / p))


def _check_rows(x: Array, y: Array) -> None:
    for name, array in (("x", x), ("y", y)):
        check_array(name, array)
        if array.ndim != 2 or array.shape[1] != x.shape[-1]:
            raise ValueError(f"{name} must be [n, e], rows of one length e in x and y, got shapes {x.shape} and {jnp.shape(y)}")
