"""Which types formulas are computed in, and their results returned in.

A formula of real numbers is computed in at least float32. Its result has the type of a floating input, and float32 where the input holds
integers or booleans: rounding a probability to an integer would lose it. What merely selects values, as max pooling does, keeps any type.
"""

import functools
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from cnn_jax.ops.arguments import check_array


def widened(x: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """Returns x in at least float32, the type to compute in.

    >>> widened(jnp.ones(2, jnp.bfloat16)).dtype.name, widened(jnp.ones(2, jnp.int8)).dtype.name
    ('float32', 'float32')
    """
    return jnp.asarray(x, jnp.promote_types(result_type(x), jnp.float32))


def result_type(x: Shaped[Array, "..."]):
    """Returns the type of a formula's result: that of x where it is floating, float32 for integers and booleans.

    NumPy's doubles are float32 to jax unless it is told to keep them (`jax_enable_x64`).

    >>> jnp.dtype(result_type(jnp.ones(2, jnp.bfloat16))).name, jnp.dtype(result_type(jnp.ones(2, jnp.int8))).name
    ('bfloat16', 'float32')
    """
    return jnp.result_type(x) if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.float32


def as_floats(x: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """Returns x itself where it is floating, in float32 where it holds integers or booleans.

    >>> as_floats(jnp.array([True, False])).tolist()
    [1.0, 0.0]
    """
    return jnp.asarray(x, result_type(x))


def in_float32(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Returns the function with its first argument widened to at least float32, and its result rounded to that argument's `result_type`.

    A formula of several steps is then rounded once, not at each of them. float32 and float64 pass unchanged. The function checks that it is
    given an array, by the argument's name.

    Raises:
      ValueError: x is no array.

    >>> shifted = in_float32(lambda x: x + 256 - 256)  # bfloat16 has 8 bits: 256 + 1 is 256
    >>> shifted(jnp.ones((), jnp.bfloat16)).item(), (jnp.ones((), jnp.bfloat16) + 256 - 256).item()
    (1.0, 0.0)
    """

    signature = inspect.signature(function)
    name = next(iter(signature.parameters))

    @functools.wraps(function)
    def wide(*args, **options) -> jax.Array:
        given = signature.bind(*args, **options)  # the first may come by its name
        x = given.arguments[name]
        check_array(name, x)
        given.arguments[name] = widened(x)
        return function(*given.args, **given.kwargs).astype(result_type(x))

    return wide
