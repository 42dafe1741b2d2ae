"""The gated linear unit against a loop: value, gradient, any axis, ±10⁴, half precision, what it refuses."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.ops.activations import glu


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def gated(x, cotangent, axis):
    """Value and gradient, number by number: the first half times the sigmoid of the second."""
    x, cotangent = np.moveaxis(x, axis, 0), np.moveaxis(cotangent, axis, 0)
    half = len(x) // 2
    y, slope = np.zeros((half, *x.shape[1:])), np.zeros(x.shape)
    for i, *rest in np.ndindex(y.shape):
        a, gate, g = x[(i, *rest)], sigmoid(x[(half + i, *rest)]), cotangent[(i, *rest)]
        y[(i, *rest)] = a * gate
        slope[(i, *rest)] = g * gate
        slope[(half + i, *rest)] = g * a * gate * sigmoid(-x[(half + i, *rest)])
    return np.moveaxis(y, 0, axis), np.moveaxis(slope, 0, axis)


def value_and_gradient(x, cotangent, axis):
    y, pullback = jax.vjp(lambda x: glu(x, axis=axis), x)
    return y, pullback(cotangent)[0]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("shape", "axis"), [((6,), 0), ((4, 3), 0), ((3, 4), -1), ((2, 6, 3), 1), ((2, 6, 3), -2), ((2, 3, 1, 4), 3), ((4, 3, 2, 2, 3), -5)]
)
def test_glu_gates_one_half_with_the_other(shape, axis):
    rng = np.random.default_rng(4)
    halved = [n // 2 if i == axis % len(shape) else n for i, n in enumerate(shape)]
    x, cotangent = 3 * rng.normal(size=shape), rng.normal(size=halved)
    y, gradient = jax.jit(value_and_gradient, static_argnums=2)(jnp.array(x), jnp.array(cotangent), axis)
    expected, slope = gated(x, cotangent, axis)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, slope, rtol=1e-11)
    step = 1e-6 * rng.normal(size=shape)  # and the loop's own gradient is that of its value
    change = gated(x + step, cotangent, axis)[0] - gated(x - step, cotangent, axis)[0]
    np.testing.assert_allclose((slope * step).sum(), (change * cotangent).sum() / 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_glu_is_right_far_out_and_in_half_precision(dtype):
    """Every pair of a value and a gate, at the very numbers the type holds."""
    edges = [-1e4, -300, -89, -20, -3.3, -0.7, 0, 0.4, 2.9, 20, 89, 300, 1e4]
    a, b = (grid.ravel() for grid in np.meshgrid(edges, edges))
    x = jnp.array(np.concatenate([a, b]), dtype)
    y, gradient = jax.jit(value_and_gradient, static_argnums=2)(x, jnp.ones(len(a), dtype), -1)
    expected, slope = gated(np.asarray(x, np.float64), np.ones(len(a)), -1)
    assert y.dtype == gradient.dtype == dtype
    rtol, atol = (6e-6, 1e-7) if dtype == jnp.float32 else (2e-2, 2e-3)
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=rtol, atol=1e-30)
    size = 1 + np.abs([*a, *a])  # a gate's slope is what the rounded gate leaves of 1, as many times as the value is large
    np.testing.assert_allclose(np.asarray(gradient, np.float64) / size, slope / size, rtol=rtol, atol=atol)


def test_glu_refuses_what_it_cannot_halve():
    x = jnp.ones((2, 3))
    for axis in (2, -3):
        with pytest.raises(ValueError, match=rf"axis={axis} is none of the 2 axes of shape \(2, 3\): it must be in \[-2, 1\]"):
            glu(x, axis=axis)
    for odd, axis in ((x, -1), (x, 1), (jnp.ones((5, 2)), 0), (jnp.ones((2, 7, 4)), -2), (jnp.ones(1), 0)):
        shape = str(odd.shape).replace("(", r"\(").replace(")", r"\)")
        with pytest.raises(ValueError, match=rf"axis={axis} must have an even size to be halved, got shape {shape}"):
            glu(odd, axis=axis)
