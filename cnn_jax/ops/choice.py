"""Which tap of each window is chosen, and what goes back by it: operations that a CPU may compute by the extension."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching
from jaxtyping import Array, Float, Int, Shaped

from cnn_jax.ops import extension
from cnn_jax.ops.apart import apart
from cnn_jax.ops.lowering import operation
from cnn_jax.ops.windows import Walk, spread, taps_by_rows


def choose(inputs: Shaped[Array, "b *space c"], walk: Walk) -> tuple[Shaped[Array, "b *places c"], Int[Array, "b *places c"]]:
    """Returns the maximum of each window and the number of the first tap that sees it; a NaN is handed on.

    >>> maximum, tap = choose(jnp.array([3.0, 1.0, 2.0]).reshape(1, 3, 1), Walk((2,), (1,), (1,)))
    >>> maximum.ravel().tolist(), tap.ravel().tolist()
    ([3.0, 2.0], [0, 1])
    """
    return tuple(_choose.bind(inputs, walk=walk))


def spread_choice(
    choice: Int[Array, "b *places c"], values: Float[Array, "b *places c"], walk: Walk, space: tuple[int, ...]
) -> Float[Array, "b *space c"]:
    """Returns zeros, and each window's value added where its chosen tap has looked.

    >>> spread_choice(jnp.array([1, 0], jnp.int8).reshape(1, 2, 1), jnp.ones((1, 2, 1)), Walk((2,), (1,), (1,)), (3,))[0, :, 0].tolist()
    [0.0, 2.0, 0.0]
    """
    return _spread.bind(choice, values, walk=walk, space=tuple(space))


def picked(choice: Int[Array, "b *places c"], inputs: Float[Array, "b *space c"], walk: Walk) -> Float[Array, "b *places c"]:
    """Returns what each window's chosen tap sees: the transpose of `spread_choice`.

    >>> picked(jnp.array([1, 0], jnp.int8).reshape(1, 2, 1), jnp.arange(3.0).reshape(1, 3, 1), Walk((2,), (1,), (1,)))[0, :, 0].tolist()
    [1.0, 1.0]
    """
    return sum(piece(tap, choice, seen) for tap, seen in enumerate(taps_by_rows(inputs, walk)))


def better(tap: int | Array, value: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
    """Returns the best so far and its tap, this tap's value considered.

    >>> [v.item() for v in better(1, jnp.array(2.0), (jnp.array(1.0), jnp.array(0, jnp.int8)))]
    [2.0, 1]
    """
    maximum, choice = best
    wins = (value > maximum) | (value != value)  # a NaN is handed on: nothing is greater
    return jnp.where(wins, value, maximum), jnp.where(wins, jnp.asarray(tap, choice.dtype), choice)


def piece(tap: int | Array, choice: Int[Array, "*shape"], values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns the values where this tap is chosen, else 0.

    >>> piece(1, jnp.array([0, 1]), jnp.array([3.0, 4.0])).tolist()
    [0.0, 4.0]
    """
    return jnp.where(choice == jnp.asarray(tap, choice.dtype), values, 0)


def count_type(walk: Walk):
    """Returns the type that taps of such windows are counted in.

    >>> count_type(Walk((3, 3), (2, 2), (1, 1))).__name__
    'int8'
    """
    return jnp.int8 if math.prod(walk.window) <= 127 else jnp.int32


def _choose_natively(inputs: Array, *, walk: Walk) -> tuple[Array, Array]:
    first, *others = taps_by_rows(inputs, walk)
    best = first, jnp.zeros(first.shape, count_type(walk))
    for tap, value in enumerate(others, 1):
        best = better(tap, value, best)
    return best


def _choose_on_cpu(inputs: Array, *, walk: Walk, whole: bool) -> tuple[Array, Array]:
    if whole and extension.takes(inputs) and count_type(walk) == jnp.int8:
        return extension.max_pool(inputs, walk)
    natively = partial(_choose_natively, walk=walk)
    return (apart(natively) if whole else natively)(inputs)  # what places the gradient would choose anew for each tap otherwise


def _spread_natively(choice: Array, values: Array, *, walk: Walk, space: tuple[int, ...]) -> Array:
    return spread([piece(tap, choice, values) for tap in range(math.prod(walk.window))], walk, space)


def _spread_on_cpu(choice: Array, values: Array, *, walk: Walk, space: tuple[int, ...], whole: bool) -> Array:
    if whole and extension.takes(values) and choice.dtype == jnp.int8:
        return extension.spread_choice(choice, values, walk, space)
    return _spread_natively(choice, values, walk=walk, space=space)


def _places(x, walk: Walk) -> tuple[int, ...]:
    return (x.shape[0], *walk.places(x.shape[1:-1]), x.shape[-1])


def _shapes_of_choice(x, *, walk: Walk):
    shape = _places(x, walk)
    return x.update(shape=shape, weak_type=False), x.update(shape=shape, dtype=jnp.dtype(count_type(walk)), weak_type=False)


_choose = operation("choose_maximum", _shapes_of_choice, _choose_natively, _choose_on_cpu, many=True)
_spread = operation(
    "spread_choice",
    lambda choice, values, *, walk, space: values.update(shape=(values.shape[0], *space, values.shape[-1]), weak_type=False),
    _spread_natively,
    _spread_on_cpu,
)


def _nothing(value: Array) -> ad.Zero:
    return ad.Zero(jax.typeof(value).to_tangent_aval())


def _tangent_of_maximum(primals, tangents, *, walk: Walk):
    maximum, choice = _choose.bind(*primals, walk=walk)
    (slope,) = tangents
    moved = _nothing(maximum) if isinstance(slope, ad.Zero) else picked(choice, slope, walk)
    return (maximum, choice), (moved, _nothing(choice))


def _tangent_of_spread(primals, tangents, *, walk: Walk, space: tuple[int, ...]):
    (choice, values), (_, slope) = primals, tangents
    spread_out = _spread.bind(choice, values, walk=walk, space=space)
    moved = _nothing(spread_out) if isinstance(slope, ad.Zero) else _spread.bind(choice, slope, walk=walk, space=space)
    return spread_out, moved


ad.primitive_jvps[_choose] = _tangent_of_maximum
ad.primitive_jvps[_spread] = _tangent_of_spread
ad.primitive_transposes[_spread] = lambda g, choice, values, *, walk, space: (None, picked(choice, g, walk))


def _vmapped(primitive: Primitive, arguments, axes, **parameters):
    """Cases are further examples."""
    size = next(a.shape[axis] for a, axis in zip(arguments, axes, strict=True) if axis is not None)
    merged = [
        jnp.broadcast_to(a, (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in zip(arguments, axes, strict=True)
    ]
    results = primitive.bind(*(a.reshape(-1, *a.shape[2:]) for a in merged), **parameters)
    apiece = jax.tree.map(lambda y: y.reshape(size, -1, *y.shape[1:]), results)
    return apiece, jax.tree.map(lambda _: 0, results)


for _primitive in (_choose, _spread):
    batching.primitive_batchers[_primitive] = partial(_vmapped, _primitive)
