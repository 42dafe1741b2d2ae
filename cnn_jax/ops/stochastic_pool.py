"""Stochastic pooling: a window's value is drawn from the window, larger ones more often."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from cnn_jax.ops.chosen_tap import spread_choice
from cnn_jax.ops.padding import Padding, PerAxis
from cnn_jax.ops.precision import as_floats, result_type, widened
from cnn_jax.ops.random import example_keys
from cnn_jax.ops.windows import Walk, padded, sliding_windows, taps


@jax.named_scope("stochastic_pool")
def stochastic_pool(
    key: PRNGKeyArray,
    inputs: Float[Array, "b *space c"],
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    axis_name: str | None = None,
) -> Float[Array, "b *places c"]:
    """Returns one value of each window, drawn with probability a_i / Σ_j a_j; for training.

    Made for activations a ≥ 0, as after ReLU: what is negative is never drawn, and a window without a positive value gives 0. All
    gradient goes to the value drawn. For evaluation take `probability_weighted_pool`.

    Args:
      window, stride, padding, ceil_mode: as in `max_pool`.
      axis_name: the device axis, under pmap only: what is drawn depends on an example's place in the global batch.

    Raises:
      ValueError: as `max_pool`.

    Reference: Zeiler & Fergus, "Stochastic pooling for regularization of deep convolutional neural networks", 2013.

    >>> stochastic_pool(jax.random.key(0), jnp.array([0.0, 3.0, 0.0, -1.0]).reshape(1, 4, 1), 2)[0, :, 0].tolist()
    [3.0, 0.0]
    """
    windows = sliding_windows(inputs, window, stride=stride, padding=padding, ceil_mode=ceil_mode)
    inputs = padded(as_floats(inputs), windows.pads, 0.0)
    shape = (*windows.walk.places(inputs.shape[1:-1]), inputs.shape[-1])
    keys = example_keys(key, inputs.shape[0], axis_name=axis_name)
    shares = jax.vmap(functools.partial(jax.random.uniform, shape=shape))(keys)
    return _draw(inputs, shares, windows.walk)


@jax.named_scope("probability_weighted_pool")
def probability_weighted_pool(
    inputs: Float[Array, "b *space c"], window: PerAxis, *, stride: PerAxis | None = None, padding: Padding = 0, ceil_mode: bool = False
) -> Float[Array, "b *places c"]:
    """Returns the mean of what `stochastic_pool` draws, Σ a_i² / Σ a_i over the positive values, 0 where there is none.

    Args and Raises: as `max_pool`.

    Reference: Zeiler & Fergus, 2013, section 3.2.

    >>> probability_weighted_pool(jnp.array([1.0, 3.0, 0.0, -1.0]).reshape(1, 4, 1), 2)[0, :, 0].tolist()
    [2.5, 0.0]
    """
    windows = sliding_windows(inputs, window, stride=stride, padding=padding, ceil_mode=ceil_mode)
    wide = padded(widened(inputs), windows.pads, 0.0)
    values = taps(jax.nn.relu(wide), windows.walk)
    # Scaled by the largest value, which does not change the result (so no gradient need pass), the squares neither over- nor underflow.
    largest = lax.stop_gradient(functools.reduce(jnp.maximum, values))
    scale = jnp.where(largest == 0, 1, largest)
    shares = [value / scale for value in values]
    total = jnp.where(largest == 0, 1, sum(shares))
    return (scale * (sum(map(jnp.square, shares)) / total)).astype(result_type(inputs))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _draw(inputs: jax.Array, shares: jax.Array, walk: Walk) -> jax.Array:
    return _drawn(inputs, shares, walk)[0]


def _forward(inputs: jax.Array, shares: jax.Array, walk: Walk):
    value, choice = _drawn(inputs, shares, walk)
    return value, (choice, inputs[:0], shares)


def _backward(walk: Walk, residuals, cotangent: jax.Array):
    choice, empty, shares = residuals
    return spread_choice(choice, cotangent, walk, empty.shape[1:-1]), jnp.zeros_like(shares)


_draw.defvjp(_forward, _backward)


def _drawn(inputs: jax.Array, shares: jax.Array, walk: Walk) -> tuple[jax.Array, jax.Array]:
    """The value at which the running sum passes the share of the total, and the number of its tap, −1 where there is none."""
    values = taps(inputs, walk)
    weights = [jax.nn.relu(value).astype(shares.dtype) for value in values]
    wanted = shares * functools.reduce(jnp.add, weights)
    before = jnp.zeros_like(wanted)
    drawn, choice = jnp.zeros_like(values[0]), jnp.full(wanted.shape, -1, jnp.int32)
    for tap, (value, weight) in enumerate(zip(values, weights, strict=True)):
        reached = (weight > 0) & (before <= wanted)  # the last one that holds is the one: rounding cannot miss it
        drawn, choice = jnp.where(reached, value, drawn), jnp.where(reached, tap, choice)
        before = before + weight
    return jnp.where(before == before, drawn, before.astype(drawn.dtype)), choice  # a NaN is handed on
