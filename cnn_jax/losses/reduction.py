"""How per-example losses become one number."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def masked_mean(values: Float[Array, "b"], where: Bool[Array, "b"] | None = None) -> Float[Array, ""]:
    """Returns the mean of the values that count; 0, with zero gradient, where none does.

    >>> masked_mean(jnp.array([1.0, 5.0]), jnp.array([True, False])).item()
    1.0
    """
    if where is None:
        where = jnp.ones(values.shape, bool)
    return jnp.where(where, values, 0).sum() / jnp.maximum(where.sum(), 1)
