"""Correlation and its two gradients as three operations of jax, whose derivatives are the three again.

y = correlation(x, w) is linear in x and in w. What its transposes compute, `input_gradient(g, w)` and `kernel_gradient(x, g)`, is linear
in both arguments as well, and the transposes of these are among the three. So derivatives of any order, forward or reverse, are made of
them, and each is computed as suits it and the device: as XLA does on accelerators, as `cpu_conv` chooses on a CPU. Which is decided when a
program is lowered for a device, so one traced program runs anywhere.
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching
from jaxtyping import Array, Float

from cnn_jax.ops import cpu_conv, native_conv
from cnn_jax.ops.apart import apart
from cnn_jax.ops.lowering import operation
from cnn_jax.ops.native_conv import Geometry


def correlation(
    inputs: Float[Array, "b *space c_in"], kernel: Float[Array, "*window c_in_per_group c_out"], geometry: Geometry
) -> Float[Array, "b *positions c_out"]:
    """Returns the correlation of inputs with a bank of kernels that fit; `ops.conv.correlate` is the door to it.

    >>> geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,))
    >>> correlation(jnp.arange(3.0).reshape(1, 3, 1), jnp.ones((2, 1, 1)), geometry).ravel().tolist()
    [1.0, 3.0]
    """
    return _correlation.bind(inputs, kernel, geometry=geometry)


def _output_shape(x, w, *, geometry: Geometry) -> tuple[int, ...]:
    return (x.shape[0], *geometry.positions, w.shape[-1])


def _input_shape(g, w, *, geometry: Geometry) -> tuple[int, ...]:
    return (g.shape[0], *geometry.space, w.shape[-2] * geometry.groups)


def _kernel_shape(x, g, *, geometry: Geometry) -> tuple[int, ...]:
    return (*geometry.window, x.shape[-1] // geometry.groups, g.shape[-1])


def _kernel_gradient_on_cpu(x: Array, g: Array, *, geometry: Geometry, whole: bool) -> Array:
    chosen = partial(cpu_conv.kernel_gradient, geometry=geometry, whole=whole)
    return (apart(chosen) if whole else chosen)(x, g)


def _operation(name: str, shape_of: Callable[..., tuple[int, ...]], natively: Callable, on_cpu: Callable) -> Primitive:
    return operation(name, lambda a, b, *, geometry: a.update(shape=shape_of(a, b, geometry=geometry)), natively, on_cpu)


_correlation = _operation("correlation", _output_shape, native_conv.correlation, cpu_conv.correlation)
_input_gradient = _operation("correlation_input_gradient", _input_shape, native_conv.input_gradient, cpu_conv.input_gradient)
_kernel_gradient = _operation("correlation_kernel_gradient", _kernel_shape, native_conv.kernel_gradient, _kernel_gradient_on_cpu)

# Of each, the transposes with respect to its first and its second argument: (cotangent, first, second) -> what the unknown one gets.
ad.defbilinear(
    _correlation,
    lambda g, x, w, *, geometry: _input_gradient.bind(g, w, geometry=geometry),
    lambda g, x, w, *, geometry: _kernel_gradient.bind(x, g, geometry=geometry),
)
ad.defbilinear(
    _input_gradient,
    lambda x, g, w, *, geometry: _correlation.bind(x, w, geometry=geometry),
    lambda x, g, w, *, geometry: _kernel_gradient.bind(x, g, geometry=geometry),
)
ad.defbilinear(
    _kernel_gradient,
    lambda w, x, g, *, geometry: _input_gradient.bind(g, w, geometry=geometry),
    lambda w, x, g, *, geometry: _correlation.bind(x, w, geometry=geometry),
)


def _vmapped(primitive: Primitive, arguments, axes, *, geometry: Geometry):
    """Cases that share the second argument are further examples; others lie beside each other, each a group of channels of its own."""
    size = next(a.shape[axis] for a, axis in zip(arguments, axes, strict=True) if axis is not None)
    if axes[1] is None and primitive is not _kernel_gradient:
        a = jnp.moveaxis(arguments[0], axes[0], 0)
        y = primitive.bind(a.reshape(size * a.shape[1], *a.shape[2:]), arguments[1], geometry=geometry)
        return y.reshape(size, a.shape[1], *y.shape[1:]), 0
    beside = [_beside(a, axis, size) for a, axis in zip(arguments, axes, strict=True)]
    y = primitive.bind(*beside, geometry=geometry._replace(groups=geometry.groups * size))
    return y.reshape(*y.shape[:-1], size, y.shape[-1] // size), y.ndim - 1


def _beside(a: Array, axis: int | None, size: int) -> Array:
    """[..., size · c], from [..., c] with an axis of that size anywhere, or nowhere."""
    a = jnp.broadcast_to(a[..., None, :], (*a.shape[:-1], size, a.shape[-1])) if axis is None else jnp.moveaxis(a, axis, -2)
    return a.reshape(*a.shape[:-2], size * a.shape[-1])


for _primitive in (_correlation, _input_gradient, _kernel_gradient):
    batching.primitive_batchers[_primitive] = partial(_vmapped, _primitive)
