"""Squeeze-and-excitation against loops over examples and channels."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax.layers import SqueezeExcitation
from tests.even_choice import TYPES, evenly
from tests.layer_oracle import assert_layer_agrees, three_sizes

FUNCTIONS = {
    "relu": lambda v: max(v, 0),
    "silu": lambda v: v / (1 + math.exp(-v)),
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
    "hard_sigmoid": lambda v: min(max(v / 6 + 0.5, 0), 1),
}


def squeeze_excitation(p, x, activation, gate):
    """Example by example, channel by channel."""
    y = np.zeros(x.shape)
    for n, example in enumerate(x):
        means = [np.mean(example[..., c]) for c in range(x.shape[-1])]
        hidden = [activation(v) for v in dense(p["reduce"], means)]
        for c, v in enumerate(dense(p["expand"], hidden)):
            y[n, ..., c] = example[..., c] * gate(v)
    return y


def dense(p, inputs):
    w = p["kernel"].reshape(p["kernel"].shape[-2:])
    return [sum(v * w[i, j] for i, v in enumerate(inputs)) + p["bias"][j] for j in range(w.shape[1])]


@pytest.mark.usefixtures("float64")
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    sizes=three_sizes,
    channels=st.integers(1, 4),
    hidden=st.integers(1, 3),
    activation=st.sampled_from(["relu", "silu"]),
    gate=st.sampled_from(["sigmoid", "hard_sigmoid"]),
    seed=st.integers(0, 99),
)
def test_squeeze_excitation_equals_a_loop(sizes, channels, hidden, activation, gate, seed):
    case = sizes, channels, hidden, activation, gate, seed
    space, dtype, rng = sizes[: evenly((1, 2, 3), case)], evenly(TYPES, case, "type"), np.random.default_rng(seed)
    layer = SqueezeExcitation(hidden=hidden, activation=activation, gate=gate, dtype=jnp.dtype(dtype))
    x = rng.normal(size=(2, *space, channels)) + 1
    shapes = jax.eval_shape(layer.init, jax.random.key(0), jnp.array(x))["params"]
    ones = (1,) * len(space)
    assert jax.tree.map(lambda a: a.shape, shapes) == {
        "reduce": {"kernel": (*ones, channels, hidden), "bias": (hidden,)},
        "expand": {"kernel": (*ones, hidden, channels), "bias": (channels,)},
    }
    params = jax.tree.map(lambda a: rng.normal(size=a.shape) / 2, shapes)

    def oracle(p, x):
        return squeeze_excitation(p, x, FUNCTIONS[activation], FUNCTIONS[gate])

    assert_layer_agrees(lambda p, x: (layer.apply({"params": p}, x), None), oracle, params, x, dtype=dtype)


def test_squeeze_excitation_by_default_is_the_papers():
    """ReLU, then a sigmoid; biases that begin at 0."""
    x = np.random.default_rng(13).normal(size=(2, 5, 4, 8)).astype(np.float32)
    y, variables = SqueezeExcitation(2).init_with_output(jax.random.key(1), jnp.array(x))
    params = jax.tree.map(np.asarray, variables["params"])
    np.testing.assert_allclose(y, squeeze_excitation(params, x, FUNCTIONS["relu"], FUNCTIONS["sigmoid"]), rtol=1e-5, atol=1e-6)
    assert all(not params[name]["bias"].any() for name in params)


def test_squeeze_excitation_with_bad_options_is_refused():
    x = jnp.zeros((2, 5, 4, 8))
    with pytest.raises(ValueError, match="hidden=0 must be at least 1"):
        SqueezeExcitation(0).init(jax.random.key(1), x)
    for which in ("gate", "activation"):
        with pytest.raises(ValueError, match="Unknown activation 'sigmod'. Did you mean sigmoid"):
            SqueezeExcitation(2, **{which: "sigmod"}).init(jax.random.key(1), x)
