"""Every form of convolution against loops in float64, value and gradient, over random configurations in 1-D, 2-D and 3-D."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_jax.ops import arithmetic
from cnn_jax.ops.conv import convolve, correlate, depthwise_correlate, separable_correlate, transposed_correlate
from cnn_jax.ops.padding import pad_space
from tests.conv_cases import (
    EXAMPLES,
    Case,
    added_up,
    arrays,
    beyond,
    cases,
    check_against,
    check_bilinear,
    correlate_terms,
    slopes,
    transposed_terms,
)


@pytest.mark.usefixtures("float64")
@EXAMPLES
@given(cases())
def test_correlation_and_convolution_equal_the_definition(case):
    x, w = arrays(case)
    options = case.options("stride", "padding", "dilation", "input_dilation", "groups")
    shape, terms = correlate_terms(case)
    mirrored = [(y, x, (*(k - 1 - t for k, t in zip(case.window, tap, strict=False)), *tap[-2:])) for y, x, tap in terms]

    def ours(x, w):
        return jnp.concatenate([correlate(x, w, **options), convolve(x, w, **options)])

    def value(x, w):
        return np.concatenate([added_up((shape, each), x, w) for each in (terms, mirrored)])

    def gradients(x, w, cotangent):
        both = [slopes((shape, each), x, w, g) for each, g in zip((terms, mirrored), np.split(cotangent, 2), strict=True)]
        return [sum(pair) for pair in zip(*both, strict=True)]

    check_against(ours, value, gradients, x, w)


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

    shape, terms = transposed_terms(case, extra)
    check_bilinear(ours, (shape, terms), x, w)
    geometry = {"stride": case.stride, "padding": case.pads, "output_padding": extra, "dilation": case.dilation}
    assert shape[:-1] == arithmetic.transposed_output_sizes(case.space, case.window, **geometry)


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


def depthwise_case(case, multiplier):
    """The same with each input channel a group of its own; inputs, depthwise kernel and pointwise kernel; the options."""
    rng, c = np.random.default_rng(2), case.c_in
    deep = case._replace(groups=c, c_out=c * multiplier, input_dilation=(1,) * len(case.space))
    given = rng.normal(size=(2, *case.space, c)), rng.normal(size=(*case.window, c, multiplier)), rng.normal(size=(c * multiplier, 5))
    return deep, given, case.options("stride", "padding", "dilation")


def both(options, x, w, mix):
    """What is depthwise, and beside it what is separable."""
    return jnp.concatenate([depthwise_correlate(x, w, **options), separable_correlate(x, w, mix, **options)], -1)


def both_oracles(deep):
    """Value and gradients of `both`."""
    definition = correlate_terms(deep)

    def value(x, w, mix):
        y = added_up(definition, x, w.reshape(*deep.window, 1, -1))
        return np.concatenate([y, y @ mix], -1)

    def gradients(x, w, mix, cotangent):
        kernel = w.reshape(*deep.window, 1, -1)
        by_maps, by_mixed = np.split(cotangent, [deep.c_out], -1)
        by_x, by_w = slopes(definition, x, kernel, by_maps + by_mixed @ mix.T)
        by_mix = added_up(definition, x, kernel).reshape(-1, deep.c_out).T @ by_mixed.reshape(-1, mix.shape[1])
        return by_x, by_w.reshape(w.shape), by_mix

    return value, gradients


@pytest.mark.usefixtures("float64")
@EXAMPLES
@given(cases(), st.integers(1, 3))
def test_depthwise_and_separable_equal_the_definition(case, multiplier):
    deep, given, options = depthwise_case(case, multiplier)
    check_against(partial(both, options), *both_oracles(deep), *given)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("border", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    ("space", "window", "pads"),
    [
        ((5,), (3,), ((4, 1),)),
        ((4, 5), (3, 2), ((1, 2), (3, 0))),
        ((3, 3, 4), (2, 3, 1), ((2, 0), (1, 1), (0, 3))),
    ],
    ids=["1-D", "2-D", "3-D"],
)
def test_borders_equal_walking_around(border, space, window, pads):
    n = len(space)
    case = Case(space, window, (2, 1, 1)[:n], pads, (1, 2, 1)[:n], (1,) * n, 1, 3, 2)
    x, w = arrays(case, seed=3)
    options = case.options("stride", "padding", "dilation")
    check_bilinear(lambda x, w: correlate(x, w, border=border, **options), correlate_terms(case, border), x, w)
    larger = [n + before + after for n, (before, after) in zip(space, pads, strict=True)]
    expected = np.zeros((2, *larger, 3))
    for place in np.ndindex(*larger):
        source = [beyond(p - before, n, border) for p, n, (before, _) in zip(place, space, pads, strict=True)]
        if None not in source:
            expected[(slice(None), *place)] = x[(slice(None), *source)]
    np.testing.assert_array_equal(pad_space(jnp.array(x), pads, border=border), expected)


def test_causal_convolution_does_not_see_the_future():
    rng = np.random.default_rng(4)
    x, w = rng.normal(size=(1, 12, 2)), rng.normal(size=(3, 2, 3))
    later = x.copy()
    later[:, 7:] += 1
    ours, changed = (correlate(jnp.array(v), jnp.array(w), padding="CAUSAL", dilation=2) for v in (x, later))
    assert ours.shape == (1, 12, 3)
    np.testing.assert_array_equal(ours[:, :7], changed[:, :7])
    assert not np.allclose(ours[:, 7], changed[:, 7])


CASES = {
    "1-D": Case((7,), (3,), (2,), ((1, 2),), (2,), (1,), 2, 4, 2),
    "2-D": Case((5, 4), (3, 2), (1, 2), ((0, 2), (1, 1)), (1, 2), (2, 1), 1, 3, 2),
    "3-D": Case((3, 4, 2), (2, 3, 1), (2, 1, 1), ((1, 0), (0, 1), (1, 0)), (1, 1, 1), (1, 1, 2), 3, 3, 6),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lower_precision_is_good_to_its_rounding(case, dtype):
    """Every form, value and gradients: 1e-5 and 2e-2 of the largest entry, at the numbers as the type holds them."""
    x, w = arrays(case)
    options = case.options("stride", "padding", "dilation", "groups")
    check_bilinear(partial(correlate, input_dilation=case.input_dilation, **options), correlate_terms(case), x, w, dtype=dtype)
    extra = tuple(s - 1 for s in case.stride)
    check_bilinear(partial(transposed_correlate, output_padding=extra, **options), transposed_terms(case, extra), x, w, dtype=dtype)
    deep, given, options = depthwise_case(case, 2)
    check_against(partial(both, options), *both_oracles(deep), *given, dtype=dtype)


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
