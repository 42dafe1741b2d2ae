"""Pooling over windows and over all space, channels last, in one to three dimensions."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax


def max_pool(inputs: jax.Array, window: int | Sequence[int], *, stride: int | Sequence[int] | None = None, padding: int = 0) -> jax.Array:
    """Returns the maximum of each window; padded positions never win. `stride` defaults to the window.

    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """
    return lax.reduce_window(inputs, -jnp.inf, lax.max, *_geometry(inputs, window, stride, padding))


def average_pool(
    inputs: jax.Array, window: int | Sequence[int], *, stride: int | Sequence[int] | None = None, padding: int = 0
) -> jax.Array:
    """Returns the mean of each window, padded zeros counted (torch's `count_include_pad=True`).

    >>> average_pool(jnp.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    geometry = _geometry(inputs, window, stride, padding)
    return lax.reduce_window(inputs, 0.0, lax.add, *geometry) / jnp.prod(jnp.array(geometry[0])).astype(inputs.dtype)


def global_average_pool(inputs: jax.Array) -> jax.Array:
    """Returns the mean over all spatial axes, [b, *space, c] -> [b, c]."""
    return inputs.mean(axis=tuple(range(1, inputs.ndim - 1)))


def _geometry(inputs: jax.Array, window, stride, padding: int):
    num_space = inputs.ndim - 2
    window = (window,) * num_space if isinstance(window, int) else tuple(window)
    stride = window if stride is None else (stride,) * num_space if isinstance(stride, int) else tuple(stride)
    pads = ((0, 0), *((padding, padding),) * num_space, (0, 0))
    return (1, *window, 1), (1, *stride, 1), pads
