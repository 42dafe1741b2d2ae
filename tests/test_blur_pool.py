"""Blurred pooling against loops over its taps, whatever the border; and what it is for."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax.ops.blur_pool import blur_pool, max_blur_pool
from cnn_jax.ops.max_pool import max_pool
from cnn_jax.ops.padding import BORDERS
from tests.even_choice import TYPES, evenly
from tests.walked_windows import assert_agrees, assert_equals_walk, first_maximum, geometries, pooled, pulled_back, windows


def beyond(i, n, border):
    """Where along n positions a blur looks that reaches for position i; None for a zero."""
    if 0 <= i < n:
        return i
    return {"zeros": None, "replicate": 0 if i < 0 else n - 1, "circular": i % n, "reflect": -i if i < 0 else 2 * (n - 1) - i}[border]


def row_of_pascal(k):
    """Binomial weights, by averaging neighbours."""
    row = [1.0]
    for _ in range(k - 1):
        row = [(a + b) / 2 for a, b in itertools.pairwise([0, *row, 0])]
    return row


def taps(space, window, stride, border):
    """For each place the cells its taps see, one as often as it is seen, and the weights [cells, 1, 1]."""
    rows = [row_of_pascal(k) for k in window]
    for place in itertools.product(*(range(len(range(0, n, s))) for n, s in zip(space, stride, strict=True))):
        found = []
        for tap in np.ndindex(*window):
            at = [i * s + t - (k - 1) // 2 for i, s, t, k in zip(place, stride, tap, window, strict=True)]
            cell = tuple(beyond(i, n, border) for i, n in zip(at, space, strict=True))
            if None not in cell:
                found.append((cell, np.prod([row[t] for row, t in zip(rows, tap, strict=True)])))
        cells, weights = zip(*found, strict=True)
        yield place, cells, np.reshape(weights, (-1, 1, 1))


def weighted(v, weights):
    return (weights * v).sum(0)


def slope_of_weighted(v, weights):
    return np.broadcast_to(weights, v.shape)


@st.composite
def blurs(draw):
    """Sizes, window, stride and border of one to three axes; a border is as wide as its values reach, at most."""
    three_axes = [(draw(st.integers(1, k)), draw(st.integers(1, 3)), draw(st.integers(0, 4))) for k in (6, 5, 4)]
    border = evenly(sorted(BORDERS), three_axes)
    axes = three_axes[3 - evenly((1, 2, 3), border, three_axes) :]
    reach = {"reflect": 1, "circular": 0}
    space = tuple(more + (max(k // 2 + reach[border], 1) if border in reach else 1) for k, _, more in axes)
    return space, tuple(k for k, _, _ in axes), tuple(s for _, s, _ in axes), border


@pytest.mark.usefixtures("float64")
@settings(max_examples=15, deadline=None, derandomize=True)
@given(blurs())
def test_blur_pool_equals_a_loop_over_its_taps(blur):
    space, window, stride, border = blur
    x = np.random.default_rng(0).normal(size=(2, *space, 2)) + 1
    ours = functools.partial(blur_pool, window=window, stride=stride, border=border)
    assert_equals_walk(ours, x, taps(*blur), weighted, slope=slope_of_weighted, dtype=evenly(TYPES, blur))


@pytest.mark.usefixtures("float64")
@settings(max_examples=15, deadline=None, derandomize=True)
@given(geometries(), st.integers(1, 3))
def test_max_blur_pool_blurs_the_maxima(geometry, blur):
    space, window, stride, pads, _, _ = geometry
    x = np.random.default_rng(0).integers(-9, -5, size=(2, *space, 2)).astype(float)
    maxima = [*windows(space, window, (1,) * len(space), pads)]
    between = [1 + max(place[i] for place, _, _ in maxima) for i in range(len(space))]
    blur = tuple(min(blur, 2 * n - 1) for n in between)  # a reflection needs values
    blurs = [*taps(between, blur, stride, "reflect")]

    def highest(x):
        return pooled(x, maxima, lambda v, _: v.max(0))

    def gradient(x, cotangent):
        return pulled_back(x, maxima, pulled_back(highest(x), blurs, cotangent, slope_of_weighted), first_maximum)

    ours = functools.partial(max_blur_pool, window=window, blur=blur, stride=stride, padding=pads)
    assert_agrees(ours, x, lambda x: pooled(highest(x), blurs, weighted), gradient, dtype=evenly(TYPES, geometry))


def test_defaults_are_the_papers():
    """Three taps, stride two, mirrored borders; no padding before the maximum."""
    x = np.random.default_rng(0).normal(size=(1, 7, 6, 2)).astype(np.float32)
    expected = pooled(x, taps((7, 6), (3, 3), (2, 2), "reflect"), weighted)
    np.testing.assert_allclose(jax.jit(blur_pool)(x), expected, rtol=1e-5, atol=1e-6)
    maxima = pooled(x, windows((7, 6), (2, 2), (1, 1), ((0, 0),) * 2), lambda v, _: v.max(0))
    expected = pooled(maxima, taps((6, 5), (3, 3), (2, 2), "reflect"), weighted)
    np.testing.assert_allclose(jax.jit(lambda x: max_blur_pool(x, 2))(x), expected, rtol=1e-5, atol=1e-6)


def test_a_blurred_picture_moves_less_when_its_input_moves():
    """What it is for: a shift by one before pooling by two changes max pooling's output more than max and blur."""
    x = np.random.default_rng(0).random((4, 32, 32, 3)).astype(np.float32)
    moved = np.roll(x, 1, axis=2)

    def change(f):
        a, b = (np.asarray(jax.jit(f)(v)) for v in (x, moved))
        return np.abs(a - b)[:, :, 2:-2].mean() / a.std()

    assert change(lambda x: max_blur_pool(x, 2)) < 0.85 * change(lambda x: max_pool(x, 2))


@pytest.mark.usefixtures("unchecked")
def test_blurs_that_do_not_fit_are_named():
    x = jnp.zeros((1, 4, 4, 2))
    for call, message in [
        (lambda: blur_pool(jnp.zeros((1, 1, 2))), "too wide for 1 values"),
        (lambda: blur_pool(jnp.zeros((5, 2))), "1 to 3 spatial axes"),
        (lambda: blur_pool(x, window=0), "window=0 must be whole numbers of at least 1"),
        (lambda: blur_pool(x, window=(3, 3, 3)), r"window=\(3, 3, 3\) has 3 number.s. for 2 spatial axes"),
        (lambda: blur_pool(x, stride=-2), "stride=-2 must be whole numbers of at least 1"),
        (lambda: blur_pool(x, border="reflekt"), "border='reflekt' is unknown .did you mean reflect"),
        (lambda: blur_pool(x, window=12, border="circular"), r"circular border of \(5, 6\) is too wide for 4 values"),
        (lambda: max_blur_pool(x, 5), r"does not fit into the space \(4, 4\)"),
        (lambda: max_blur_pool(x, 2, padding=2), "padding=2 must be at most half"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
