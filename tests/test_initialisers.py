"""Initialisers: their spread for grouped, 1-D and 3-D kernels, and what the structured ones promise."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import initialisers
from cnn_jax.initialisers import INITIALISERS, delta_orthogonal, dirac, orthogonal, sparse, torch_default_bias
from cnn_jax.ops.conv import correlate
from cnn_jax.ops.gain import gain

KEY = jax.random.key(0)
# [*window, c_in / groups, c_out] with what one output sums over, and window · c_out (torch's fan_out, groups or not).
KERNELS = {
    "dense": ((90, 40), 90, 40),
    "1-D": ((3, 40, 30), 120, 90),
    "2-D of two groups": ((3, 5, 8, 30), 120, 450),
    "3-D": ((3, 2, 4, 6, 9), 144, 216),
    "depthwise": ((5, 5, 1, 160), 25, 4000),
}
# The standard deviations of the papers; where the draw is uniform, the bound is √3 times it.
DEVIATIONS = {
    "normal": lambda fan_in, fan_out: 0.02,
    "truncated_normal": lambda fan_in, fan_out: 0.02 * 0.8796,  # of what is left within two deviations
    "uniform": lambda fan_in, fan_out: 0.05 / math.sqrt(3),
    "glorot_uniform": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "glorot_normal": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "he_uniform": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "he_normal": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "he_normal_fan_out": lambda fan_in, fan_out: math.sqrt(2 / fan_out),
    "lecun_uniform": lambda fan_in, fan_out: 1 / math.sqrt(fan_in),
    "lecun_normal": lambda fan_in, fan_out: 1 / math.sqrt(fan_in),
    "lenet_uniform": lambda fan_in, fan_out: 2.4 / fan_in / math.sqrt(3),
    "torch_default": lambda fan_in, fan_out: 1 / math.sqrt(3 * fan_in),
}


def all_weights(names, shape):
    """Function of a key; one program for all names, for drawing takes long to compile."""
    return jax.jit(lambda key: {name: INITIALISERS[name](key, shape, jnp.float32) for name in names})


@pytest.fixture(scope="module")
def drawn():
    return {kernel: all_weights(DEVIATIONS, shape)(KEY) for kernel, (shape, *_) in KERNELS.items()}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", DEVIATIONS)
def test_the_spread_is_the_papers(name, kernel, drawn):
    shape, fan_in, fan_out = KERNELS[kernel]
    weights = np.asarray(drawn[kernel][name], np.float64)
    deviation = DEVIATIONS[name](fan_in, fan_out)
    assert weights.shape == shape
    assert weights.std() == pytest.approx(deviation, rel=5 / math.sqrt(2 * weights.size))
    assert abs(weights.mean()) < 5 * deviation / math.sqrt(weights.size)
    if name.endswith("uniform") or name == "torch_default":
        assert 0.995 * math.sqrt(3) * deviation < np.abs(weights).max() <= 1.000001 * math.sqrt(3) * deviation
    elif name in ("lecun_normal", "truncated_normal"):
        assert np.abs(weights).max() <= 2 / 0.8796 * 1.0001 * deviation
    else:
        assert np.abs(weights).max() > 2.8 * deviation


@pytest.mark.parametrize("name", INITIALISERS)
def test_any_initialiser_has_the_shape_and_type_that_are_asked(name):
    for shape in ((7, 5), (3, 2, 6, 4)):
        for dtype in (jnp.float32, jnp.bfloat16):
            weights = jax.eval_shape(lambda key, s=shape, d=dtype: INITIALISERS[name](key, s, d), KEY)
            assert (weights.shape, weights.dtype) == (shape, dtype)


def test_the_key_decides():
    draw = all_weights({*INITIALISERS} - {"zeros", "ones", "dirac"}, (3, 4, 5))
    one, again, other = (draw(jax.random.key(k)) for k in (0, 0, 1))
    for name, weights in one.items():
        np.testing.assert_array_equal(weights, again[name])
        assert (weights != other[name]).any(), name


def test_constants():
    for name, value in (("zeros", 0), ("ones", 1)):
        np.testing.assert_array_equal(INITIALISERS[name](KEY, (2, 3), jnp.float32), np.full((2, 3), value))
    np.testing.assert_array_equal(initialisers.constant(0.3)(KEY, (2,), jnp.float32), np.full(2, np.float32(0.3)))


def test_torchs_bias_follows_the_kernel():
    bias = np.asarray(torch_default_bias(27)(KEY, (4000,), jnp.float32))
    assert 0.995 / math.sqrt(27) < np.abs(bias).max() <= 1 / math.sqrt(27)
    assert abs(bias.mean()) < 0.01


@pytest.mark.parametrize(("shape", "scale"), [((3, 2, 5, 40), 1.0), ((3, 4, 7), 1.5), ((6, 6), 1.0)])
def test_orthogonal_columns_or_rows(shape, scale):
    matrix = np.asarray(orthogonal(scale)(KEY, shape, jnp.float32)).reshape(-1, shape[-1])
    product = matrix.T @ matrix if len(matrix) >= shape[-1] else matrix @ matrix.T
    np.testing.assert_allclose(product, scale**2 * np.eye(len(product)), atol=1e-5)


def norms(x):
    return np.sqrt((np.asarray(x) ** 2).sum((1, 2, 3)))


@pytest.mark.parametrize("window", [(3, 3), (2, 4), (1, 5)])
def test_delta_orthogonal_convolution_keeps_norms(window):
    x = jnp.array(np.random.default_rng(0).normal(size=(3, 6, 7, 4)), jnp.float32)
    kernel = delta_orthogonal(1.2)(KEY, (*window, 4, 9), jnp.float32)
    np.testing.assert_allclose(norms(correlate(x, kernel, padding="SAME")), 1.2 * norms(x), rtol=1e-5)
    narrow = np.asarray(delta_orthogonal()(KEY, (*window, 4, 3), jnp.float32))
    assert np.count_nonzero(np.abs(narrow).max((2, 3))) == 1
    tap = narrow.sum((0, 1))
    np.testing.assert_allclose(tap.T @ tap, np.eye(3), atol=1e-5)


@pytest.mark.parametrize("space", [(6,), (5, 6), (4, 3, 5)])
@pytest.mark.parametrize(("window", "groups"), [(3, 1), (4, 2), (1, 4)])
def test_dirac_convolution_is_the_identity(space, window, groups):
    x = jnp.array(np.random.default_rng(0).normal(size=(2, *space, 8)), jnp.float32)

    def through(c_out):
        kernel = dirac(groups)(KEY, (*(window,) * len(space), 8 // groups, c_out), jnp.float32)
        return np.asarray(correlate(x, kernel, padding="SAME", groups=groups)).reshape(2, *space, groups, c_out // groups)

    blocks = np.asarray(x).reshape(2, *space, groups, 8 // groups)
    np.testing.assert_array_equal(through(8), blocks)
    np.testing.assert_array_equal(through(4), blocks[..., : 4 // groups])
    wider = through(16)
    np.testing.assert_array_equal(wider[..., : 8 // groups], blocks)
    np.testing.assert_array_equal(wider[..., 8 // groups :], 0)


def test_dirac_of_a_dense_kernel_is_the_identity_matrix():
    np.testing.assert_array_equal(dirac()(KEY, (3, 4), jnp.float32), np.eye(3, 4))


@pytest.mark.parametrize(
    ("shape", "sparsity", "zeros"), [((3, 2, 5, 200), 0.9, 27), ((7, 100), 0.5, 4), ((7, 100), 0.0, 0), ((7, 100), 1.0, 7)]
)
def test_sparse_leaves_each_output_as_many_inputs(shape, sparsity, zeros):
    weights = np.asarray(sparse(sparsity, 0.5)(KEY, shape, jnp.float32)).reshape(-1, shape[-1])
    np.testing.assert_array_equal((weights == 0).sum(0), zeros)
    if 0 < sparsity < 1:
        assert weights[weights != 0].std() == pytest.approx(0.5, rel=0.15)
        assert len({tuple(column) for column in (weights == 0).T}) > 20  # not the same inputs for all


def test_gains_are_torchs():
    expected = {"linear": 1, "sigmoid": 1, "tanh": 5 / 3, "relu": 2**0.5, "leaky_relu": (2 / 1.0001) ** 0.5, "selu": 0.75}
    for activation, value in expected.items():
        assert gain(activation) == pytest.approx(value, rel=1e-12)
    assert gain("leaky_relu", negative_slope=0.3) == pytest.approx((2 / 1.09) ** 0.5, rel=1e-12)
    # What a gain is for: through a rectifier the second moment comes back to one.
    z = np.random.default_rng(0).normal(size=1_000_000)
    assert gain("relu") ** 2 * np.mean(np.maximum(z, 0) ** 2) == pytest.approx(1, abs=0.01)
    with pytest.raises(ValueError, match="activation='leaky' is unknown \\(did you mean leaky_relu"):
        gain("leaky")


def test_bad_options_are_named():
    for make, message in (
        (lambda: initialisers.normal(-1.0), "deviation=-1.0 must be at least 0"),
        (lambda: initialisers.uniform(float("nan")), "bound=nan"),
        (lambda: sparse(1.5), "sparsity=1.5 must be from 0 to 1"),
        (lambda: dirac(0), "groups=0 must be at least 1"),
        (lambda: torch_default_bias(0), "fan_in=0 must be at least 1"),
        (lambda: dirac(3)(KEY, (3, 2, 8), jnp.float32), "groups=3 must divide the 8 output channels"),
        (lambda: dirac()(KEY, (3,), jnp.float32), "has no channels"),
        (lambda: delta_orthogonal()(KEY, (3,), jnp.float32), "has no channels"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_an_initialiser_by_name():
    for name, init in initialisers.INITIALISERS.items():
        assert initialisers.named_initialiser(name) is init
    with pytest.raises(ValueError, match="Unknown initialiser 'he_norml'. Did you mean he_normal .*Known: zeros, ones"):
        initialisers.named_initialiser("he_norml")
