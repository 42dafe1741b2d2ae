"""Distances between embeddings as [b, b] matrices."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def squared_distances(x: Float[Array, "m e"], y: Float[Array, "n e"]) -> Float[Array, "m n"]:
    """Returns ‖x_i − y_j‖² for every pair, from ‖x‖² − 2·x·y + ‖y‖², clipped at zero.

    Both sets are first shifted by the mean of x, which changes no distance and loses less to cancellation.

    >>> squared_distances(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]])).tolist()
    [[25.0]]
    """
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
    apart = squares > 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1)), 0)


def unit_length(x: Float[Array, "*b e"], *, epsilon: float = 1e-12) -> Float[Array, "*b e"]:
    """Returns x / max(‖x‖, ε) along the last axis; a zero vector stays zero and its gradient finite.

    Half precision is computed with in float32. In float16 ε is at least 6e-5, its least normal number, so that the
    gradient of zero is finite there too.

    Reference: torch's `normalize`.

    >>> unit_length(jnp.array([3.0, 4.0])).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
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
