"""Averages and norms of windows, and pooling over all space, against a walk; then what all poolings have in common."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax.ops import pool
from cnn_jax.ops.pool import (
    adaptive_average_pool,
    adaptive_max_pool,
    average_pool,
    blur_pool,
    global_average_max_pool,
    global_average_pool,
    global_max_pool,
    l2_pool,
    lp_pool,
    max_blur_pool,
    max_pool,
    probability_weighted_pool,
    stochastic_pool,
)
from tests.even_choice import TYPES, evenly
from tests.walked_windows import LARGE, assert_equals_walk, first_maximum, geometries, windows

random_cases = settings(max_examples=15, deadline=None, derandomize=True)


def away_from_zero(x):
    """Where a norm has a derivative, and a difference of it tells which."""
    return x + np.sign(x) / 4


@pytest.mark.usefixtures("float64")
@random_cases
@given(geometries(), st.booleans())
def test_average_pool_counts_as_it_says(geometry, count_include_pad):
    space, window, stride, pads, _, ceil_mode = geometry
    x = np.random.default_rng(0).normal(size=(2, *space, 2)) + 3
    options = {"stride": stride, "padding": pads, "ceil_mode": ceil_mode, "count_include_pad": count_include_pad}

    def mean(v, count):
        return v.sum(0) / (count if count_include_pad else len(v))

    ours = functools.partial(average_pool, window=window, **options)
    assert_equals_walk(ours, x, windows(space, window, stride, pads, None, ceil_mode), mean, dtype=evenly(TYPES, geometry))


@pytest.mark.usefixtures("float64")
@random_cases
@given(geometries(), st.sampled_from([0.5, 1.0, 1.7, 2.0, 3.0, 8.0]))
def test_lp_pool_is_the_norm(geometry, p):
    space, window, stride, pads, _, ceil_mode = geometry
    x = away_from_zero(np.random.default_rng(0).normal(size=(2, *space, 2)))
    ours = functools.partial(l2_pool if p == 2 else functools.partial(lp_pool, p=p), window=window)
    ours = functools.partial(ours, stride=stride, padding=pads, ceil_mode=ceil_mode)
    cells = windows(space, window, stride, pads, None, ceil_mode)
    assert_equals_walk(ours, x, cells, lambda v, _: (np.abs(v) ** p).sum(0) ** (1 / p), dtype=evenly(TYPES, geometry, p))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("space", "window", "stride", "pads"), LARGE)
def test_large_windows_and_strides(space, window, stride, pads):
    x = np.random.default_rng(0).normal(size=(2, *space, 2)) + 2
    cells = [*windows(space, window, stride, pads)]
    options = {"window": window, "stride": stride, "padding": pads}
    assert_equals_walk(functools.partial(average_pool, **options), x, cells, lambda v, count: v.sum(0) / count)
    cubic = functools.partial(lp_pool, p=3.0, **options)
    assert_equals_walk(cubic, away_from_zero(x), cells, lambda v, _: (np.abs(v) ** 3).sum(0) ** (1 / 3))


# Of all of space: value and slope, of values [cells, b, c].
GLOBAL = {
    global_average_pool: (lambda v, _: v.mean(0), None),
    global_max_pool: (lambda v, _: v.max(0), first_maximum),
    global_average_max_pool: (lambda v, _: (v.mean(0) + v.max(0)) / 2, lambda v, _: (1 / len(v) + first_maximum(v, _)) / 2),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("function", list(GLOBAL))
@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.tuples(st.integers(1, 7), st.integers(1, 6), st.integers(1, 5)))
def test_global_pools_are_of_all_space(function, sizes):
    space = sizes[: evenly((1, 2, 3), sizes)]
    x = np.random.default_rng(0).integers(-9, -5, size=(3, *space, 2)).astype(float)  # ties everywhere
    value, slope = GLOBAL[function]
    dtype = evenly(TYPES, function.__name__, sizes)
    cells = [((0,) * len(space), [*np.ndindex(space)], None)]
    assert_equals_walk(lambda x: jnp.expand_dims(function(x), range(1, 1 + len(space))), x, cells, value, slope=slope, dtype=dtype)


WINDOWED = [max_pool, average_pool, lp_pool, l2_pool, probability_weighted_pool, functools.partial(stochastic_pool, jax.random.key(0))]


@pytest.mark.parametrize("function", [*WINDOWED, adaptive_average_pool, adaptive_max_pool, max_blur_pool])
def test_nan_is_handed_on(function):
    x = np.random.default_rng(0).random((1, 4, 4, 1)).astype(np.float32)
    x[0, 1, 0, 0] = np.nan
    for value in jax.jit(lambda x: (function(x, 2), jax.vjp(lambda x: function(x, 2), x)[0]))(x):
        assert np.isnan(np.asarray(value)[0, 0, 0, 0])
        if function is not max_blur_pool:  # a blur spreads it
            assert np.isfinite(np.asarray(value)[0, 1, 1, 0])


@pytest.mark.parametrize("function", list(GLOBAL))
def test_nan_is_handed_on_from_anywhere(function):
    x = np.random.default_rng(0).random((2, 3, 4, 2)).astype(np.float32)
    x[0, 1, 2, 1] = np.nan
    np.testing.assert_array_equal(np.isnan(jax.jit(function)(x)), [[False, True], [False, False]])


def test_half_precision_is_summed_in_full():
    x = jnp.full((1, 1024, 1), 1.01, jnp.bfloat16)
    for value in (average_pool(x, 1024), adaptive_average_pool(x, 1), global_average_pool(x), lp_pool(x, 1024, p=1.0) / 1024):
        np.testing.assert_allclose(float(value.reshape(())), float(x[0, 0, 0]), rtol=4e-3)


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0])
def test_gradients_of_norms_are_finite_and_0_where_there_is_none(p):
    @jax.jit
    def both(x):
        return [jax.value_and_grad(lambda x, w=window: lp_pool(x, w, p=p).sum())(x) for window in (2, 7)]

    for value in (0.0, 1e-30, -1e4, 1e30):
        for result, gradient in both(jnp.full((1, 7, 7, 1), value).at[0, 0, 0, 0].set(0)):
            assert np.isfinite(result)
            assert np.isfinite(gradient).all()
            assert gradient[0, 0, 0, 0] == 0
            assert (gradient != 0).any() == (value != 0)


def test_high_powers_do_not_overflow():
    x = jnp.array([1e4, 1e4, 1e-4, 0.0]).reshape(1, 4, 1)
    np.testing.assert_allclose(lp_pool(x, 2, p=20.0)[0, :, 0], [1e4 * 2**0.05, 1e-4], rtol=1e-5)


def test_each_pooling_can_be_found_by_name_in_the_program():
    x, key = jnp.ones((1, 8, 8, 2)), jax.random.key(0)
    calls = {
        "stochastic_pool": lambda x: stochastic_pool(key, x, 2),
        "blur_pool": blur_pool,
        **{name: getattr(pool, name) for name in pool.__all__ if name.startswith("global")},
    }
    for name in pool.__all__:
        call = calls.get(name) or functools.partial(getattr(pool, name), **{("output_size" if "adaptive" in name else "window"): 2})
        scopes = [str(eqn.source_info.name_stack) for eqn in jax.make_jaxpr(call)(x).jaxpr.eqns]
        assert scopes
        assert all(scope.split("/")[0] == name for scope in scopes), (name, scopes)


@pytest.mark.usefixtures("unchecked")
def test_other_arguments_are_checked():
    x = jnp.zeros((1, 5, 4, 2))
    for p in (0.0, -1.0, float("inf"), float("nan"), "2"):
        with pytest.raises(ValueError, match=f"p={p!r} must be positive and finite"):
            lp_pool(x, 2, p=p)
    with pytest.raises(ValueError, match="dilation=0"):
        max_pool(x, 2, dilation=0)
    with pytest.raises(ValueError, match=r"spans \(5, 5\) does not fit into the space \(5, 4\)"):
        max_pool(x, 3, dilation=2)
    for function in GLOBAL:
        with pytest.raises(ValueError, match="1 to 3 spatial axes"):
            function(jnp.zeros((5, 2)))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.bool_])
@pytest.mark.parametrize(
    "function",
    [
        functools.partial(average_pool, window=2), functools.partial(lp_pool, window=2), functools.partial(l2_pool, window=2),
        functools.partial(adaptive_average_pool, output_size=2), functools.partial(probability_weighted_pool, window=2), blur_pool,
        functools.partial(max_blur_pool, window=2), global_average_pool, global_average_max_pool,
        lambda x: stochastic_pool(jax.random.key(0), x, 2),
    ],
)  # fmt: skip
def test_what_is_computed_of_whole_numbers_is_float32(function, dtype):
    x = np.random.default_rng(3).integers(0, 2 if dtype == jnp.bool_ else 100, size=(2, 5, 4, 3))
    value, expected = function(jnp.array(x, dtype)), function(jnp.array(x, jnp.float32))
    assert value.dtype == jnp.float32
    np.testing.assert_array_equal(value, expected)


def test_the_average_of_mean_and_maximum_does_not_overflow():
    x = jnp.full((1, 4, 1), 6e4, jnp.float16)
    value = global_average_max_pool(x)
    assert value.dtype == jnp.float16
    np.testing.assert_array_equal(value, x[:, 0])
