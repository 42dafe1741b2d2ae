"""Work that XLA's CPU compiler is to leave by itself, and whether it may be left so."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata


def apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function as a call that the compiler does not dissolve into what surrounds it.

    What goes in is computed once and held, what comes out as well. Otherwise the compiler weaves cheap operations into each of their users
    and computes them anew there: into a transposition, which then reads them value by value, or into each tap of a window. (The barrier
    that jax offers, `lax.optimization_barrier`, is taken down before that happens.)

    Only for a CPU, and for programs that are not split over devices.

    >>> import jax.numpy as jnp
    >>> apart(jnp.transpose)(jnp.ones((2, 3))).shape
    (3, 2)
    """

    @jax.jit
    def called(*arguments):
        with set_xla_metadata(inlineable=None):  # the calls within are to be dissolved
            return function(*arguments)

    @functools.wraps(function)
    def outer(*arguments):
        with set_xla_metadata(inlineable="false"):
            return called(*arguments)

    return outer


def runs_whole(context) -> bool:
    """Returns whether what is lowered runs on one device as it stands, not split by the compiler.

    The compiler knows how to split its own operations only, not calls of what others wrote.

    Args:
      context: what a primitive's rule of lowering is given.

    >>> from types import SimpleNamespace as Has
    >>> runs_whole(Has(module_context=Has(axis_context=Has(num_devices=1))))
    True
    """
    where = context.module_context.axis_context
    if getattr(where, "num_devices", None) == 1:
        return True
    mesh = getattr(where, "mesh", None)
    return mesh is not None and (mesh.size == 1 or set(mesh.axis_names) <= set(getattr(where, "manual_axes", ())))
