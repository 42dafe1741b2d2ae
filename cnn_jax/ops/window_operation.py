"""How an operation of jax over windows is made, that the extension computes where a CPU runs the program whole, and XLA elsewhere.

As correlation's, which it is is decided when a program is lowered for a device, so one traced program runs anywhere.
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir, xla

from cnn_jax.ops import extension
from cnn_jax.ops.apart import runs_whole
from cnn_jax.ops.native_conv import Geometry


def window_operation(
    name: str,
    by_xla: Callable,
    *,
    of_positions: bool,
    on_cpu_by_xla: Callable | None = None,
    by_extension: Callable | None = None,
) -> Primitive:
    """Returns the operation, called as `bind(*arrays, geometry=…, **options)`, with all but its derivatives.

    Args:
      by_xla: a function of the arrays and, by name, the geometry and the options.
      of_positions: whether there is a value for each position of the window, else one for each of the inputs.
      on_cpu_by_xla: the same as `by_xla`, for a CPU.
      by_extension: a function of the arrays, the geometry and, by name, the options.

    >>> twice = window_operation("twice", lambda x, *, geometry: 2 * x, of_positions=False)
    >>> twice.bind(jnp.ones((1, 2, 1)), geometry=Geometry((2,), (1,), (1,), ((0, 0),), (1,), (1,))).ravel().tolist()
    [2.0, 2.0]
    """
    primitive = Primitive(name)

    def on_cpu(context, *arrays, geometry: Geometry, **options):
        def computed(*arrays):
            if by_extension and runs_whole(context) and extension.takes(*arrays):
                return by_extension(*arrays, geometry, **options)
            return (on_cpu_by_xla or by_xla)(*arrays, geometry=geometry, **options)

        return mlir.lower_fun(computed, multiple_results=False)(context, *arrays)

    def shaped(inputs, *_, geometry: Geometry, **_options):
        return inputs.update(shape=(inputs.shape[0], *(geometry.positions if of_positions else geometry.space), inputs.shape[-1]))

    primitive.def_impl(partial(xla.apply_primitive, primitive))
    primitive.def_abstract_eval(shaped)
    mlir.register_lowering(primitive, mlir.lower_fun(by_xla, multiple_results=False))
    mlir.register_lowering(primitive, on_cpu, platform="cpu")
    batching.primitive_batchers[primitive] = partial(_vmapped, primitive)
    return primitive


def _vmapped(primitive: Primitive, arrays, axes, *, geometry: Geometry, **options):
    """Cases are further examples."""
    size = next(a.shape[axis] for a, axis in zip(arrays, axes, strict=True) if axis is not None)
    cases = [
        jnp.broadcast_to(a, (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in zip(arrays, axes, strict=True)
    ]
    y = primitive.bind(*(a.reshape(size * a.shape[1], *a.shape[2:]) for a in cases), geometry=geometry, **options)
    return y.reshape(size, cases[0].shape[1], *y.shape[1:]), 0
