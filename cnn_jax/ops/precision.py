"""Computing in float32 what is given and wanted in half precision."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp


def in_float32(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Returns the function with its first argument widened to at least float32, and its result rounded to that argument's type.

    A formula of several steps is then rounded once, not at each of them. float32 and float64 pass unchanged.

    >>> shifted = in_float32(lambda x: x + 256 - 256)  # bfloat16 has 8 bits: 256 + 1 is 256
    >>> shifted(jnp.ones((), jnp.bfloat16)).item(), (jnp.ones((), jnp.bfloat16) + 256 - 256).item()
    (1.0, 0.0)
    """

    @functools.wraps(function)
    def widened(x: jax.Array, *args, **options) -> jax.Array:
        return function(x.astype(jnp.promote_types(x.dtype, jnp.float32)), *args, **options).astype(x.dtype)

    return widened
