"""Operations that a CPU computes in another way than the rest: decided when a program is lowered, so one that is traced runs anywhere."""

from collections.abc import Callable
from functools import partial
from typing import Any

from jax.extend.core import Primitive
from jax.interpreters import mlir, xla


def operation(
    name: str, shapes: Callable[..., Any], natively: Callable[..., Any], on_cpu: Callable[..., Any], *, many: bool = False
) -> Primitive:
    """Returns a new operation, with neither derivatives nor vmap.

    Args:
      shapes: (abstract arguments, **parameters) -> the abstract result, or results.
      natively: (arguments, **parameters) -> the result by operations of XLA's.
      on_cpu: the same, with `whole` among the parameters: whether calls that the compiler cannot split over devices may be made.
      many: results rather than one.

    >>> double = operation("double", lambda x: x, lambda x: 2 * x, lambda x, whole: x + x)
    >>> double.bind(3.0).item()
    6.0
    """
    primitive = Primitive(name)
    primitive.multiple_results = many
    primitive.def_impl(partial(xla.apply_primitive, primitive))
    primitive.def_abstract_eval(shapes)

    def lowered(context, *arguments, **parameters):
        return mlir.lower_fun(partial(on_cpu, whole=_runs_whole(context)), multiple_results=many)(context, *arguments, **parameters)

    mlir.register_lowering(primitive, mlir.lower_fun(natively, multiple_results=many))
    mlir.register_lowering(primitive, lowered, platform="cpu")
    return primitive


def _runs_whole(context) -> bool:
    """Whether what is lowered runs on one device as it stands, not split by the compiler: it knows how to split its own operations only."""
    where = context.module_context.axis_context
    if getattr(where, "num_devices", None) == 1:
        return True
    mesh = getattr(where, "mesh", None)
    return mesh is not None and (mesh.size == 1 or set(mesh.axis_names) <= set(getattr(where, "manual_axes", ())))
