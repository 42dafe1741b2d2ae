"""Fully connected layers against loops: value, gradients by inputs and parameters, each type, any number of axes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.layers import Dense, Head
from tests.layer_oracle import TOLERANCES, assert_layer_agrees


def product(params, x):
    """x·W + b over the last axis, one number after another."""
    kernel, bias = params["kernel"], params["bias"]
    y = np.zeros((*x.shape[:-1], len(bias)))
    for place in np.ndindex(y.shape):
        y[place] = bias[place[-1]] + sum(x[(*place[:-1], c)] * kernel[c, place[-1]] for c in range(len(kernel)))
    return y


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5)], ids=str)
@pytest.mark.parametrize(("layer", "dtype"), [*((Dense, dtype) for dtype in TOLERANCES), (Head, "float32")])
def test_dense_and_head_equal_a_product_over_the_last_axis(layer, dtype, shape):
    rng = np.random.default_rng(9)
    x, params = rng.normal(size=shape), {"kernel": rng.normal(size=(5, 3)), "bias": rng.normal(size=3)}
    layer = layer(3, dtype=jnp.dtype(dtype))
    made = jax.eval_shape(layer.init, jax.random.key(0), jnp.array(x))["params"]
    assert jax.tree.map(lambda a: a.shape, made) == jax.tree.map(np.shape, params)
    assert_layer_agrees(lambda p, x: (layer.apply({"params": p}, x), None), product, params, x, dtype=dtype)


def test_the_head_is_float32_whatever_came_before():
    """Also the bias: it is added after the product has become float32."""
    rng = np.random.default_rng(10)
    x = jnp.array(rng.normal(size=(4, 5)), jnp.bfloat16)
    params = {"kernel": jnp.array(rng.normal(size=(5, 3)), jnp.float32), "bias": jnp.array([300.25, -7.001, 1e-4])}
    y = Head(3, dtype=jnp.bfloat16).apply({"params": params}, x)
    without = Head(3, dtype=jnp.bfloat16).apply({"params": {**params, "bias": jnp.zeros(3)}}, x)
    assert y.dtype == without.dtype == jnp.float32
    rounded = np.asarray(params["kernel"].astype(jnp.bfloat16), np.float64)
    expected = product({"kernel": rounded, "bias": np.zeros(3)}, np.asarray(x, np.float64))
    np.testing.assert_allclose(without, expected, atol=2e-2 * np.abs(expected).max())
    np.testing.assert_allclose(y, np.asarray(without) + np.asarray(params["bias"]), rtol=1e-6)
    features = Head(0).apply({}, x)
    assert features.dtype == jnp.float32
    np.testing.assert_array_equal(features, np.asarray(x, np.float32))
