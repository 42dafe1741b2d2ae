"""Distances and similarities between row i of one array and row i of another, for explicit pairs and triplets."""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.losses.checks import check_same_shape
from cnn_jax.ops.arguments import check_number
from cnn_jax.ops.precision import as_floats


def row_distances(x: Float[Array, "b e"], y: Array, *, p: float = 2.0, epsilon: float = 1e-6) -> Float[Array, "b"]:
    """Returns ‖x_i − y_i + ε‖_p for each row: torch's `pairwise_distance`, whose ε keeps the gradient finite at coincident points.

    Args:
      p: positive; inf for the largest difference.

    Raises:
      ValueError: p is not positive, or shapes differ.

    >>> row_distances(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]]), epsilon=0.0).tolist()
    [5.0]
    """
    check_number("p", p, lambda v: v > 0, "positive, or inf")
    check_number("epsilon", epsilon, math.isfinite, "finite")
    check_same_shape(x=x, y=y)
    x = as_floats(x)
    wide = jnp.promote_types(jnp.result_type(x, y), jnp.float32)
    difference = x.astype(wide) - y.astype(wide) + epsilon
    size = difference * jnp.sign(difference)  # jnp.abs has the derivative 1 at 0
    if p == 1:
        return size.sum(-1).astype(x.dtype)
    largest = size.max(-1, keepdims=True)
    if math.isinf(p):
        return largest[..., 0].astype(x.dtype)
    # Relative to the largest no power leaves the numbers' range. As a scale it is a constant: its derivative cancels.
    scale = lax.stop_gradient(jnp.where(largest > 0, largest, 1))
    ratio = size / scale
    powers = jnp.square(ratio) if p == 2 else jnp.where(ratio > 0, jnp.where(ratio > 0, ratio, 1) ** p, 0)
    total = powers.sum(-1)
    root = jnp.where(total > 0, jnp.where(total > 0, total, 1) ** (1 / p), 0)
    return (scale[..., 0] * root).astype(x.dtype)


def row_cosines(x: Float[Array, "b e"], y: Array, *, epsilon: float = 1e-12) -> Float[Array, "b"]:
    """Returns the cosine of the angle between rows, x_i·y_i / √((‖x_i‖² + ε)·(‖y_i‖² + ε)): 0 for a zero row, with a finite gradient.

    Raises:
      ValueError: shapes differ.

    Reference: torch's `cosine_embedding_loss`, which measures so.

    >>> row_cosines(jnp.array([[1.0, 0.0]]), jnp.array([[3.0, 4.0]])).round(6).tolist()
    [0.6000000238418579]
    """
    check_number("epsilon", epsilon, lambda v: 0 <= v < math.inf, "finite and not negative")
    check_same_shape(x=x, y=y)
    x = as_floats(x)
    wide = jnp.promote_types(jnp.result_type(x, y), jnp.float32)
    a, b = x.astype(wide), y.astype(wide)
    lengths = [lax.rsqrt(jnp.square(v).sum(-1) + epsilon) for v in (a, b)]
    return ((a * b).sum(-1) * lengths[0] * lengths[1]).astype(x.dtype)
