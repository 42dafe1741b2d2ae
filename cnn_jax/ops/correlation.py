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
from jax.interpreters import ad, batching, mlir, xla
from jaxtyping import Array, Float

from cnn_jax.ops import cpu_conv, native_conv
from cnn_jax.ops.apart import apart, runs_whole
from cnn_jax.ops.native_conv import Geometry

_correlation = Primitive("correlation")
_input_gradient = Primitive("correlation_input_gradient")
_kernel_gradient = Primitive("correlation_kernel_gradient")


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


def _define(primitive: Primitive, shape_of: Callable[..., tuple[int, ...]], name: str) -> None:
    natively = mlir.lower_fun(getattr(native_conv, name), multiple_results=False)

    def on_cpu(context, a, b, *, geometry: Geometry):
        whole = runs_whole(context)
        chosen = partial(getattr(cpu_conv, name), geometry=geometry, whole=whole)
        return mlir.lower_fun(apart(chosen) if whole and name == "kernel_gradient" else chosen, multiple_results=False)(context, a, b)

    primitive.def_impl(partial(xla.apply_primitive, primitive))
    primitive.def_abstract_eval(lambda a, b, *, geometry: a.update(shape=shape_of(a, b, geometry=geometry)))
    mlir.register_lowering(primitive, natively)
    mlir.register_lowering(primitive, on_cpu, platform="cpu")


_define(_correlation, _output_shape, "correlation")
_define(_input_gradient, _input_shape, "input_gradient")
_define(_kernel_gradient, _kernel_shape, "kernel_gradient")

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
