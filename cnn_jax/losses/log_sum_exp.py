"""log Σ w·exp(v) over a set that may be empty: what smooth maxima, softmax ratios and log(1 + Σ exp) over pairs are made of."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.losses.checks import check_same_shape


def log_sum_exp(values: Float[Array, "*b n"], weights: Array) -> Float[Array, "*b"]:
    """Returns log Σ_n w_n·exp(v_n) over the last axis; −∞, with gradient 0, where nothing counts.

    What has weight 0 is left out, whatever its value. `jax.nn.softplus` of it is log(1 + Σ w·exp(v)), which is 0 of nothing.

    Args:
      weights: booleans, or how often each value counts, not negative. Without gradient.

    Raises:
      ValueError: values and weights differ in shape.

    >>> jnp.exp(log_sum_exp(jnp.log(jnp.array([1.0, 2.0, 9.0])), jnp.array([2, 3, 0]))).round(4).item()
    8.0
    >>> log_sum_exp(jnp.array([1.0]), jnp.array([False])).item()
    -inf
    """
    check_same_shape(values=values, weights=weights)
    hidden = jnp.where(weights != 0, values, -jnp.inf)
    largest = lax.stop_gradient(hidden.max(axis=-1, keepdims=True, initial=-jnp.inf))
    largest = jnp.where(jnp.isfinite(largest), largest, 0)  # −∞ − −∞ would be NaN; a NaN among the values shows in the sum
    sums = (jnp.exp(hidden - largest) * lax.stop_gradient(weights).astype(values.dtype)).sum(-1)
    empty = sums == 0
    return jnp.where(empty, -jnp.inf, jnp.log(jnp.where(empty, 1, sums)) + largest[..., 0])
