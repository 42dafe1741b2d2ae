"""Average and norm pooling where the optional kernels are loaded: against a walk, and derivatives against those without."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cnn_jax.ops.pool import average_pool, lp_pool
from tests.pool_derivatives import assert_equals_that_without, derivatives_of
from tests.walked_windows import LARGE, assert_equals_walk, geometries, windows

pytestmark = pytest.mark.usefixtures("loaded")

CHANNELS = (1, 2, 4, 6, 8, 15, 16, 17, 64, 83)


def assert_averages(space, window, stride, pads, ceil_mode, count_include_pad, channels, batch):
    x = np.random.default_rng(0).normal(size=(batch, *space, channels)) + 3
    options = {"stride": stride, "padding": pads, "ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    ours = functools.partial(average_pool, window=window, **options)
    assert "@cnn_jax_sum_pool" in jax.jit(ours).lower(jnp.asarray(x, jnp.float32)).as_text()

    def mean(v, count):
        return v.sum(0) / (count if count_include_pad else len(v))

    def share(v, count):
        return np.full(v.shape, 1 / (count if count_include_pad else len(v)))

    assert_equals_walk(ours, x, windows(space, window, stride, pads, None, ceil_mode), mean, slope=share, dtype="float32")


@pytest.mark.usefixtures("float64")
@settings(max_examples=25, deadline=None, derandomize=True)
@given(geometries(), st.booleans(), st.sampled_from(CHANNELS), st.integers(1, 3))
def test_the_kernel_averages(geometry, count_include_pad, channels, batch):
    *moves, _, ceil_mode = geometry
    assert_averages(*moves, ceil_mode, count_include_pad, channels, batch)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("moves", LARGE)
def test_large_windows_and_strides(moves):
    assert_averages(*moves, False, True, 5, 2)


@pytest.mark.usefixtures("float64")
def test_norms_of_large_windows():
    x = np.random.default_rng(0).normal(size=(2, 9, 8, 5)) + 3
    moves = (9, 8), (7, 6), (1, 1), ((3, 3), (2, 3))
    ours = functools.partial(lp_pool, window=(7, 6), p=3.0, stride=1, padding=moves[-1])
    assert "@cnn_jax_sum_pool" in jax.jit(ours).lower(jnp.asarray(x, jnp.float32)).as_text()
    assert_equals_walk(ours, x, windows(*moves), lambda v, _: (np.abs(v) ** 3).sum(0) ** (1 / 3), dtype="float32")


@pytest.mark.parametrize("shape", [(0, 4, 6, 3), (1, 4, 6, 64), (2, 4, 6, 0)])
def test_no_example_one_and_no_channel(shape):
    x = jnp.ones(shape)
    y, pull = jax.vjp(lambda x: average_pool(x, 2), x)
    np.testing.assert_array_equal(y, np.ones((len(x), 2, 3, shape[-1])))
    np.testing.assert_array_equal(pull(y)[0], x / 4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_seen_by_its_windows_alone(value):
    x = jnp.ones((1, 6, 7, 17)).at[0, 2, 3, 16].set(value)
    seen = ~np.isfinite(average_pool(x, 3, stride=2, padding=1)[0])
    assert seen.sum() == 2
    assert seen[1, 1:3, 16].all()


def losses(x):
    return (average_pool(x, 3, stride=2, padding=1) ** 3).sum()


DERIVATIVES = {**derivatives_of(losses), "forwards": lambda x: jax.jvp(losses, (x[0],), (x[1],))}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives_equal_those_without(name, monkeypatch):
    assert_equals_that_without(DERIVATIVES[name], "cnn_jax_sum_pool", monkeypatch, atol=1e-5)


def test_programs_split_over_devices_and_other_types_are_computed_without():
    x = np.random.default_rng(0).normal(size=(4, 7, 6, 5)).astype(np.float32)
    gradient = jax.jit(jax.value_and_grad(losses))
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch")))
    assert "cnn_jax_" in gradient.lower(x).as_text()
    assert "cnn_jax_" not in gradient.lower(split).as_text()
    for a, b in zip(gradient(split), gradient(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    with jax.enable_x64():
        assert "cnn_jax_" not in jax.jit(losses).lower(x.astype(np.float64)).as_text()
