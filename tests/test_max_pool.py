"""Max pooling against a walk over its windows: ties, large windows, whole numbers, higher derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from cnn_jax.ops.adaptive_pool import adaptive_max_pool
from cnn_jax.ops.max_pool import max_pool
from cnn_jax.ops.pool import global_max_pool
from tests.even_choice import TYPES, evenly
from tests.walked_windows import LARGE, assert_equals_walk, first_maximum, geometries, pooled, windows


def highest(v, _):
    return v.max(0)


@pytest.mark.usefixtures("float64")
@settings(max_examples=15, deadline=None, derandomize=True)
@given(geometries(dilated=True))
def test_max_pool_and_its_first_maximum(geometry):
    space, window, stride, pads, dilation, ceil_mode = geometry
    x = np.random.default_rng(0).integers(-9, -5, size=(2, *space, 2)).astype(float)  # ties everywhere; a zero would win
    cells = [*windows(space, window, stride, pads, dilation, ceil_mode)]
    if not all(inside for _, inside, _ in cells):  # dilated taps that all miss the input: the maximum of nothing
        return
    ours = functools.partial(max_pool, window=window, stride=stride, padding=pads, dilation=dilation, ceil_mode=ceil_mode)
    assert_equals_walk(ours, x, cells, highest, slope=first_maximum, dtype=evenly(TYPES, geometry))
    np.testing.assert_array_equal(ours(jnp.array(x)), pooled(x, cells, highest))  # without a gradient another algorithm computes it


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("space", "window", "stride", "pads"), LARGE)
def test_large_windows_and_strides(space, window, stride, pads):
    x = np.random.default_rng(0).integers(-9, -6, size=(2, *space, 2)).astype(float)
    cells = [*windows(space, window, stride, pads)]
    ours = functools.partial(max_pool, window=window, stride=stride, padding=pads)
    assert_equals_walk(ours, x, cells, highest, slope=first_maximum)
    np.testing.assert_array_equal(ours(jnp.array(x)), pooled(x, cells, highest))


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.bool_])
def test_whole_numbers_are_pooled(dtype):
    x = jnp.array(np.random.default_rng(0).integers(0, 2, size=(2, 6, 6, 1)), dtype)
    expected = np.asarray(x).reshape(2, 3, 2, 3, 2, 1).max((2, 4))
    for value in (max_pool(x, 2), adaptive_max_pool(x, 3), max_pool(x, 2, padding=((0, 1), (0, 0)))):
        assert value.dtype == dtype
        np.testing.assert_array_equal(value[:, :3], expected)
    np.testing.assert_array_equal(global_max_pool(x), np.asarray(x).max((1, 2)))
    if dtype == jnp.int32:
        np.testing.assert_array_equal(max_pool(x - 9, 3, stride=3, padding=1)[:, 0, 0], np.asarray(x - 9)[:, :2, :2].max((1, 2)))


@pytest.mark.usefixtures("float64")
def test_max_pool_under_vmap_and_twice_differentiated():
    x = jnp.array(np.random.default_rng(0).normal(size=(3, 2, 7, 1)))

    @jax.jit
    def loss(x):
        return (max_pool(x, 3, stride=2, padding=1) ** 3).sum()

    gradient = jax.jit(jax.grad(loss))
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(loss)))(x), jnp.stack([gradient(part) for part in x]), rtol=1e-12)
    twice = jax.jit(jax.grad(lambda x: (jax.grad(loss)(x) ** 2).sum()))(x[0])
    hessian = jax.jit(jax.hessian(loss))(x[0]).reshape(14, 14)
    np.testing.assert_allclose(twice.reshape(14), 2 * hessian @ gradient(x[0]).reshape(14), rtol=1e-10, atol=1e-12)
