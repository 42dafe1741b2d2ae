"""Max pooling by the optional kernels against what XLA computes: values, gradients, derivatives; and windows as inspection sees them."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cnn_jax.inspection import anatomy
from cnn_jax.layers import Conv, Head
from cnn_jax.ops import extension, window_maximum
from cnn_jax.ops.max_pool import max_pool
from cnn_jax.ops.native_conv import Geometry
from cnn_jax.ops.pool import average_pool
from cnn_jax.ops.windows import sliding_windows
from tests.pool_derivatives import assert_equals_that_without, derivatives_of
from tests.walked_windows import geometries, windows

pytestmark = pytest.mark.usefixtures("loaded")

CHANNELS = (1, 2, 4, 6, 8, 15, 16, 17, 64, 83)


def geometry_of(x, window, **options) -> Geometry:
    walk, _, pads = sliding_windows(jnp.asarray(x), window, **options)
    return Geometry(x.shape[1:-1], walk.window, walk.stride, pads, (1,) * len(pads), walk.dilation)


def draws(x_shape, geometry, least=-4):
    """Whole numbers: equal ones everywhere, and sums that do not depend on their order; some NaN, some -inf."""
    draw = np.random.default_rng(0)
    x = draw.integers(least, 4, size=x_shape).astype(np.float32)
    x[draw.random(x_shape) < 0.05] = np.nan
    x[draw.random(x_shape) < 0.2] = -np.inf
    return x, draw.integers(-9, 9, size=(x_shape[0], *geometry.positions, x_shape[-1])).astype(np.float32)


def assert_equals_xla(x_shape, window, **options):
    geometry = geometry_of(np.empty(x_shape, np.float32), window, **options)
    x, g = draws(x_shape, geometry)

    def ours(x, g):
        return window_maximum.window_maximum(x, geometry), window_maximum.window_maximum_gradient(x, g, geometry)

    def theirs(x, g):
        by_xla = {"geometry": geometry, "choosing": window_maximum.choose}
        return window_maximum._maximum_by_xla(x, **by_xla), window_maximum._gradient_by_xla(x, g, **by_xla)

    ours = jax.jit(ours).lower(x, g)
    assert ours.as_text().count("@cnn_jax_max_pool") == 2
    for a, b in zip(ours.compile()(x, g), jax.jit(theirs)(x, g), strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(geometries(dilated=True), st.sampled_from(CHANNELS), st.integers(1, 3))
def test_the_kernels_equal_xlas(drawn, channels, batch):
    if all(inside for _, inside, _ in windows(*drawn)):  # else dilated taps all miss the input, which is refused
        space, window, stride, pads, dilation, ceil_mode = drawn
        assert_equals_xla((batch, *space, channels), window, stride=stride, padding=pads, dilation=dilation, ceil_mode=ceil_mode)


CASES = {
    "apart, all seen": ((8, 6), 2, {}),
    "apart, some not seen": ((7, 9), 2, {}),
    "apart, with gaps": ((7, 11), 2, {"stride": 3}),
    "apart, with gaps within": ((11, 8), 2, {"stride": 4, "dilation": 2}),
    "overlapping, padded": ((7, 10), 3, {"stride": 2, "padding": 1}),
    "overlapping along one axis": ((6, 9), (1, 3), {"stride": (1, 2)}),
    "beyond the padding": ((8, 5), 3, {"stride": 2, "ceil_mode": True}),
    "larger than the inputs": ((2, 3), 5, {"padding": 2}),
    "1-D": ((23,), 3, {"stride": 1, "padding": "SAME"}),
    "3-D": ((5, 4, 7), 3, {"stride": 2, "padding": 1}),
    "3-D, apart": ((4, 6, 5), 2, {}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("channels", [1, 6, 17, 83])
def test_windows_and_channels(case, channels):
    space, window, options = CASES[case]
    assert_equals_xla((3, *space, channels), window, **options)


@pytest.mark.parametrize("shape", [(0, 4, 6, 3), (1, 4, 6, 64)])
def test_no_example_and_one(shape):
    geometry = geometry_of(np.empty(shape, np.float32), 2)
    x, g = map(jnp.asarray, draws(shape, geometry))
    y, pull = jax.vjp(lambda x: max_pool(x, 2), x)
    assert pull(g)[0].shape == shape
    np.testing.assert_array_equal(y, max_pool(x, 2))


def losses(x):
    return (max_pool(x, 3, stride=2, padding=1) ** 3).sum()


DERIVATIVES = {
    **derivatives_of(losses),
    "the third": jax.grad(lambda x: (jax.grad(lambda x: (jax.grad(losses)(x[0]) ** 2).sum())(x) ** 2).sum()),
    "Jacobian of a gradient, backwards": lambda x: jax.jacrev(jax.grad(losses))(x[0, :, :5, :4]),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives_equal_those_without(name, monkeypatch):
    assert_equals_that_without(DERIVATIVES[name], "cnn_jax_max_pool", monkeypatch, atol=1e-4)


def test_forwards_it_is_the_slope_along_a_direction():
    x, direction = np.random.default_rng(0).normal(size=(2, 2, 7, 5, 6)).astype(np.float32)
    _, slope = jax.jvp(losses, (x,), (direction,))
    np.testing.assert_allclose(slope, jnp.vdot(jax.grad(losses)(x), direction), rtol=1e-5)


def test_programs_split_over_devices_and_other_types_are_computed_without():
    x = np.random.default_rng(0).normal(size=(4, 7, 6, 5)).astype(np.float32)
    gradient = jax.jit(jax.value_and_grad(losses))
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch")))
    assert "cnn_jax_" in gradient.lower(x).as_text()
    assert "cnn_jax_" not in gradient.lower(split).as_text()
    assert "cnn_jax_" not in gradient.lower(x.astype(jnp.bfloat16)).as_text()
    for a, b in zip(gradient(split), gradient(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("pool", [max_pool, average_pool])
def test_an_accelerator_has_xlas_own(pool):
    x = jax.ShapeDtypeStruct((2, 40, 7, 5), jnp.float32)
    alone = jax.jit(functools.partial(pool, window=(40, 2), stride=1) if pool is average_pool else functools.partial(pool, window=3))
    for function in (alone, jax.jit(jax.grad(lambda x: pool(x, 2).sum()))):
        text = function.trace(x).lower(lowering_platforms=("tpu",)).as_text()
        assert "cnn_jax_" not in text
        assert function is not alone or "stablehlo.reduce_window" in text


def test_a_device_of_several_that_computes_its_share_alone_uses_them():
    x = np.random.default_rng(0).normal(size=(4, 2, 7, 6, 5)).astype(np.float32)
    np.testing.assert_array_equal(jax.pmap(jax.grad(losses))(x), jnp.stack([jax.grad(losses)(part) for part in x]))


class Pooled(nn.Module):
    pool: Callable

    @nn.compact
    def __call__(self, x, train: bool):
        x = self.pool(Conv(3, (3, 3), stride=2, name="conv")(x))
        return Head(4, name="head")(Conv(3, (2, 2), name="after")(x).mean((1, 2)))


STRIDED = {"window": 3, "stride": 2, "padding": 1}
OPTIONS = [{"window": 2}, STRIDED, {"window": 3, "stride": 1, "ceil_mode": True}, {"window": 7, "padding": 3}]
POOLS = [functools.partial(pool, **options) for pool in (max_pool, average_pool) for options in OPTIONS]


@pytest.mark.parametrize("pool", [*POOLS, functools.partial(max_pool, window=2, dilation=2)])
def test_inspection_sees_the_same_windows(pool, monkeypatch):
    ours = anatomy(Pooled(pool), (21, 22, 3))
    monkeypatch.setattr(extension, "takes", lambda *arrays: False)
    assert ours == anatomy(Pooled(pool), (21, 22, 3))


def test_two_channels_are_left_to_xla():
    x = np.zeros((2, 6, 6, 2), np.float32)
    assert "cnn_jax_" not in jax.jit(jax.grad(losses)).lower(x).as_text()
