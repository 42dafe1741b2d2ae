"""The maximum of each window and its gradient as operations of jax, for where the extension is loaded.

The maximum keeps no choice: its gradient finds the chosen taps anew, from the inputs. The gradient is linear in its cotangent, as is its
transpose, which picks what the chosen taps see, so derivatives of any order are made of these three.
"""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad
from jaxtyping import Array, Float, Shaped

from cnn_jax.ops import extension
from cnn_jax.ops.apart import apart
from cnn_jax.ops.chosen_tap import choose, lowest, pick_choice, spread_choice
from cnn_jax.ops.native_conv import Geometry
from cnn_jax.ops.window_operation import window_operation
from cnn_jax.ops.windows import Walk, in_whole_strides, padded


def window_maximum(inputs: Float[Array, "b *space c"], geometry: Geometry) -> Float[Array, "b *positions c"]:
    """Returns the maximum of each window. Padding never wins; NaN is handed on.

    >>> import jax.numpy as jnp
    >>> geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,))
    >>> window_maximum(jnp.arange(3.0).reshape(1, 3, 1), geometry).ravel().tolist()
    [1.0, 2.0]
    """
    return _maximum.bind(inputs, geometry=geometry)


def window_maximum_gradient(
    inputs: Float[Array, "b *space c"], cotangent: Float[Array, "b *positions c"], geometry: Geometry
) -> Float[Array, "b *space c"]:
    """Returns the cotangent spread to the first tap of each window that sees its maximum.

    >>> import jax.numpy as jnp
    >>> geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,))
    >>> window_maximum_gradient(jnp.ones((1, 3, 1)), jnp.ones((1, 2, 1)), geometry).ravel().tolist()
    [1.0, 1.0, 0.0]
    """
    return _gradient.bind(inputs, cotangent, geometry=geometry)


def _walk(geometry: Geometry) -> Walk:
    return Walk(geometry.window, geometry.stride, geometry.dilation)


def _widened(inputs: Array, geometry: Geometry, value: float) -> Array:
    return padded(inputs, in_whole_strides(geometry.pads, geometry.space, _walk(geometry)), value)


# By XLA; `choosing` is `choose`, or that apart. An accelerator's maximum is XLA's own.


def largest(inputs: Shaped[Array, "b *space c"], walk: Walk) -> Shaped[Array, "b *places c"]:
    """Returns the maximum of each window of inputs that are padded already, as XLA has it.

    >>> import jax.numpy as jnp
    >>> largest(jnp.arange(3.0).reshape(1, 3, 1), Walk((2,), (1,), (1,))).ravel().tolist()
    [1.0, 2.0]
    """
    window, stride, dilation = ((1, *field, 1) for field in walk)
    start = np.array(lowest(inputs.dtype), inputs.dtype)
    return lax.reduce_window(inputs, start, lax.max, window, stride, "VALID", window_dilation=dilation)


def _natively(inputs, *, geometry: Geometry):
    return largest(padded(inputs, geometry.pads, lowest(inputs.dtype)), _walk(geometry))


def _maximum_by_xla(inputs, *, geometry: Geometry, choosing):
    return choosing(_widened(inputs, geometry, lowest(inputs.dtype)), _walk(geometry))[0]


def _gradient_by_xla(inputs, cotangent, *, geometry: Geometry, choosing):
    wide = _widened(inputs, geometry, lowest(inputs.dtype))
    spread = spread_choice(choosing(wide, _walk(geometry))[1], cotangent, _walk(geometry), wide.shape[1:-1])
    starts = (0, *(before for before, _ in geometry.pads), 0)
    return lax.slice(spread, starts, [start + size for start, size in zip(starts, inputs.shape, strict=True)])


def _picked_by_xla(inputs, values, *, geometry: Geometry, choosing):
    choice = choosing(_widened(inputs, geometry, lowest(inputs.dtype)), _walk(geometry))[1]
    return pick_choice(choice, _widened(values, geometry, 0.0), _walk(geometry))


def _apart(inputs: Array, walk: Walk):
    return apart(lambda inputs: choose(inputs, walk))(inputs)


def _operation(name: str, by_xla: Callable, of_positions: bool, by_extension: Callable | None = None) -> Primitive:
    anywhere, on_cpu = (partial(by_xla, choosing=choosing) for choosing in (choose, _apart))
    return window_operation(name, anywhere, of_positions=of_positions, on_cpu_by_xla=on_cpu, by_extension=by_extension)


_by_choosing = partial(_maximum_by_xla, choosing=_apart)
_maximum = window_operation("window_maximum", _natively, of_positions=True, on_cpu_by_xla=_by_choosing, by_extension=extension.max_pool)
_gradient = _operation("window_maximum_gradient", _gradient_by_xla, False, extension.max_pool_gradient)
_picked = _operation("window_maximum_picked", _picked_by_xla, True)


def _bind_to(primitive: Primitive, values: jax.Array, inputs: jax.Array, *_, geometry: Geometry) -> jax.Array:
    return primitive.bind(inputs, values, geometry=geometry)


ad.defjvp(_maximum, partial(_bind_to, _picked))
for _primitive, _transpose in ((_gradient, _picked), (_picked, _gradient)):
    ad.deflinear2(_primitive, lambda g, inputs, _, *, geometry, to=_transpose: [None, to.bind(inputs, g, geometry=geometry)])
    ad.defjvp(_primitive, None, partial(_bind_to, _primitive))  # in their second argument only: a choice has no derivative
