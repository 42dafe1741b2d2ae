"""Every form of convolution against loops in float64, value and gradient, over random configurations in 1-D, 2-D and 3-D."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_jax.ops import arithmetic
from cnn_jax.ops.conv import convolve, correlate, depthwise_correlate, separable_correlate, transposed_correlate
from cnn_jax.ops.padding import pad_space
from tests.conv_cases import EXAMPLES, Case, cases, correlate_oracle

pytestmark = pytest.mark.usefixtures("quick_compilation")


def transposed_oracle(x, w, case, extra):
    """Each input spreads its kernel over the output; the padding is cut off afterwards."""
    full = [(n - 1) * s + (k - 1) * d + 1 for n, k, s, d in zip(case.space, case.window, case.stride, case.dilation, strict=True)]
    y = np.zeros((len(x), *(f + e for f, e in zip(full, extra, strict=True)), case.c_out))
    for place in itertools.product(*map(range, case.space)):
        for tap in itertools.product(*map(range, case.window)):
            at = tuple(p * s + t * d for p, s, t, d in zip(place, case.stride, tap, case.dilation, strict=True))
            for o in range(case.c_out):
                group = o // (case.c_out // case.groups)
                for c in range(case.c_in // case.groups):
                    y[(slice(None), *at, o)] += x[(slice(None), *place, group * (case.c_in // case.groups) + c)] * w[(*tap, c, o)]
    cut = tuple(slice(b, y.shape[i + 1] - a) for i, (b, a) in enumerate(case.pads))
    return y[(slice(None), *cut)]


def check_bilinear(ours, oracle, x, w):
    """Value, and both gradients: of a bilinear map they are exact directional differences of the oracle. The value's shape."""
    rng = np.random.default_rng(7)
    expected = oracle(x, w)
    cotangent, dx, dw = rng.normal(size=expected.shape), rng.normal(size=x.shape), rng.normal(size=w.shape)

    @jax.jit
    def value_and_gradients(x, w, cotangent):
        value, pull = jax.vjp(ours, x, w)
        return value, *pull(cotangent)

    value, gx, gw = value_and_gradients(x, w, cotangent)
    np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(np.vdot(gx, dx), np.vdot(cotangent, oracle(dx, w)), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.vdot(gw, dw), np.vdot(cotangent, oracle(x, dw)), rtol=1e-9, atol=1e-9)
    return value.shape


def arrays(case, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, *case.space, case.c_in)), rng.normal(size=(*case.window, case.c_in // case.groups, case.c_out))


@pytest.mark.usefixtures("float64")
@EXAMPLES
@given(cases())
def test_correlation_and_convolution_equal_the_definition(case):
    x, w = arrays(case)
    options = case.options("stride", "padding", "dilation", "input_dilation", "groups")
    space = tuple(range(len(case.window)))

    def ours(x, w):
        return jnp.stack([correlate(x, w, **options), convolve(x, w, **options)])

    check_bilinear(ours, lambda x, w: np.stack([correlate_oracle(x, v, case) for v in (w, np.flip(w, space))]), x, w)


@pytest.mark.usefixtures("float64")
@EXAMPLES
@given(cases(), st.integers(0, 1))
def test_transposed_equals_spreading(case, extra):
    extra = tuple(min(extra, max(s, d) - 1) for s, d in zip(case.stride, case.dilation, strict=True))
    rows = zip(case.space, case.window, case.stride, case.dilation, extra, strict=True)
    sizes = [(n - 1) * s + (k - 1) * d + 1 + e for n, k, s, d, e in rows]
    if any(sum(pair) >= size for pair, size in zip(case.pads, sizes, strict=True)):
        return
    x, w = arrays(case)

    def ours(x, w):
        return transposed_correlate(x, w, **case.options("stride", "padding", "dilation", "groups"), output_padding=extra)

    shape = check_bilinear(ours, lambda x, w: transposed_oracle(x, w, case, extra), x, w)
    geometry = {"stride": case.stride, "padding": case.pads, "output_padding": extra, "dilation": case.dilation}
    assert shape[1:-1] == arithmetic.transposed_output_sizes(case.space, case.window, **geometry)


@pytest.mark.usefixtures("float64")
def test_transposed_is_the_adjoint_of_correlation():
    """⟨correlate(x, w), y⟩ = ⟨x, transposed(y, wᵀ)⟩, on sizes where the strides do not divide evenly."""
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(2, 7, 9, 3)), rng.normal(size=(3, 2, 3, 4))
    y = correlate(jnp.array(x), jnp.array(w), stride=(2, 3), padding=1)
    cotangent = rng.normal(size=y.shape)
    rest = tuple((n + 2 - k) % s for n, k, s in zip((7, 9), (3, 2), (2, 3), strict=True))
    back = transposed_correlate(jnp.array(cotangent), jnp.array(w.swapaxes(2, 3)), stride=(2, 3), padding=1, output_padding=rest)
    assert back.shape == x.shape
    np.testing.assert_allclose((y * cotangent).sum(), (x * back).sum(), rtol=1e-10)


@pytest.mark.parametrize(("size", "window", "stride"), [(5, 3, 2), (4, 4, 2), (6, 2, 3), (3, 1, 2)])
def test_transposed_same_enlarges_by_the_stride(size, window, stride):
    y = transposed_correlate(jnp.ones((1, size, 1)), jnp.ones((window, 1, 1)), stride=stride, padding="SAME")
    assert y.shape == (1, size * stride, 1)


@pytest.mark.usefixtures("float64")
@EXAMPLES
@given(cases(), st.integers(1, 3))
def test_depthwise_and_separable_equal_the_definition(case, multiplier):
    rng = np.random.default_rng(2)
    c = case.c_in
    deep = case._replace(groups=c, c_out=c * multiplier, input_dilation=(1,) * len(case.space))
    x, w, mix = rng.normal(size=(2, *case.space, c)), rng.normal(size=(*case.window, c, multiplier)), rng.normal(size=(c * multiplier, 5))
    options = case.options("stride", "padding", "dilation")
    expected = correlate_oracle(x, w.reshape(*case.window, 1, -1), deep)

    @jax.jit
    def depthwise_and_separable(x, w, mix):
        return depthwise_correlate(x, w, **options), separable_correlate(x, w, mix, **options)

    depthwise, separable = depthwise_and_separable(x, w, mix)
    np.testing.assert_allclose(depthwise, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(separable, expected @ mix, rtol=1e-9, atol=1e-9)


def border_oracle(row, before, after, border):
    """The values around a row, one by one."""
    n, result = len(row), []
    for i in range(-before, n + after):
        if border == "zeros":
            result.append(row[i] if 0 <= i < n else 0 * row[0])
        elif border == "replicate":
            result.append(row[min(max(i, 0), n - 1)])
        elif border == "circular":
            result.append(row[i % n])
        else:
            result.append(row[-i if i < 0 else 2 * (n - 1) - i if i >= n else i])
    return np.array(result)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("border", ["zeros", "reflect", "replicate", "circular"])
def test_borders_equal_walking_around(border):
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(2, 4, 5, 3)), rng.normal(size=(3, 2, 3, 2))
    pads = [(1, 2), (3, 0)]
    expected = x
    for axis, (before, after) in enumerate(pads, start=1):
        rows = np.moveaxis(expected, axis, 0)
        expected = np.moveaxis(border_oracle(rows, before, after, border), 0, axis)
    np.testing.assert_array_equal(pad_space(jnp.array(x), pads, border=border), expected)
    case = Case((7, 8), (3, 2), (2, 1), ((0, 0),) * 2, (1, 1), (1, 1), 1, 3, 2)
    ours = correlate(jnp.array(x), jnp.array(w), stride=(2, 1), padding=pads, border=border)
    np.testing.assert_allclose(ours, correlate_oracle(expected, w, case), rtol=1e-10, atol=1e-10)


def test_causal_convolution_does_not_see_the_future():
    rng = np.random.default_rng(4)
    x, w = rng.normal(size=(1, 12, 2)), rng.normal(size=(3, 2, 3))
    later = x.copy()
    later[:, 7:] += 1
    ours, changed = (correlate(jnp.array(v), jnp.array(w), padding="CAUSAL", dilation=2) for v in (x, later))
    assert ours.shape == (1, 12, 3)
    np.testing.assert_array_equal(ours[:, :7], changed[:, :7])
    assert not np.allclose(ours[:, 7], changed[:, 7])


@pytest.mark.usefixtures("float64")
def test_true_convolution_commutes_and_associates_and_correlation_does_not():
    rng = np.random.default_rng(5)
    f, g, h = (jnp.array(rng.normal(size=n)) for n in (4, 3, 5))

    def full(op, a, b):
        return op(a.reshape(1, -1, 1), b.reshape(-1, 1, 1), padding=len(b) - 1)[0, :, 0]

    np.testing.assert_allclose(full(convolve, f, g), np.convolve(f, g), rtol=1e-12)
    np.testing.assert_allclose(full(convolve, f, g), full(convolve, g, f), rtol=1e-12)
    np.testing.assert_allclose(full(convolve, full(convolve, f, g), h), full(convolve, f, full(convolve, g, h)), rtol=1e-11)
    np.testing.assert_allclose(full(convolve, f, 2 * h + 3), 2 * full(convolve, f, h) + 3 * full(convolve, f, jnp.ones(5)), rtol=1e-11)
    assert not np.allclose(full(correlate, f, g), full(correlate, g, f))
