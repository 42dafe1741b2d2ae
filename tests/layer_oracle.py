"""Compares a layer with a slow oracle: outputs, and gradients by inputs and parameters element by element, in each type."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from tests.against_oracle import numeric_gradient

# Relative to the largest value, of outputs and of gradients; the latter are compared with differences, good to 1e-6.
TOLERANCES = {"float64": (1e-9, 1e-6), "float32": (1e-5, 1e-5), "bfloat16": (2e-2, 2e-2)}

three_sizes = st.tuples(*[st.integers(1, 3)] * 3)


def assert_layer_agrees(apply, oracle, params, x, *, dtype):
    """`apply(params, x)` is (outputs, more), `oracle(params, x)` the outputs. Returns the more. Needs the fixture float64.

    The oracle sees the numbers as rounded, in float64. Parameters are held in float32, as layers do, or in float64 where the inputs are.
    """
    params = jax.tree.map(lambda a: jnp.array(a, jnp.float64 if dtype == "float64" else jnp.float32), params)
    given = params, jnp.array(x, dtype)
    exact, tree = jax.tree.flatten(jax.tree.map(lambda a: np.asarray(a, np.float64), given))
    expected = oracle(*tree.unflatten(exact))
    cotangent = jnp.array(np.random.default_rng(1000).normal(size=expected.shape), dtype)
    factors = np.asarray(cotangent, np.float64)

    @jax.jit
    def ours(params, x):
        y, pullback, more = jax.vjp(apply, params, x, has_aux=True)
        return y, pullback(cotangent), more

    y, gradients, more = ours(*given)
    assert y.dtype == dtype
    tolerance, slope_tolerance = TOLERANCES[dtype]
    assert_near(y, expected, tolerance)
    wanted = []
    for i, leaf in enumerate(exact):

        def total(leaf, i=i):
            return (oracle(*tree.unflatten([*exact[:i], leaf, *exact[i + 1 :]])) * factors).sum()

        wanted.append(numeric_gradient(total, leaf))
    # In half precision a sum that cancels loses its own digits: what is right to 2e-2 is the gradient as a whole.
    whole = max(np.abs(slope).max() for slope in wanted) if dtype == "bfloat16" else 0
    for (path, gradient), slope in zip(jax.tree_util.tree_leaves_with_path(gradients), wanted, strict=True):
        assert_near(gradient, slope, slope_tolerance, scale=whole, what=str(path))
    return more


def assert_near(value, expected, tolerance, *, scale=0, what=""):
    """To a tolerance, relative to each value, and to the largest or a larger scale."""
    atol = tolerance * max(np.abs(expected).max(initial=0), scale)
    np.testing.assert_allclose(np.asarray(value, np.float64), expected, rtol=tolerance, atol=atol, err_msg=what)
