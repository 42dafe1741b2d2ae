"""Every activation against its formula in Python's own floats: value, gradient, kinks, ±10⁴, half precision."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax.layers import PReLU
from cnn_jax.ops.activations import ACTIVATIONS, glu, named_activation
from cnn_jax.ops.rectifiers import celu, hard_tanh, prelu

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def tanh(x):
    return math.copysign((1 - math.exp(-2 * abs(x))) / (1 + math.exp(-2 * abs(x))), x)


def softplus(x, beta=1.0):
    return x + math.log1p(math.exp(-beta * x)) / beta if x > 0 else math.log1p(math.exp(beta * x)) / beta


def elu(x, alpha=1.0):
    return x if x > 0 else alpha * math.expm1(x)


def hard_sigmoid(x):
    return 0.0 if x <= -3 else 1.0 if x >= 3 else x / 6 + 0.5


# The formulas, number by number.
SCALAR = {
    "identity": lambda x: x,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "scaled_tanh": lambda x: 1.7159 * tanh(2 * x / 3),
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "leaky_relu": lambda x, negative_slope=0.01: x if x > 0 else negative_slope * x,
    "elu": elu,
    "selu": lambda x: SELU_SCALE * elu(x, SELU_ALPHA),
    "celu": lambda x, alpha=1.0: x if x > 0 else alpha * math.expm1(x / alpha),
    "gelu": lambda x: x * math.erfc(-x / math.sqrt(2)) / 2,
    "gelu_tanh": lambda x: 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))),
    "silu": lambda x: x * sigmoid(x),
    "swish": lambda x: x * sigmoid(x),
    "mish": lambda x: x * tanh(softplus(x)),
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": lambda x: x * hard_sigmoid(x),
    "hard_tanh": lambda x, low=-1.0, high=1.0: min(max(x, low), high),
    "softplus": softplus,
    "softsign": lambda x: x / (1 + abs(x)),
    "log_sigmoid": lambda x: -softplus(-x),
}


def softmax(row):
    terms = [math.exp(x - max(row)) for x in row]
    return [t / math.fsum(terms) for t in terms]


def log_softmax(row):
    return [x - max(row) - math.log(math.fsum(math.exp(y - max(row)) for y in row)) for x in row]


VECTOR = {"softmax": softmax, "softmin": lambda row: softmax([-x for x in row]), "log_softmax": log_softmax}

KINKS = {  # the derivative where there are two: torch's, checked with torch 2.13
    "relu": {0: 0},
    "relu6": {0: 0, 6: 0},
    "leaky_relu": {0: 0.01},
    "elu": {0: 1},
    "selu": {0: SELU_ALPHA * SELU_SCALE},
    "celu": {0: 1},
    "hard_sigmoid": {-3: 0, 3: 0},
    "hard_swish": {-3: 0, 0: 0.5, 3: 1},
    "hard_tanh": {-1: 0, 1: 0},
    "softsign": {0: 1},
}


def oracle(name, x, axis=-1, **options):
    if name in VECTOR:
        return np.apply_along_axis(lambda row: np.array(VECTOR[name](row.tolist())), axis, x)
    return np.array([SCALAR[name](v, **options) for v in x.ravel().tolist()]).reshape(x.shape)


def check(name, x, seed, *, rtol=1e-12, **options):
    """Value, and gradient as a directional difference of the oracle (none of these numbers falls on a kink)."""
    rng = np.random.default_rng(seed)
    cotangent, direction = rng.normal(size=x.shape), rng.normal(size=x.shape)
    y, pullback = jax.vjp(lambda x: ACTIVATIONS[name](x, **options), jnp.array(x))
    np.testing.assert_allclose(y, oracle(name, x, **options), rtol=rtol, atol=1e-14)
    step = 1e-6 * direction
    difference = (oracle(name, x + step, **options) - oracle(name, x - step, **options)) / 2e-6
    if name not in VECTOR:  # number by number, so that none hides behind another
        np.testing.assert_allclose(pullback(jnp.ones_like(y))[0] * direction, difference, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose((pullback(jnp.array(cotangent))[0] * direction).sum(), (cotangent * difference).sum(), rtol=1e-6, atol=1e-7)


def test_the_oracles_cover_the_registry():
    assert set(ACTIVATIONS) == {*SCALAR, *VECTOR}
    assert {name: f.__name__ for name, f in ACTIVATIONS.items() if f.__name__ != name} == {"swish": "silu"}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_equals_its_formula(name):
    x = np.random.default_rng(0).normal(size=(3, 40)) * np.array([[1.0], [3.0], [12.0]])
    check(name, x, seed=1)


OPTIONS = {
    "leaky_relu": {"negative_slope": st.floats(-0.5, 2)},
    "elu": {"alpha": st.floats(0, 3)},
    "celu": {"alpha": st.floats(0.2, 3)},
    "hard_tanh": {"low": st.floats(-2, -0.1), "high": st.floats(0, 3)},
    "softplus": {"beta": st.floats(0.2, 5)},
    "softmax": {"axis": st.integers(-1, 0)},
    "softmin": {"axis": st.integers(-1, 0)},
    "log_softmax": {"axis": st.integers(-1, 0)},
}


@pytest.mark.usefixtures("float64")
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data(), shape=st.sampled_from([(7,), (2, 3, 2, 2)]), seed=st.integers(0, 99))
def test_activation_with_options_equals_its_formula(data, shape, seed):
    name = data.draw(st.sampled_from(sorted(OPTIONS)))
    options = {option: data.draw(values, label=option) for option, values in OPTIONS[name].items()}
    check(name, np.random.default_rng(seed).normal(size=shape) * 3, seed, **options)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", KINKS)
def test_derivative_at_a_kink_is_torchs(name):
    points = jnp.array(list(KINKS[name]), float)
    slopes = jax.jit(jax.grad(lambda x: ACTIVATIONS[name](x).sum()))(points)
    np.testing.assert_allclose(slopes, list(KINKS[name].values()), rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_right_far_out_and_in_half_precision(name, dtype):
    """Against the oracle at the very numbers the type holds; jit as eager; gradients finite and of the inputs' type."""
    rng = np.random.default_rng(2)
    edges = [-1e4, -300, -104, -89, -30, -20, -12, 0, 12, 20, 30, 89, 104, 300, 1e4]
    x = jnp.array(np.concatenate([rng.normal(size=60) * 4, edges]), dtype)
    exact = np.asarray(x, np.float64)
    y, pullback = jax.vjp(ACTIVATIONS[name], x)
    assert y.dtype == dtype
    # bfloat16 has 8 bits: one rounding is at most 1 / 256 of the value.
    rtol, atol = (3e-6, 1e-6) if dtype == jnp.float32 else (4e-3, 1e-6)
    np.testing.assert_allclose(np.asarray(y, np.float64), oracle(name, exact), rtol=rtol, atol=atol)
    if dtype == jnp.float32:
        np.testing.assert_allclose(jax.jit(ACTIVATIONS[name])(x), y, rtol=rtol, atol=atol)
    (gradient,) = pullback(jnp.ones_like(y))
    assert gradient.dtype == dtype
    assert np.isfinite(np.asarray(gradient, np.float64)).all()
    if name in SCALAR:
        smooth = ~np.isin(exact, list(KINKS.get(name, {})))
        h = 1e-5 * np.maximum(np.abs(exact), 1)
        slope = (oracle(name, exact + h) - oracle(name, exact - h)) / (2 * h)
        np.testing.assert_allclose(np.asarray(gradient, np.float64)[smooth], slope[smooth], rtol=5 * rtol, atol=5 * atol)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("shape", [(5, 3), (2, 5, 3), (2, 4, 3, 3), (2, 2, 3, 2, 3)])
@pytest.mark.parametrize("per_channel", [False, True])
def test_prelu_equals_a_loop_and_learns_its_slope(shape, per_channel):
    rng = np.random.default_rng(3)
    x, cotangent = rng.normal(size=shape), rng.normal(size=shape)
    layer = PReLU(per_channel=per_channel)
    params = layer.init(jax.random.key(0), jnp.array(x))["params"]
    assert params["slope"].shape == ((3,) if per_channel else ())
    assert np.all(np.asarray(params["slope"]) == 0.25)
    slope = rng.normal(size=3 if per_channel else ())
    slopes = np.broadcast_to(slope, 3)
    expected, by_x, by_slope = np.zeros(shape), np.zeros(shape), np.zeros(3)
    for place in np.ndindex(shape):
        a = slopes[place[-1]]
        expected[place] = x[place] if x[place] > 0 else a * x[place]
        by_x[place] = cotangent[place] * (1 if x[place] > 0 else a)
        by_slope[place[-1]] += cotangent[place] * min(x[place], 0)
    y, pullback = jax.vjp(lambda p, x: layer.apply({"params": p}, x), {"slope": jnp.array(slope)}, jnp.array(x))
    gradients, gradient = pullback(jnp.array(cotangent))
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, by_x, rtol=1e-12)
    np.testing.assert_allclose(gradients["slope"], by_slope if per_channel else by_slope.sum(), rtol=1e-12)
    assert layer.apply({"params": {"slope": jnp.array(slope)}}, jnp.array(x, jnp.bfloat16)).dtype == jnp.bfloat16


def test_bad_options_are_named():
    x = jnp.ones((2, 3))
    with pytest.raises(ValueError, match=r"Unknown activation 'leaky_rulu'. Did you mean leaky_relu"):
        named_activation("leaky_rulu")
    with pytest.raises(ValueError, match=r"slope must be of shape \(\) or \(3,\).*got \(2,\)"):
        prelu(x, jnp.ones(2))
    with pytest.raises(ValueError, match="low=1.0 must be below high=1.0"):
        hard_tanh(x, low=1.0)
    with pytest.raises(ValueError, match="alpha=0.0 must be positive"):
        celu(x, alpha=0.0)
    for bad in (-1.0, 0.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"beta={bad} must be positive and finite"):
            ACTIVATIONS["softplus"](x, beta=bad)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.bool_])
def test_whole_numbers_become_float32(dtype):
    x = np.random.default_rng(6).integers(0, 2 if dtype == jnp.bool_ else 5, size=(3, 4))
    for name, function in {**ACTIVATIONS, "glu": glu}.items():
        value, expected = function(jnp.array(x, dtype)), function(jnp.array(x, jnp.float32))
        assert value.dtype == (dtype if name == "identity" else jnp.float32), name
        np.testing.assert_array_equal(value, expected, err_msg=name)
