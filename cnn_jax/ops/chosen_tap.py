"""Which tap of a window is chosen, the first that sees its maximum, and the ways between inputs and what is chosen."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from cnn_jax.ops.windows import Walk, spread, taps_by_rows


def lowest(dtype) -> float | int | bool:
    """Returns what no value of that type is below.

    >>> lowest(jnp.int8)
    -128
    """
    if dtype == jnp.bool_:
        return False
    return -math.inf if jnp.issubdtype(dtype, jnp.floating) else int(jnp.iinfo(dtype).min)


def count_type(walk: Walk):
    """Returns the smaller of two types that count a window's taps.

    >>> count_type(Walk((3, 3), (1, 1), (1, 1))).__name__
    'int8'
    """
    return jnp.int8 if math.prod(walk.window) <= 127 else jnp.int32


def better(
    tap: int | jax.Array, value: Shaped[Array, "*shape"], best: tuple[Shaped[Array, "*shape"], Int[Array, "*shape"]]
) -> tuple[Shaped[Array, "*shape"], Int[Array, "*shape"]]:
    """Returns the best (value, tap) of all before and this one.

    >>> [int(a) for a in better(1, jnp.array(3), (jnp.array(3), jnp.array(0)))]
    [3, 0]
    """
    maximum, choice = best
    wins = (value > maximum) | (value != value)  # a NaN is handed on: nothing is greater
    return jnp.where(wins, value, maximum), jnp.where(wins, jnp.asarray(tap, choice.dtype), choice)


def choose(inputs: Shaped[Array, "b *space c"], walk: Walk) -> tuple[Shaped[Array, "b *places c"], Int[Array, "b *places c"]]:
    """Returns the maximum of each window and the number of the first tap that sees it.

    >>> [a[0, :, 0].tolist() for a in choose(jnp.array([1.0, 2.0, 2.0]).reshape(1, 3, 1), Walk((2,), (1,), (1,)))]
    [[2.0, 2.0], [1, 0]]
    """
    first, *others = taps_by_rows(inputs, walk)
    best = first, jnp.zeros(first.shape, count_type(walk))
    for tap, value in enumerate(others, 1):
        best = better(tap, value, best)
    return best


def pick_choice(choice: Int[Array, "b *places c"], inputs: Float[Array, "b *space c"], walk: Walk) -> Float[Array, "b *places c"]:
    """Returns what each window's chosen tap sees: the transpose of `spread_choice`.

    >>> pick_choice(jnp.array([1, 0]).reshape(1, 2, 1), jnp.arange(3.0).reshape(1, 3, 1), Walk((2,), (1,), (1,)))[0, :, 0].tolist()
    [1.0, 1.0]
    """
    picked, *others = taps_by_rows(inputs, walk)
    for tap, value in enumerate(others, 1):
        picked = jnp.where(choice == jnp.asarray(tap, choice.dtype), value, picked)
    return picked


def spread_choice(
    choice: Int[Array, "b *places c"], values: Float[Array, "b *places c"], walk: Walk, space: tuple[int, ...]
) -> Float[Array, "b *space c"]:
    """Returns zeros, and each window's value added where its chosen tap has looked.

    >>> spread_choice(jnp.array([1, 0]).reshape(1, 2, 1), jnp.ones((1, 2, 1)), Walk((2,), (1,), (1,)), (3,))[0, :, 0].tolist()
    [0.0, 2.0, 0.0]
    """
    return spread([piece(tap, choice, values) for tap in range(math.prod(walk.window))], walk, space)


def piece(tap: int | jax.Array, choice: Int[Array, "*shape"], values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns the values where this tap is chosen, zeros elsewhere.

    >>> piece(1, jnp.array([0, 1]), jnp.ones(2)).tolist()
    [0.0, 1.0]
    """
    return jnp.where(choice == jnp.asarray(tap, choice.dtype), values, 0)
