"""Stochastic pooling: what is drawn is of the window and as frequent as the formula says; its expectation against a walk."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from cnn_jax.ops.stochastic_pool import probability_weighted_pool, stochastic_pool
from tests.even_choice import TYPES, evenly
from tests.walked_windows import assert_equals_walk, geometries, pooled, pulled_back, values_of, windows


def options_of(geometry):
    _, window, stride, pads, _, ceil_mode = geometry
    return {"window": window, "stride": stride, "padding": pads, "ceil_mode": ceil_mode}


def cells_of(geometry):
    space, window, stride, pads, _, ceil_mode = geometry
    return [*windows(space, window, stride, pads, None, ceil_mode)]


def all_different(space, generator):
    """A quarter of values are negative, the others within a factor of about four: any is drawn often. bfloat16 holds them exactly."""
    n = np.prod(space)
    return generator.permutation([-1 - i if i < n / 4 else i for i in range(n)]).reshape(space).astype(float)


def drawn_or_zero(v, y):
    """What may have been drawn: y if it is positive and in the window, 0 if nothing there is positive, else NaN."""
    return np.where((v > 0).any(0), np.where((v == y).any(0) & (y > 0), y, np.nan), 0)


@pytest.mark.usefixtures("float64")
@settings(max_examples=15, deadline=None, derandomize=True)
@given(geometries(), st.integers(0, 99))
def test_draws_are_of_the_window_have_its_gradient_and_are_as_frequent_as_the_formula_says(geometry, seed):
    num, rng, dtype = 1500, np.random.default_rng(seed), evenly(TYPES, geometry, seed)
    x = np.tile(all_different(geometry[0], rng)[None, ..., None], (num, *(1,) * len(geometry[0]), 2))  # examples and channels are alike
    ours = functools.partial(stochastic_pool, jax.random.key(seed), **options_of(geometry))

    @jax.jit
    def drawn_with_gradient(x):
        drawn, pullback = jax.vjp(ours, x)
        cotangent = jnp.array(rng.integers(-9, 10, size=drawn.shape), dtype)  # sums of whole numbers are exact in any type
        return drawn, cotangent, *pullback(cotangent)

    found = drawn_with_gradient(jnp.array(x, dtype))
    assert all(a.dtype == dtype for a in found)
    drawn, cotangent, gradient = (np.asarray(a, np.float64) for a in found)
    chosen = [(place, inside, drawn[(slice(None), *place)]) for place, inside, _ in cells_of(geometry)]
    np.testing.assert_array_equal(drawn, pooled(x, chosen, drawn_or_zero))
    np.testing.assert_array_equal(gradient, pulled_back(x, chosen, cotangent, lambda v, y: v == y))
    check_frequencies([(values_of(x[:1], inside)[:, 0, 0], y) for _, inside, y in chosen])


def check_frequencies(draws):
    """Of (values of a window, draws [b, 2]), Pearson's statistic: too large with other shares, too small without chance; and in pairs."""
    statistic = freedom = 0
    for v, y in draws:
        v = v[v > 0]
        shares = v / v.sum()
        counts, expected = (y == v[:, None, None]).sum((1, 2)), y.size * shares
        statistic += ((counts - expected) ** 2 / expected).sum()
        freedom += max(v.size - 1, 0)
        alike = (shares**2).sum()  # two channels, or two examples, draw the same as often as independent draws do
        for a, b in ((y[:, 0], y[:, 1]), (y[1:, 0], y[:-1, 0])):
            assert not v.size or abs((a == b).mean() - alike) <= 5 * np.sqrt(alike * (1 - alike) / len(y)) + 1e-12
    assert not freedom or chi2.ppf(1e-5, freedom) < statistic < chi2.isf(1e-5, freedom)


@pytest.mark.usefixtures("float64")
@settings(max_examples=15, deadline=None, derandomize=True)
@given(geometries(), st.integers(0, 99))
def test_probability_weighted_is_the_mean_of_the_draw(geometry, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, *geometry[0], 2)) * (rng.random((2, *geometry[0], 2)) < 0.8)  # as after a ReLU and before

    def total(v):
        return np.maximum(v, 0).sum(0)

    def mean(v, _):
        return np.where(total(v) > 0, (np.maximum(v, 0) ** 2).sum(0) / np.where(total(v) > 0, total(v), 1), 0)

    def slope(v, extra):
        """∂/∂a_i Σ a² / Σ a = (2 a_i − mean) / Σ a; 0 for what is not positive, as it is never drawn."""
        return np.where(v > 0, (2 * v - mean(v, extra)) / np.where(total(v) > 0, total(v), 1), 0)

    ours = functools.partial(probability_weighted_pool, **options_of(geometry))
    assert_equals_walk(ours, x, cells_of(geometry), mean, slope=slope, dtype=evenly(TYPES, geometry, seed))


def test_the_mean_of_extreme_values_has_a_finite_gradient():
    @jax.jit
    def both(x):
        return [jax.value_and_grad(lambda x, w=window: probability_weighted_pool(x, w).sum())(x) for window in (2, 7)]

    for value in (0.0, 1e-30, -1e4, 1e30):
        for num, (result, gradient) in zip((9, 1), both(jnp.full((1, 7, 7, 1), value).at[0, 0, 0, 0].set(0)), strict=True):
            np.testing.assert_allclose(result, num * max(value, 0), rtol=1e-6)
            assert np.isfinite(gradient).all()


def test_what_is_drawn_belongs_to_the_place_in_the_global_batch():
    x = jnp.array(np.random.default_rng(0).random((8, 6, 2)), jnp.float32)
    whole = stochastic_pool(jax.random.key(3), x, 3)
    np.testing.assert_array_equal(jax.vjp(lambda x: stochastic_pool(jax.random.key(3), x, 3), x)[0], whole)  # its gradient is asked for
    ours = functools.partial(stochastic_pool, jax.random.key(3), window=3, axis_name="batch")
    np.testing.assert_array_equal(jax.pmap(ours, axis_name="batch")(x.reshape(4, 2, 6, 2)).reshape(8, 2, 2), whole)
    assert len({tuple(row) for row in np.asarray(stochastic_pool(jax.random.key(3), jnp.tile(x[:1], (8, 1, 1)), 3))[..., 0].tolist()}) > 1
