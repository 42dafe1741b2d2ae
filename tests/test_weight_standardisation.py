"""Standardised kernels, and the convolution with them, against loops over the formula."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax.layers import StandardisedConv
from cnn_jax.ops.norm import standardise_weights
from tests.even_choice import TYPES, evenly
from tests.layer_oracle import TOLERANCES, assert_layer_agrees, assert_near, three_sizes


def standardised(w, epsilon=1e-6):
    """(w − mean) / √(var + ε), one output channel after another."""
    y = np.zeros(w.shape)
    for o in range(w.shape[-1]):
        values = w[..., o].ravel().tolist()
        mean = sum(values) / len(values)
        var = sum((v - mean) ** 2 for v in values) / len(values)
        y[..., o] = np.reshape([(v - mean) / math.sqrt(var + epsilon) for v in values], w.shape[:-1])
    return y


def correlated(x, w, stride, dilation, pads, groups):
    """What correlation is, place by place and output by output, on zero padding."""
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    window, (c_in, c_out) = w.shape[:-2], w.shape[-2:]
    rows = [range(0, n - (k - 1) * d, s) for n, k, s, d in zip(x.shape[1:-1], window, stride, dilation, strict=True)]
    y = np.zeros((len(x), *map(len, rows), c_out))
    for place in np.ndindex(*map(len, rows)):
        seen = tuple(slice(r[i], r[i] + (k - 1) * d + 1, d) for r, i, k, d in zip(rows, place, window, dilation, strict=True))
        for o in range(c_out):
            group = o // (c_out // groups)
            y[(slice(None), *place, o)] = [(v * w[..., o]).sum() for v in x[(slice(None), *seen, slice(group * c_in, (group + 1) * c_in))]]
    return y


@st.composite
def kernels(draw):
    """Window and inputs of a kernel that has at least three weights an output, and their size."""
    sizes, c_in = draw(three_sizes), draw(st.integers(1, 2))
    window = sizes[: evenly((1, 2, 3), sizes, c_in)]
    return (*window, c_in if math.prod(window) * c_in > 2 else 3), draw(st.sampled_from([0.01, 0.3, 5.0]))


@pytest.mark.usefixtures("float64")
@settings(max_examples=15, deadline=None, derandomize=True)
@given(kernels(), st.integers(1, 3), st.sampled_from([1e-6, 1e-3]))
def test_standardised_weights_equal_a_loop(kernel, outputs, epsilon):
    inner, size = kernel
    w = size * (np.random.default_rng(6).normal(size=(*inner, outputs)) + 0.5)

    def ours(_, w):
        return standardise_weights(w, epsilon=epsilon), None

    assert_layer_agrees(ours, lambda _, w: standardised(w, epsilon), {}, w, dtype=evenly(TYPES, kernel, outputs, epsilon))


@pytest.mark.usefixtures("float64")
@settings(max_examples=15, deadline=None, derandomize=True)
@given(kernels(), st.integers(1, 2), st.integers(1, 2), st.booleans(), st.integers(0, 99), st.data())
def test_standardised_convolution_equals_a_loop(kernel, groups, outputs, use_bias, seed, data):
    (*window, c_in), size = kernel
    rng, dtype = np.random.default_rng(seed), evenly(TYPES, kernel, groups, outputs, use_bias, seed)
    stride, dilation = (tuple(data.draw(st.integers(1, 2)) for _ in window) for _ in range(2))
    pads = tuple((data.draw(st.integers(0, 2)), data.draw(st.integers(0, 1))) for _ in window)
    space = tuple((k - 1) * d + data.draw(st.integers(1, 2)) for k, d in zip(window, dilation, strict=True))
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    layer = StandardisedConv(groups * outputs, tuple(window), padding=pads, use_bias=use_bias, dtype=jnp.dtype(dtype), **options)
    params = {"kernel": size * (rng.normal(size=(*window, c_in, groups * outputs)) + 0.5)}
    params |= {"bias": rng.normal(size=groups * outputs)} if use_bias else {}
    x = rng.normal(size=(2, *space, groups * c_in)) + 1
    made = jax.eval_shape(layer.init, jax.random.key(0), jnp.array(x))["params"]
    assert jax.tree.map(lambda a: a.shape, made) == jax.tree.map(np.shape, params)

    def ours(p, x):
        return layer.apply({"params": p}, x), layer.prepare(p["kernel"])

    def oracle(p, x):
        return correlated(x, standardised(p["kernel"]), pads=pads, **options) + p.get("bias", 0)

    used = assert_layer_agrees(ours, oracle, params, x, dtype=dtype)
    # What is convolved with has mean 0 and, but for ε, variance 1: var / (var + ε) of what is learned.
    axes = tuple(range(used.ndim - 1))
    var = params["kernel"].var(axes)
    exact = min(TOLERANCES[dtype][0], 1e-5)  # kernels are kept in float32 or better
    np.testing.assert_allclose(used.mean(axes), 0, atol=exact)
    assert_near(used.var(axes), var / (var + 1e-6), exact)


def test_standardised_convolution_by_default():
    """float32, SAME, and the kernel it begins with."""
    x = np.random.default_rng(7).normal(size=(1, 5, 6, 2)).astype(np.float32)
    y, variables = StandardisedConv(3, (3, 3), use_bias=False).init_with_output(jax.random.key(1), jnp.array(x))
    kernel = np.asarray(variables["params"]["kernel"], np.float64)
    expected = correlated(x, standardised(kernel), (1, 1), (1, 1), ((1, 1), (1, 1)), 1)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.usefixtures("unchecked")
def test_a_single_weight_cannot_be_standardised():
    for shape in [(1, 1, 8), (1, 8)]:
        with pytest.raises(ValueError, match=rf"more than one weight.*\({', '.join(map(str, shape))}\)"):
            standardise_weights(jnp.zeros(shape))
    with pytest.raises(ValueError, match="more than one weight"):
        StandardisedConv(4, (1, 1), groups=4).init(jax.random.key(0), jnp.zeros((1, 3, 3, 4)))
    with pytest.raises(ValueError, match="epsilon=-1e-06 must be"):
        standardise_weights(jnp.ones((3, 2, 6)), epsilon=-1e-6)
