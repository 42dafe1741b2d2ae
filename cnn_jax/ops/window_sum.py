"""The sum of each window, by XLA or as an operation of jax that the extension may compute, whose derivative is itself."""

from functools import partial

import jax
import numpy as np
from jax import lax
from jax.interpreters import ad
from jaxtyping import Array, Float

from cnn_jax.ops import extension
from cnn_jax.ops.native_conv import Geometry
from cnn_jax.ops.window_operation import window_operation
from cnn_jax.ops.windows import Walk, Windows, padded, taps


def window_sum(inputs: Float[Array, "b *space c"], windows: Windows, divisor: float = 1.0) -> Float[Array, "b *places c"]:
    """Returns the sum of each window over a number; padding counts as zeros.

    >>> import jax.numpy as jnp
    >>> window_sum(jnp.arange(5.0).reshape(1, 5, 1), Windows(Walk((3,), (2,), (1,)), ((1, 0),), ((1, 0),))).ravel().tolist()
    [1.0, 6.0]
    """
    window, stride, dilation = windows.walk
    geometry = Geometry(inputs.shape[1:-1], window, stride, tuple(windows.pads), (1,) * len(window), dilation)
    return (_sum.bind if extension.takes(inputs) else _by_xla)(inputs, geometry=geometry, divisor=float(divisor))


def _by_xla(inputs: jax.Array, *, geometry: Geometry, divisor: float) -> jax.Array:
    return _sums(inputs, geometry) / divisor


def _sums(inputs: jax.Array, geometry: Geometry) -> jax.Array:
    walk = Walk(geometry.window, geometry.stride, geometry.dilation)
    inputs = padded(inputs, geometry.pads, 0.0)
    b, *space, c = inputs.shape
    if walk.window == tuple(space):  # a plain sum, which is twice as fast
        return inputs.reshape(b, -1, c).sum(1).reshape(b, *(1,) * len(space), c)
    if walk.few:
        return sum(taps(inputs, walk))
    window, stride, dilation = ((1, *field, 1) for field in walk)
    return lax.reduce_window(inputs, np.zeros((), inputs.dtype), lax.add, window, stride, "VALID", window_dilation=dilation)


def _transpose(cotangent: jax.Array, inputs, **options) -> list[jax.Array]:
    return list(jax.linear_transpose(partial(_by_xla, **options), inputs.aval)(cotangent))


_sum = window_operation("window_sum", _by_xla, of_positions=True, by_extension=extension.sum_pool)
ad.deflinear2(_sum, _transpose)
