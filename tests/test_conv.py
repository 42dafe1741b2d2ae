"""Every form of convolution against loops in float64, value and gradient, over random configurations in 1-D, 2-D and 3-D."""

import itertools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax.layers import Conv, ConvTranspose, Dense, Head, SeparableConv, StandardisedConv
from cnn_jax.ops import arithmetic
from cnn_jax.ops.conv import convolve, correlate, depthwise_correlate, separable_correlate, transposed_correlate
from cnn_jax.ops.padding import explicit_padding, pad_space

pytestmark = pytest.mark.usefixtures("quick_compilation")

EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True)


class Case(NamedTuple):
    space: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    input_dilation: tuple[int, ...]
    groups: int
    c_in: int
    c_out: int

    def options(self, *names):
        renamed = {"padding": self.pads}
        return {name: renamed.get(name, getattr(self, name, None)) for name in names}


@st.composite
def cases(draw):
    n = draw(st.integers(1, 3))

    def each(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(n))

    groups = draw(st.sampled_from([1, 1, 2, 3]))
    pads = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(n))
    window, dilation = each(1, 3), each(1, 2)
    space = tuple(draw(st.integers((k - 1) * d + 1, (k - 1) * d + 3)) for k, d in zip(window, dilation, strict=True))
    c_in, c_out = (groups * draw(st.integers(1, 2)) for _ in range(2))
    return Case(space, window, each(1, 3), pads, dilation, each(1, 2), groups, c_in, c_out)


def correlate_oracle(x, w, case):
    """The definition: each output position, each tap, each channel; what lies outside, or between spread inputs, is zero."""
    positions = []
    for size, k, s, (before, after), d, gap in zip(*case[:6], strict=True):
        spread = (size - 1) * gap + 1
        positions.append((spread + before + after - ((k - 1) * d + 1)) // s + 1)
    y = np.zeros((len(x), *positions, case.c_out))
    for place in itertools.product(*map(range, positions)):
        for tap in itertools.product(*map(range, case.window)):
            at = [p * s + t * d - b for p, s, t, d, (b, _) in zip(place, case.stride, tap, case.dilation, case.pads, strict=True)]
            if any(a % g or not 0 <= a // g < n for a, g, n in zip(at, case.input_dilation, case.space, strict=True)):
                continue
            source = tuple(a // g for a, g in zip(at, case.input_dilation, strict=True))
            for o in range(case.c_out):
                group = o // (case.c_out // case.groups)
                for c in range(case.c_in // case.groups):
                    y[(slice(None), *place, o)] += x[(slice(None), *source, group * (case.c_in // case.groups) + c)] * w[(*tap, c, o)]
    return y


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
    """Value, and both gradients: of a bilinear map they are exact directional differences of the oracle."""
    rng = np.random.default_rng(7)
    expected = oracle(x, w)
    np.testing.assert_allclose(ours(jnp.array(x), jnp.array(w)), expected, rtol=1e-10, atol=1e-10)
    cotangent, dx, dw = rng.normal(size=expected.shape), rng.normal(size=x.shape), rng.normal(size=w.shape)
    gx, gw = jax.vjp(ours, jnp.array(x), jnp.array(w))[1](jnp.array(cotangent))
    np.testing.assert_allclose((gx * dx).sum(), (cotangent * oracle(dx, w)).sum(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose((gw * dw).sum(), (cotangent * oracle(x, dw)).sum(), rtol=1e-9, atol=1e-9)


def arrays(case, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, *case.space, case.c_in)), rng.normal(size=(*case.window, case.c_in // case.groups, case.c_out))


@pytest.mark.usefixtures("float64")
@EXAMPLES
@given(cases())
def test_correlation_and_convolution_equal_the_definition(case):
    x, w = arrays(case)
    options = case.options("stride", "padding", "dilation", "input_dilation", "groups")
    check_bilinear(lambda x, w: correlate(x, w, **options), lambda x, w: correlate_oracle(x, w, case), x, w)
    mirrored = tuple(slice(None, None, -1) for _ in case.window)
    expected = correlate_oracle(x, w[mirrored], case)
    np.testing.assert_allclose(convolve(jnp.array(x), jnp.array(w), **options), expected, rtol=1e-10, atol=1e-10)


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

    check_bilinear(ours, lambda x, w: transposed_oracle(x, w, case, extra), x, w)
    geometry = {"stride": case.stride, "padding": case.pads, "output_padding": extra, "dilation": case.dilation}
    assert ours(jnp.array(x), jnp.array(w)).shape[1:-1] == arithmetic.transposed_output_sizes(case.space, case.window, **geometry)


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
    np.testing.assert_allclose(depthwise_correlate(jnp.array(x), jnp.array(w), **options), expected, rtol=1e-10, atol=1e-10)
    separable = separable_correlate(jnp.array(x), jnp.array(w), jnp.array(mix), **options)
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


@EXAMPLES
@given(cases())
def test_counts_equal_counting(case):
    """Weights, neurons, connections and multiply-adds, tap by tap."""
    positions = [-(-(n + sum(p) - (k - 1) * d) // s) for n, k, s, p, d in zip(*case[:5], strict=True)]
    macs = edges = 0
    for place in itertools.product(*map(range, positions)):
        for tap in itertools.product(*map(range, case.window)):
            at = [p * s + t * d - b for p, s, t, d, (b, _) in zip(place, case.stride, tap, case.dilation, case.pads, strict=True)]
            inside = all(0 <= a < n for a, n in zip(at, case.space, strict=True))
            for _ in range(case.c_in // case.groups * case.c_out):
                macs, edges = macs + 1, edges + inside
    neurons = len(list(itertools.product(*map(range, positions), range(case.c_out))))
    geometry = case.options("stride", "padding", "dilation")
    channels = (case.space, case.window, case.c_in, case.c_out)
    assert arithmetic.output_sizes(case.space, case.window, **geometry) == tuple(positions)
    assert arithmetic.num_neurons(case.space, case.window, case.c_out, **geometry) == neurons
    assert arithmetic.num_macs(*channels, groups=case.groups, **geometry) == macs
    assert arithmetic.num_connections(*channels, groups=case.groups, use_bias=False, **geometry) == edges
    assert arithmetic.num_connections(*channels, groups=case.groups, **geometry) == edges + neurons


@pytest.mark.parametrize("padding", ["SAME", "VALID", 2, (1, (0, 3))])
def test_output_sizes_are_those_of_the_operation(padding):
    x, w = jnp.zeros((1, 11, 8, 2)), jnp.zeros((3, 4, 2, 5))
    y = jax.eval_shape(lambda: correlate(x, w, stride=(2, 3), dilation=(2, 1), padding=padding))
    assert y.shape[1:-1] == arithmetic.output_sizes((11, 8), (3, 4), stride=(2, 3), dilation=(2, 1), padding=padding)


@pytest.mark.parametrize(
    ("layer", "space"),
    [
        (Conv(4, (3,), padding="CAUSAL", dilation=2), (6,)),
        (Conv(4, (3, 2), stride=2, groups=2, border="reflect"), (6, 5)),
        (Conv(4, (2, 3, 1), use_bias=False), (3, 4, 2)),
        (StandardisedConv(4, (3, 3)), (5, 6)),
        (SeparableConv(5, (3, 3), stride=2, multiplier=2), (6, 5)),
        (ConvTranspose(4, (4,), stride=2), (5,)),
        (ConvTranspose(4, (3, 3), stride=2, padding=1, output_padding=1, groups=2), (3, 4)),
        (ConvTranspose(2, (2, 2, 2), stride=2, groups=2), (2, 3, 2)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "x".join(map(str, v)),
)
def test_layers_learn_and_keep_their_dtype(layer, space):
    x = jnp.array(np.random.default_rng(6).normal(size=(2, *space, 4)), jnp.float32)
    variables = layer.init(jax.random.key(0), x)
    gradients = jax.grad(lambda p: jnp.square(layer.apply({"params": p}, x)).sum())(variables["params"])
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in jax.tree.leaves(gradients))
    y = layer.apply(variables, x)
    low = layer.clone(dtype=jnp.bfloat16).apply(variables, x)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(low, np.float32), y, rtol=2e-2, atol=2e-2 * float(jnp.abs(y).max()))


def test_standardised_kernels_have_mean_zero_and_variance_one():
    layer = StandardisedConv(3, (3, 3), use_bias=False)
    x = jnp.zeros((1, 5, 5, 2)).at[0, 2, 2].set(1.0)
    y = layer.apply(layer.init(jax.random.key(1), x), x)
    kernel = np.asarray(y)[0, 1:4, 1:4] / 2  # both channels see the impulse: the mean of the two kernels
    np.testing.assert_allclose(kernel.mean((0, 1)), 0, atol=1e-5)


X, W = jnp.zeros((1, 8, 8, 6)), jnp.zeros((3, 3, 6, 8))
MISTAKES = [
    (lambda: correlate(X, jnp.zeros((3, 3, 4, 8))), "6 input channels do not fit"),
    (lambda: correlate(jnp.zeros((8, 6)), jnp.zeros((3, 4, 8))), "1 to 3 spatial axes"),
    (lambda: correlate(X, jnp.zeros((3, 6, 8))), "of rank 4"),
    (lambda: correlate(X, W, stride=-1), "stride=-1 must be whole numbers of at least 1"),
    (lambda: correlate(X, W, stride=(1, 2, 3)), r"stride=\(1, 2, 3\) has 3 number"),
    (lambda: correlate(X, W, stride=1.5), "stride=1.5"),
    (lambda: correlate(X, W, dilation=0), "dilation=0"),
    (lambda: correlate(X, W, dilation=4), "spans 9 positions, but the input has 8"),
    (lambda: correlate(X, W, padding="SMAE"), "did you mean SAME"),
    (lambda: correlate(X, W, padding="CAUSAL"), "one spatial axis"),
    (lambda: correlate(X, W, padding=-1), "padding=-1"),
    (lambda: correlate(X, W, padding=(1, 2, 3)), "3 entries for 2 spatial axes"),
    (lambda: correlate(X, W, padding=9, border="reflect"), "too wide for 8 values: at most 7"),
    (lambda: correlate(X, W, padding=1, border="mirror"), "border='mirror' is unknown"),
    (lambda: correlate(X, W, padding=1, border="reflect", input_dilation=2), "zeros only"),
    (lambda: correlate(X, W, groups=0), "groups=0"),
    (lambda: correlate(X, jnp.zeros((3, 3, 3, 9)), groups=2), "groups must divide c_out"),
    (lambda: correlate(X, W, groups=1.0), "groups=1.0 must be a whole number"),
    (lambda: correlate(X.astype(jnp.uint8), W), "inputs are uint8 and the kernel is float32"),
    (lambda: correlate(X, jnp.zeros((0, 3, 6, 8))), r"window=\(0, 3\) must be whole numbers of at least 1"),
    (lambda: correlate(X, W, padding=1, border=["zeros"]), "is unknown .*: zeros, reflect"),
    (lambda: depthwise_correlate(X, jnp.ones(3)), "of rank 4"),
    (lambda: depthwise_correlate(X, jnp.zeros((3, 3, 5, 1))), "kernels for 5 channels"),
    (lambda: transposed_correlate(X, W, stride=2, output_padding=2), "must be smaller than the stride"),
    (lambda: transposed_correlate(X, W, padding="CAUSAL"), "padding='CAUSAL' is unknown"),
    (lambda: transposed_correlate(jnp.zeros((1, 2, 6)), jnp.zeros((3, 6, 2)), padding=2), "cuts off the whole output"),
    (lambda: explicit_padding((1.5,), (4,), (3,), (1,)), "padding"),
    (lambda: arithmetic.output_sizes((4, 4), (5, 5)), "does not fit"),
    (lambda: arithmetic.num_weights((3, 3), 6, 8, groups=4), "groups=4 must divide c_in=6"),
    (lambda: Conv(8, (3, 3), groups=4).init(jax.random.key(0), X), "groups=4 must divide the 6 input channels"),
    (lambda: Conv(8, (3,)).init(jax.random.key(0), X), "1 spatial axes"),
    (lambda: arithmetic.output_sizes((4, 4), (0, 3)), r"window=\(0, 3\)"),
    (lambda: arithmetic.output_sizes((4, 4), (3,)), "one number for each"),
    (lambda: arithmetic.transposed_output_sizes((1,), (2,), padding=3), "cuts off the whole output"),
    (lambda: arithmetic.transposed_output_sizes((4,), (2,), output_padding=5), "output_padding"),
    (lambda: arithmetic.num_weights((3, 3), -1, 2), "c_in=-1"),
    (lambda: arithmetic.num_neurons((4, 4), (3, 3), -1), "c_out=-1"),
    (lambda: Conv(8, 3).init(jax.random.key(0), X), "window=3 must be"),
    (lambda: Conv(8, (-3, 3)).init(jax.random.key(0), X), r"window=\(-3, 3\)"),
    (lambda: Conv(2.5, (3, 3)).init(jax.random.key(0), X), "features=2.5"),
    (lambda: Dense(0).init(jax.random.key(0), X), "features=0"),
    (lambda: Head(-1).init(jax.random.key(0), X), "features=-1"),
    (lambda: Conv(0, (3, 3)).init(jax.random.key(0), X), "features=0"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("call", "message"), MISTAKES, ids=[m for _, m in MISTAKES])
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
