"""Pooling by walking: a slow oracle that visits one window after another, and has its slopes from differences of the definition."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from tests.even_choice import evenly

# Relative, of values and of gradients. Slopes are differences, good to 1e-6; in bfloat16 a value is rounded once, a gradient is a sum.
TOLERANCES = {"float64": (1e-11, 1e-6), "float32": (1e-5, 1e-5), "bfloat16": (2**-8, 2e-2)}

# Sizes, window, stride and padding that random cases are too small for.
LARGE = [
    ((9, 8), (7, 6), (1, 1), ((3, 3), (2, 3))),  # many taps: axis by axis, in loops
    ((45, 2), (40, 1), (2, 1), ((0, 1), (0, 0))),
    ((80,), (40,), (40,), ((0, 0),)),
    ((70,), (2,), (35,), ((1, 0),)),
    ((4, 5, 6), (4, 3, 4), (2, 1, 2), ((1, 0), (0, 1), (2, 2))),
    ((6, 6), (7, 7), (7, 7), ((3, 3), (3, 3))),
]


@st.composite
def geometries(draw, dilated=False):
    """Sizes, window, stride, padding, dilation, ceil mode of one to three axes that fit."""
    axes = []
    for longest in (7, 6, 5):
        k = draw(st.integers(1, 3))
        d = draw(st.integers(1, 2)) if dilated and k < 3 else 1
        half = ((k - 1) * d + 1) // 2
        pad = draw(st.integers(0, half)), draw(st.integers(0, half))
        axes.append((draw(st.integers(3, longest)), k, draw(st.integers(1, 3)), pad, d))
    num = evenly((1, 2, 3), axes)
    return *zip(*axes[3 - num :], strict=True), draw(st.booleans())


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
    """The array of value(values of the window [cells, b, c], what comes with it) over all windows."""
    found = [(place, value(values_of(x, inside), extra)) for place, inside, extra in cells]
    out = np.zeros((len(x), *(1 + max(place[i] for place, _ in found) for i in range(x.ndim - 2)), x.shape[-1]))
    for place, v in found:
        out[(slice(None), *place)] = v
    return out


def pulled_back(x, cells, cotangent, slope):
    """The gradient: each window's cotangent, times the slope [cells, b, c] of its value, where its cells are."""
    out = np.zeros(x.shape)
    for place, inside, extra in cells:
        pieces = slope(values_of(x, inside), extra) * cotangent[(slice(None), *place)]
        for cell, piece in zip(inside, pieces, strict=True):
            out[(slice(None), *cell)] += piece
    return out


def values_of(x, cells):
    return np.array([x[(slice(None), *c)] for c in cells]).reshape(len(cells), len(x), x.shape[-1])


def first_maximum(v, _):
    """The slope of a maximum: all to the first of the largest values."""
    return np.arange(len(v))[:, None, None] == v.argmax(0)


def differences(value, step=1e-6):
    """The slope of a smooth value."""

    def slope(v, extra):
        steps = step * np.eye(len(v))[:, :, None, None]
        return np.array([(value(v + h, extra) - value(v - h, extra)) / (2 * step) for h in steps]).reshape(v.shape)

    return slope


def assert_equals_walk(function, x, cells, value, *, slope=None, dtype="float64"):
    """Value and gradient of `function`, in that type, against `value` of each window and its `slope`. Needs the fixture float64."""
    cells, slope = list(cells), slope or differences(value)
    assert_agrees(function, x, lambda x: pooled(x, cells, value), lambda x, dy: pulled_back(x, cells, dy, slope), dtype=dtype)


def assert_agrees(function, x, oracle, gradient, *, dtype):
    """The same against `oracle(x)` and `gradient(x, cotangent)`."""
    x = jnp.array(x, dtype)
    seen = np.asarray(x, np.float64)
    expected = oracle(seen)
    cotangent = jnp.array(np.random.default_rng(1000).normal(size=expected.shape), dtype)

    @jax.jit
    def ours(x):
        value, pullback = jax.vjp(function, x)
        return value, pullback(cotangent)[0]

    value, slopes = ours(x)
    assert value.dtype == dtype
    rtol, slope_rtol = TOLERANCES[dtype]
    largest = np.abs(expected).max()
    np.testing.assert_allclose(np.asarray(value, np.float64), expected, rtol=rtol, atol=min(rtol, 1e-6) * largest)
    expected = gradient(seen, np.asarray(cotangent, np.float64))
    np.testing.assert_allclose(np.asarray(slopes, np.float64), expected, rtol=slope_rtol, atol=slope_rtol * np.abs(expected).max())
