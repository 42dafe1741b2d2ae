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

    >>> euclidean_distances(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]])).tolist()
    [[5.0]]
    """
    squares = squared_distances(x, y)
    apart = squares > 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1)), 0)


def unit_length(x: Float[Array, "*b e"], *, epsilon: float = 1e-12) -> Float[Array, "*b e"]:
    """Returns x / max(‖x‖, ε) along the last axis; a zero vector stays zero and its gradient finite.

    >>> unit_length(jnp.array([3.0, 4.0])).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    squares = jnp.square(x).sum(-1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(squares, epsilon**2))
