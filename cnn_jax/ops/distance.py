"""Distances between embeddings as [b, b] matrices."""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.ops.arguments import check_array, check_number
from cnn_jax.ops.precision import as_floats


def squared_distances(x: Float[Array, "m e"], y: Float[Array, "n e"]) -> Float[Array, "m n"]:
    """Returns ‖x_i − y_j‖² for every pair, from ‖x‖² − 2·x·y + ‖y‖², clipped at zero.

    Both sets are first shifted by the mean of x, which changes no distance and loses less to cancellation.

    Raises:
      ValueError: x and y are not rows [m, e] and [n, e].

    >>> squared_distances(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]])).tolist()
    [[25.0]]
    """
    for name, array in (("x", x), ("y", y)):
        check_array(name, array)
        if array.ndim != 2 or array.shape[1] != x.shape[-1]:
            raise ValueError(f"{name} must be [n, e], rows of one length e in x and y, got shapes {x.shape} and {jnp.shape(y)}")
    centre = x.mean(axis=0, keepdims=True)
    x, y = x - centre, y - centre
    # In full float32: an accelerator's faster products would drown distances below a tenth.
    products = jnp.matmul(x, y.T, precision=lax.Precision.HIGHEST)
    squares = jnp.square(x).sum(-1)[:, None] + jnp.square(y).sum(-1)[None, :] - 2 * products
    return jnp.maximum(squares, 0)


def euclidean_distances(x: Float[Array, "m e"], y: Float[Array, "n e"]) -> Float[Array, "m n"]:
    """Returns ‖x_i − y_j‖ for every pair, with gradient 0, not NaN, where the two coincide.

    Reference: torch's `cdist`.

    >>> euclidean_distances(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]])).tolist()
    [[5.0]]
    """
    squares = squared_distances(x, y)
    coincide = squares == 0  # not "squares > 0", which would take NaN for 0
    return jnp.where(coincide, 0, jnp.sqrt(jnp.where(coincide, 1, squares)))


def unit_length(x: Float[Array, "*b e"], *, epsilon: float = 1e-12) -> Float[Array, "*b e"]:
    """Returns x / max(‖x‖, ε) along the last axis; a zero vector stays zero and its gradient finite.

    Half precision is computed with in float32. In float16 ε is at least 6e-5, its least normal number, so that the
    gradient of zero is finite there too.

    Raises:
      ValueError: x has no axis, or ε is negative or not finite.

    Reference: torch's `normalize`.

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
    return (v / jnp.sqrt(jnp.maximum(squares, epsilon**2))).astype(x.dtype)
