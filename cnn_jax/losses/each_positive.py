"""Sums over an anchor's positives, one after the other: what is summed over triplets in the memory of pairs.

A batch has b³ triplets but each anchor few positives. Pass r treats every anchor's r-th positive at once, as arrays [b, n], and the
gradient's pass computes them anew, so that memory does not grow with the number of positives; time does. Differentiable once, in
reverse mode: what is written so has no forward mode (`jax.jvp`), nor a second derivative.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Integer, Shaped

Term = Callable[[Array, Array], tuple[Array, ...]]  # what `sum_over_positives` sums


def sum_over_positives(
    term: Term, matrix: Float[Array, "m n"], positives: Array, *constants: Array
) -> tuple[Float[Array, "b"], ...]:
    """Returns Σ_p w_ap · term(matrix, index of p for each anchor)_a, for each anchor a and each value [b] that `term` gives.

    Differentiable by `matrix`. Memory is that of one pass.

    Args:
      term: (matrix, indices [b], *constants) -> a tuple of arrays [b]; `at(matrix, indices)` is the pair's own entry. An anchor
        without a further positive is given index 0, and its values are left out.
      matrix: distances or similarities [b, n]; it may have more rows where a term reads more of them.
      positives: [b, n], booleans or weights w.
      constants: arrays that `term` reads as well; without gradient.

    >>> products = lambda d, p: (at(d, p) * d.sum(1),)
    >>> sum_over_positives(products, jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[False, True, True]]))[0].tolist()
    [30.0]
    """
    return _summed(term, matrix, positives.astype(matrix.dtype), constants)


def at(matrix: Shaped[Array, "m n"], indices: Integer[Array, "b"]) -> Shaped[Array, "b"]:
    """Returns each row's entry at its index.

    >>> at(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 0])).tolist()
    [2.0, 3.0]
    """
    return jnp.take_along_axis(matrix, indices[:, None], axis=1)[:, 0]


def fold_positives(positives: Array, add: Callable, start):
    """Returns start after carry = add(indices, weights, carry) for every anchor's first positive, its second, and so on.

    Args:
      positives: [b, n], booleans or weights.
      add: of `indices` [b] of one positive an anchor and `weights` [b], 0 where the anchor has no further one.

    >>> fold_positives(jnp.array([[False, True, True]]), lambda indices, weights, carry: 10 * carry + indices, jnp.zeros(1, int)).tolist()
    [12]
    """
    n = positives.shape[1]
    # Of each column, the first positive from there on; n where there is none.
    following = lax.cummin(jnp.where(positives != 0, jnp.arange(n, dtype=jnp.int32), n), axis=1, reverse=True)
    following = jnp.pad(following, ((0, 0), (0, 2)), constant_values=n)

    def further(carry):
        return (carry[0] < n).any()

    def one(carry):
        indices, result = carry
        has = indices < n
        inside = jnp.where(has, indices, 0)
        weights = jnp.where(has, at(positives, inside), jnp.zeros((), positives.dtype))
        return at(following, indices + 1), add(inside, weights, result)

    return lax.while_loop(further, one, (following[:, 0], start))[1]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _summed(term, matrix, positives, constants):
    def add(indices, weights, total):
        values = term(matrix, indices, *constants)
        return jax.tree.map(lambda t, v: t + jnp.where(weights != 0, v, 0) * weights, total, values)

    shapes = jax.eval_shape(term, matrix, jnp.zeros(len(positives), jnp.int32), *constants)
    return fold_positives(positives, add, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))


def _forwards(term, matrix, positives, constants):
    return _summed(term, matrix, positives, constants), (matrix, positives, constants)


def _backwards(term, residuals, cotangents):
    matrix, positives, constants = residuals

    def add(indices, weights, gradient):
        _, pull = jax.vjp(lambda m: term(m, indices, *constants), matrix)
        (one,) = pull(jax.tree.map(lambda c: jnp.where(weights != 0, c, 0) * weights, cotangents))
        return gradient + one

    gradient = fold_positives(positives, add, jnp.zeros_like(matrix))
    return gradient, jnp.zeros_like(positives), jax.tree.map(_no_gradient, constants)


_summed.defvjp(_forwards, _backwards)


def _no_gradient(x):
    return jnp.zeros_like(x) if jnp.issubdtype(x.dtype, jnp.floating) else np.zeros(x.shape, jax.dtypes.float0)
