"""Every pooling against loops over the definition, in float64, value and gradient; ties, NaN, sizes, errors."""

import functools
import itertools

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

pytestmark = pytest.mark.usefixtures("quick_compilation")

random_cases = settings(max_examples=10, deadline=None, derandomize=True)


def starts(n, k, s, pad, ceil_mode):
    """Where windows of span k start, by walking: on until one reaches the end of the padding, or none fits any more."""
    at, found = -pad[0], []
    while at < n if ceil_mode else at + k <= n + pad[1]:
        found.append(at)
        if at + k >= n + pad[1]:
            break
        at += s
    return found


def windows(space, window, stride, pads, dilation=None, ceil_mode=False):
    """For each place its window's cells inside the input, in row-major order, and how many cells it has inside input and padding."""
    dilation = dilation or (1,) * len(space)
    rows = [
        [[a + t * d for t in range(k)] for a in starts(n, (k - 1) * d + 1, s, pad, ceil_mode)]
        for n, k, s, pad, d in zip(space, window, stride, pads, dilation, strict=True)
    ]
    for place in itertools.product(*(range(len(r)) for r in rows)):
        cells = list(itertools.product(*(r[p] for r, p in zip(rows, place, strict=True))))
        inside = [c for c in cells if all(0 <= i < n for i, n in zip(c, space, strict=True))]
        padded = [c for c in cells if all(-pad[0] <= i < n + pad[1] for i, n, pad in zip(c, space, pads, strict=True))]
        yield place, inside, len(padded)


def pooled(x, cells, value):
    """The array of value(values of the window [cells, b, c], cells with padding) over all windows."""
    found = [(place, value(np.array([x[(slice(None), *c)] for c in inside]), count)) for place, inside, count in cells]
    out = np.zeros((len(x), *(1 + max(place[i] for place, _ in found) for i in range(x.ndim - 2)), x.shape[-1]))
    for place, v in found:
        out[(slice(None), *place)] = v
    return out


def first_maximum_gradient(x, cells, cotangent):
    """All of a window's cotangent to the first of its largest values."""
    out = np.zeros(x.shape)
    for place, inside, _ in cells:
        for b, c in itertools.product(range(len(x)), range(x.shape[-1])):
            best = max(inside, key=lambda cell: x[(b, *cell, c)])  # the first of equal ones
            out[(b, *best, c)] += cotangent[(b, *place, c)]
    return out


@st.composite
def geometries(draw, dilated=False):
    """Sizes, window, stride, padding, dilation, ceil mode of one to three axes that fit."""
    axes = draw(st.integers(1, 3))
    space = tuple(draw(st.integers(3, 8 - axes)) for _ in range(axes))
    window = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    dilation = tuple(draw(st.integers(1, 2)) if dilated and k < 3 else 1 for k in window)
    stride = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    half = [((k - 1) * d + 1) // 2 for k, d in zip(window, dilation, strict=True)]
    pads = tuple((draw(st.integers(0, h)), draw(st.integers(0, h))) for h in half)
    return space, window, stride, pads, dilation, draw(st.booleans())


def with_gradient(function, x, cotangent_seed=1):
    value, back = jax.vjp(function, jnp.array(x))
    cotangent = np.random.default_rng(cotangent_seed).normal(size=value.shape)
    return np.asarray(value), np.asarray(back(jnp.asarray(cotangent, value.dtype))[0]), cotangent


def check_slope(oracle, x, gradient, cotangent, rtol=1e-6):
    """The gradient against the oracle's change along a random direction."""
    direction, h = np.random.default_rng(2).normal(size=x.shape), 1e-6
    slope = ((oracle(x + h * direction) - oracle(x - h * direction)) / (2 * h) * cotangent).sum()
    np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=rtol, atol=1e-7)


@pytest.mark.usefixtures("float64")
@given(geometries(dilated=True))
@random_cases
def test_max_pool_and_its_first_maximum(geometry):
    space, window, stride, pads, dilation, ceil_mode = geometry
    x = np.random.default_rng(0).integers(-9, -5, size=(2, *space, 2)).astype(float)  # ties everywhere; a zero would win
    cells = [*windows(space, window, stride, pads, dilation, ceil_mode)]
    if not all(inside for _, inside, _ in cells):  # dilated taps that all miss the input: the maximum of nothing
        return
    ours = functools.partial(max_pool, window=window, stride=stride, padding=pads, dilation=dilation, ceil_mode=ceil_mode)
    value, gradient, cotangent = with_gradient(jax.jit(ours), x)
    np.testing.assert_array_equal(value, pooled(x, cells, lambda v, _: v.max(0)))
    np.testing.assert_array_equal(ours(jnp.array(x)), value)  # without gradient another algorithm computes it
    np.testing.assert_allclose(gradient, first_maximum_gradient(x, cells, cotangent), rtol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("space", "window", "stride", "pads"),
    [
        ((9, 8), (7, 6), (1, 1), ((3, 3), (2, 3))),  # many taps: axis by axis, in loops
        ((45, 2), (40, 1), (2, 1), ((0, 1), (0, 0))),
        ((80,), (40,), (40,), ((0, 0),)),
        ((70,), (2,), (35,), ((1, 0),)),
        ((4, 5, 6), (4, 3, 4), (2, 1, 2), ((1, 0), (0, 1), (2, 2))),
        ((6, 6), (7, 7), (7, 7), ((3, 3), (3, 3))),
    ],
)
def test_large_windows_and_strides(space, window, stride, pads):
    x = np.random.default_rng(0).integers(-9, -6, size=(2, *space, 2)).astype(float)
    cells = [*windows(space, window, stride, pads)]
    options = {"window": window, "stride": stride, "padding": pads}
    value, gradient, cotangent = with_gradient(jax.jit(functools.partial(max_pool, **options)), x)
    np.testing.assert_array_equal(value, pooled(x, cells, lambda v, _: v.max(0)))
    np.testing.assert_array_equal(max_pool(jnp.array(x), **options), value)
    np.testing.assert_allclose(gradient, first_maximum_gradient(x, cells, cotangent), rtol=1e-12)
    value, gradient, cotangent = with_gradient(jax.jit(functools.partial(average_pool, **options)), x)
    oracle = functools.partial(pooled, cells=cells, value=lambda v, count: v.sum(0) / count)
    np.testing.assert_allclose(value, oracle(x), rtol=1e-12)
    check_slope(oracle, x, gradient, cotangent)
    value, gradient, cotangent = with_gradient(jax.jit(functools.partial(lp_pool, p=3.0, **options)), x)
    oracle = functools.partial(pooled, cells=cells, value=lambda v, _: (np.abs(v) ** 3).sum(0) ** (1 / 3))
    np.testing.assert_allclose(value, oracle(x), rtol=1e-12)
    check_slope(oracle, x, gradient, cotangent)


@pytest.mark.usefixtures("float64")
@given(geometries(), st.booleans())
@random_cases
def test_average_pool_counts_as_it_says(geometry, count_include_pad):
    space, window, stride, pads, _, ceil_mode = geometry
    x = np.random.default_rng(0).normal(size=(2, *space, 2)) + 3
    cells = [*windows(space, window, stride, pads, None, ceil_mode)]

    @jax.jit
    def ours(x):
        options = {"stride": stride, "padding": pads, "ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
        return average_pool(x, window, **options)

    def oracle(x):
        return pooled(x, cells, lambda v, count: v.sum(0) / (count if count_include_pad else len(v)))

    value, gradient, cotangent = with_gradient(ours, x)
    np.testing.assert_allclose(value, oracle(x), rtol=1e-12)
    check_slope(oracle, x, gradient, cotangent)


@pytest.mark.usefixtures("float64")
@given(geometries(), st.sampled_from([0.5, 1.0, 1.7, 2.0, 3.0, 8.0]))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_lp_pool_is_the_norm(geometry, p):
    space, window, stride, pads, _, ceil_mode = geometry
    x = np.random.default_rng(0).normal(size=(2, *space, 2))
    cells = [*windows(space, window, stride, pads, None, ceil_mode)]
    oracle = functools.partial(pooled, cells=cells, value=lambda v, _: (np.abs(v) ** p).sum(0) ** (1 / p))
    ours = jax.jit(functools.partial(lp_pool, window=window, p=p, stride=stride, padding=pads, ceil_mode=ceil_mode))
    value, gradient, cotangent = with_gradient(ours, x)
    np.testing.assert_allclose(value, oracle(x), rtol=1e-11)
    check_slope(oracle, x, gradient, cotangent, rtol=1e-5)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("space", [(7,), (6, 5), (4, 3, 5)])
@pytest.mark.parametrize("sizes", [(1, 2, 1), (3, 4, 2), (8, 3, 6)])
def test_adaptive_pools_cover_all(space, sizes):
    sizes = sizes[: len(space)]
    x = np.random.default_rng(0).integers(-9, -5, size=(2, *space, 2)).astype(float)
    cells = []
    for place in itertools.product(*map(range, sizes)):
        rows = [range(int(np.floor(i * n / m)), int(np.ceil((i + 1) * n / m))) for i, n, m in zip(place, space, sizes, strict=True)]
        cells.append((place, [*itertools.product(*rows)], 0))
    value, gradient, cotangent = with_gradient(jax.jit(lambda x: adaptive_average_pool(x, sizes)), x)
    oracle = functools.partial(pooled, cells=cells, value=lambda v, _: v.mean(0))
    np.testing.assert_allclose(value, oracle(x), rtol=1e-12)
    check_slope(oracle, x, gradient, cotangent)
    value, gradient, cotangent = with_gradient(jax.jit(lambda x: adaptive_max_pool(x, sizes)), x)
    np.testing.assert_array_equal(value, pooled(x, cells, lambda v, _: v.max(0)))
    np.testing.assert_allclose(gradient, first_maximum_gradient(x, cells, cotangent), rtol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("space", [(7,), (4, 3), (2, 3, 2)])
def test_global_pools(space):
    x = np.random.default_rng(0).integers(-9, -6, size=(2, *space, 3)).astype(float)
    axes = tuple(range(1, x.ndim - 1))
    np.testing.assert_allclose(global_average_pool(jnp.array(x)), x.mean(axes), rtol=1e-12)
    np.testing.assert_allclose(global_average_max_pool(jnp.array(x)), 0.5 * (x.mean(axes) + x.max(axes)), rtol=1e-12)
    value, gradient, cotangent = with_gradient(global_max_pool, x)
    np.testing.assert_array_equal(value, x.max(axes))
    cells = [((0,) * len(space), [*np.ndindex(space)], 0)]
    expected = first_maximum_gradient(x, cells, cotangent.reshape(2, *(1,) * len(space), 3))
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("space", "window", "stride"), [((7,), 3, 2), ((8, 5), 3, 2), ((6, 7), (4, 5), (3, 2)), ((5, 4, 6), (3, 1, 2), 2), ((5,), 1, 2)]
)
def test_blur_pool_equals_a_loop(space, window, stride):
    n = len(space)
    ks, ss = ((v,) * n if isinstance(v, int) else v for v in (window, stride))
    binomial = {1: [1], 2: [1, 1], 3: [1, 2, 1], 4: [1, 3, 3, 1], 5: [1, 4, 6, 4, 1]}
    before = {1: 0, 2: 0, 3: 1, 4: 1, 5: 2}

    def oracle(x):
        sizes = [-(-m // s) for m, s in zip(space, ss, strict=True)]
        out = np.zeros((len(x), *sizes, x.shape[-1]))
        for place in np.ndindex(*sizes):
            for tap in np.ndindex(*ks):
                at = [i * s + t - before[k] for i, s, t, k in zip(place, ss, tap, ks, strict=True)]
                mirrored = [-i if i < 0 else 2 * (m - 1) - i if i >= m else i for i, m in zip(at, space, strict=True)]
                weight = np.prod([binomial[k][t] / 2 ** (k - 1) for k, t in zip(ks, tap, strict=True)])
                out[(slice(None), *place)] += weight * x[(slice(None), *mirrored)]
        return out

    x = np.random.default_rng(0).normal(size=(2, *space, 2))
    value, gradient, cotangent = with_gradient(jax.jit(lambda x: blur_pool(x, window=window, stride=stride)), x)
    np.testing.assert_allclose(value, oracle(x), rtol=1e-11, atol=1e-12)
    check_slope(oracle, x, gradient, cotangent)
    if window == 3:
        maxima = pooled(x, windows(space, ks, (1,) * n, ((1, 1),) * n), lambda v, _: v.max(0))
        np.testing.assert_allclose(max_blur_pool(jnp.array(x), 3, padding=1), oracle(maxima), rtol=1e-11, atol=1e-12)


def test_a_blurred_picture_moves_less_when_its_input_moves():
    """What it is for: a shift by one before pooling by two changes max pooling's output more than max and blur."""
    x = np.random.default_rng(0).random((4, 32, 32, 3)).astype(np.float32)
    moved = jnp.array(np.roll(x, 1, axis=2))

    def change(f):
        a, b = np.asarray(f(jnp.array(x))), np.asarray(f(moved))
        return np.abs(a - b)[:, :, 2:-2].mean() / a.std()

    assert change(lambda x: max_blur_pool(x, 2)) < 0.85 * change(lambda x: max_pool(x, 2))


@pytest.mark.usefixtures("float64")
def test_stochastic_pool_draws_in_proportion():
    x = np.tile(np.array([[1.0, 3.0, 0.0, 4.0, -5.0, 0.0, 0.0, 0.0]]).reshape(1, 2, 4, 1), (4000, 1, 1, 1))
    drawn = np.asarray(stochastic_pool(jax.random.key(0), jnp.array(x), 2))[:, 0, :, 0]
    values, counts = np.unique(drawn[:, 0], return_counts=True)
    assert values.tolist() == [1.0, 3.0]
    np.testing.assert_allclose(counts / 4000, [0.25, 0.75], atol=0.03)  # 4 standard deviations
    assert set(drawn[:, 1]) == {4.0}
    assert (np.asarray(stochastic_pool(jax.random.key(0), -jnp.abs(jnp.array(x)), 2)) == 0).all()
    np.testing.assert_allclose(probability_weighted_pool(jnp.array(x), 2)[0, 0, :, 0], [2.5, 4.0], rtol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("space", "window", "stride", "pad"), [((9,), (3,), (2,), 1), ((6, 5), (3, 2), (2, 2), 1), ((3, 4, 3), (2, 2, 2), (1, 2, 1), 0)]
)
def test_stochastic_pool_draws_from_its_windows(space, window, stride, pad):
    x = np.maximum(np.random.default_rng(0).normal(size=(3, *space, 2)), 0)
    cells = [*windows(space, window, stride, ((pad, pad),) * len(space))]
    ours = functools.partial(stochastic_pool, jax.random.key(1), window=window, stride=stride, padding=pad)
    value, gradient, cotangent = with_gradient(jax.jit(ours), x)
    expected = np.zeros(x.shape)  # each value drawn is in its window; with values all different that tells which one it was
    for place, inside, _ in cells:
        for b, c in np.ndindex(3, 2):
            drawn = value[(b, *place, c)]
            found = [cell for cell in inside if drawn > 0 and x[(b, *cell, c)] == drawn]
            assert len(found) == (1 if any(x[(b, *cell, c)] > 0 for cell in inside) else 0)
            for cell in found:
                expected[(b, *cell, c)] += cotangent[(b, *place, c)]
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)

    oracle = functools.partial(pooled, cells=cells, value=lambda v, _: (np.maximum(v, 0) ** 2).sum(0) / np.maximum(v, 0).sum(0))
    x = np.random.default_rng(1).random(x.shape) + 0.1
    expected = jax.jit(functools.partial(probability_weighted_pool, window=window, stride=stride, padding=pad))
    value, gradient, cotangent = with_gradient(expected, x)
    np.testing.assert_allclose(value, oracle(x), rtol=1e-12)
    check_slope(oracle, x, gradient, cotangent)


def test_what_is_drawn_belongs_to_the_place_in_the_global_batch():
    x = jnp.array(np.random.default_rng(0).random((8, 6, 2)), jnp.float32)
    whole = stochastic_pool(jax.random.key(3), x, 3)
    ours = functools.partial(stochastic_pool, jax.random.key(3), window=3, axis_name="batch")
    np.testing.assert_array_equal(jax.pmap(ours, axis_name="batch")(x.reshape(4, 2, 6, 2)).reshape(8, 2, 2), whole)
    assert len({tuple(row) for row in np.asarray(stochastic_pool(jax.random.key(3), jnp.tile(x[:1], (8, 1, 1)), 3))[..., 0].tolist()}) > 1


WINDOWED = [max_pool, average_pool, lp_pool, l2_pool, probability_weighted_pool, functools.partial(stochastic_pool, jax.random.key(0))]


@pytest.mark.parametrize("function", [*WINDOWED, adaptive_average_pool, adaptive_max_pool, max_blur_pool])
def test_nan_is_handed_on_and_half_precision_kept(function):
    x = np.random.default_rng(0).random((1, 4, 4, 1)).astype(np.float32)
    exact = np.asarray(function(jnp.array(x), 2))
    half = function(jnp.array(x, jnp.bfloat16), 2)
    assert half.dtype == jnp.bfloat16
    if function is not WINDOWED[-1]:  # rounding may move a draw
        np.testing.assert_allclose(np.asarray(half, np.float32), exact, rtol=2e-2)
    x[0, 1, 0, 0] = np.nan
    value = jax.vjp(lambda x: function(x, 2), jnp.array(x))[0]
    assert np.isnan(np.asarray(value)[0, 0, 0, 0])
    assert np.isnan(np.asarray(jax.jit(lambda x: function(x, 2))(jnp.array(x)))[0, 0, 0, 0])
    if function is not max_blur_pool:
        assert np.isfinite(np.asarray(value)[0, 1, 1, 0])


def test_half_precision_is_summed_in_full():
    x = jnp.full((1, 1024, 1), 1.01, jnp.bfloat16)
    for value in (average_pool(x, 1024), adaptive_average_pool(x, 1), global_average_pool(x), lp_pool(x, 1024, p=1.0) / 1024):
        np.testing.assert_allclose(float(value.reshape(())), float(x[0, 0, 0]), rtol=4e-3)


@pytest.mark.parametrize("value", [0.0, 1e-30, -1e4, 1e30])
def test_gradients_are_finite(value):
    x = jnp.full((1, 7, 7, 1), value).at[0, 0, 0, 0].set(0)
    for function in (l2_pool, functools.partial(lp_pool, p=1.0), functools.partial(lp_pool, p=0.5), probability_weighted_pool):
        for window in (2, 7):
            result, gradient = jax.jit(jax.value_and_grad(lambda x, f=function, w=window: f(x, w).sum()))(x)
            assert np.isfinite(result)
            assert np.isfinite(gradient).all()


def test_high_powers_do_not_overflow():
    x = jnp.array([1e4, 1e4, 1e-4, 0.0]).reshape(1, 4, 1)
    np.testing.assert_allclose(lp_pool(x, 2, p=20.0)[0, :, 0], [1e4 * 2**0.05, 1e-4], rtol=1e-5)


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


def test_torchs_ceil_mode():
    """Sizes and means as torch 2.13 gives them: the last window is cut off, counted to the padding's end, and left out beyond the input."""
    ones = jnp.ones((1, 5, 1))
    assert average_pool(ones, 2, ceil_mode=True)[0, :, 0].tolist() == [1.0, 1.0, 1.0]
    np.testing.assert_allclose(average_pool(ones, 3, stride=2, padding=1, ceil_mode=True)[0, :, 0], [2 / 3, 1, 2 / 3], rtol=1e-6)
    even = average_pool(jnp.ones((1, 6, 1)), 3, stride=2, padding=1, ceil_mode=True)
    np.testing.assert_allclose(even[0, :, 0], [2 / 3, 1, 1, 0.5], rtol=1e-6)
    assert max_pool(jnp.ones((1, 3, 1)), 2, stride=3, padding=1, ceil_mode=True).shape == (1, 2, 1)
    assert max_pool(jnp.ones((1, 4, 1)), 1, stride=3, ceil_mode=True).shape == (1, 2, 1)
    assert max_pool(jnp.ones((1, 5, 1)), 1, stride=3, ceil_mode=True).shape == (1, 2, 1)
    assert max_pool(jnp.ones((1, 112, 112, 1)), 3, stride=2, ceil_mode=True).shape == (1, 56, 56, 1)


def test_padding_by_word():
    x = jnp.arange(1.0, 6.0).reshape(1, 5, 1)
    assert max_pool(x, 3, stride=2, padding="SAME")[0, :, 0].tolist() == [2.0, 4.0, 5.0]
    assert max_pool(x, 3, stride=1, padding="CAUSAL")[0, :, 0].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert average_pool(x, 3, stride=1, padding="CAUSAL", count_include_pad=False)[0, :, 0].tolist() == [1.0, 1.5, 2.0, 3.0, 4.0]
    assert max_pool(x, 2, padding="VALID")[0, :, 0].tolist() == [2.0, 4.0]


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


@pytest.mark.parametrize("function", [max_pool, average_pool, lp_pool, l2_pool, probability_weighted_pool])
def test_what_does_not_fit_is_named(function):
    x = jnp.zeros((1, 5, 4, 2))
    for inputs, options, message in [
        (jnp.zeros((5, 2)), {"window": 2}, r"1 to 3 spatial axes, none of them empty, got shape \(5, 2\)"),
        (jnp.zeros((1, 2, 2, 2, 2, 2)), {"window": 2}, "1 to 3 spatial axes"),
        (jnp.zeros((1, 0, 2)), {"window": 1}, "none of them empty"),
        (x, {"window": 0}, "window=0 must be whole numbers of at least 1"),
        (x, {"window": (2, 2, 2)}, "window=.* has 3 number.s. for 2 spatial axes"),
        (x, {"window": 2, "stride": 0}, "stride=0 must be whole numbers"),
        (x, {"window": 6}, r"window=\(6, 6\) that spans \(6, 6\) does not fit into the space \(5, 4\) with padding=0"),
        (x, {"window": 3, "padding": 2}, r"padding=2 must be at most half the window's span \(3, 3\)"),
        (x, {"window": 2, "padding": ((0, 2), (0, 0))}, "at most half"),
        (x, {"window": 2, "padding": -1}, "padding=-1 must be whole numbers of at least 0"),
        (x, {"window": 2, "padding": "SAMY"}, "did you mean SAME"),
    ]:
        with pytest.raises(ValueError, match=message):
            function(inputs, **options)


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
    for function in (adaptive_average_pool, adaptive_max_pool):
        with pytest.raises(ValueError, match="output_size=0"):
            function(x, 0)
    with pytest.raises(ValueError, match="too wide for 1 values"):
        blur_pool(jnp.zeros((1, 1, 2)))
    for function in (global_average_pool, global_max_pool, global_average_max_pool, blur_pool):
        with pytest.raises(ValueError, match="1 to 3 spatial axes"):
            function(jnp.zeros((5, 2)))


def test_a_window_that_would_see_padding_only_is_refused():
    """Such a maximum would be −∞. Dilation's taps can step over a small input."""
    for size, options in [(1, {"padding": 2}), (1, {"padding": "SAME"}), (2, {"padding": "SAME"}), (1, {"padding": ((2, 1),)})]:
        message = rf"window=\(2,\) with dilation=\(3,\).*nothing but padding=.*sizes \({size},\)"
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(functools.partial(max_pool, window=2, dilation=3, stride=1, **options), jnp.full((1, size, 1), -5.0))


def test_a_window_is_refused_only_if_it_sees_nothing():
    """All small cases on one axis, against a walk over the taps."""
    refused = 0
    for n, k, d, s, padding, ceil in itertools.product(range(1, 5), (1, 2, 3), (1, 2, 3), (1, 2), (0, 1, 2, 3, "SAME"), (False, True)):
        span = (k - 1) * d + 1
        if padding != "SAME" and (padding > span // 2 or n + 2 * padding < span):
            continue
        needed = max((-(-n // s) - 1) * s + span - n, 0)
        pad = (needed // 2, needed - needed // 2) if padding == "SAME" else (padding, padding)
        seen = [any(0 <= at + t * d < n for t in range(k)) for at in starts(n, span, s, pad, ceil)]
        function = functools.partial(max_pool, window=k, dilation=d, stride=s, padding=padding, ceil_mode=ceil)
        if all(seen):
            assert jax.eval_shape(function, jnp.zeros((1, n, 1))).shape == (1, len(seen), 1)
        else:
            refused += 1
            with pytest.raises(ValueError, match="would see nothing but padding"):
                jax.eval_shape(function, jnp.zeros((1, n, 1)))
    assert refused > 10


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
