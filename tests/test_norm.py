"""Normalisation of groups, layers, instances and by the root mean square against loops in float64, value and gradient; types, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax.layers import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from cnn_jax.ops.norm import batch_moments, group_norm, instance_norm, layer_norm, normalise, rms_norm
from tests.even_choice import TYPES, evenly
from tests.layer_oracle import TOLERANCES, assert_layer_agrees, assert_near, three_sizes


def loop_norm(x, together, scale, bias, epsilon, centred=True):
    """The definition: values whose index has the same `together` share a mean and a variance."""
    y = np.zeros(x.shape)
    for places in sets_of(x.shape, together):
        mean = x[places].mean() if centred else 0.0
        var = ((x[places] - mean) ** 2).mean()
        y[places] = (x[places] - mean) / np.sqrt(var + epsilon) * scale[places[-1]] + bias[places[-1]]
    return y


def sets_of(shape, together):
    """The sets of places, each as the index arrays of its axes."""
    sets = {}
    for place in np.ndindex(shape):
        sets.setdefault(together(place), []).append(place)
    return [tuple(np.transpose(places)) for places in sets.values()]


def together(kind, channels, groups):
    """What of an index (example, *position, channel) its set of values has in common."""
    return {
        "group": lambda p: (p[0], p[-1] // (channels // groups)),
        "layer": lambda p: p[:-1],
        "instance": lambda p: (p[0], p[-1]),
        "rms": lambda p: p[:-1],
    }[kind]


LAYERS = {
    "group": (group_norm, GroupNorm),
    "layer": (layer_norm, LayerNorm),
    "instance": (instance_norm, InstanceNorm),
    "rms": (rms_norm, RMSNorm),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", sorted(LAYERS))
@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    sizes=three_sizes,
    groups=st.integers(1, 2),
    share=st.integers(3, 4),  # of two values, normalised, all slopes cancel
    epsilon=st.sampled_from([1e-5, 0.3]),
    seed=st.integers(0, 99),
)
def test_norm_equals_a_loop(kind, sizes, groups, share, epsilon, seed):
    rng = np.random.default_rng(seed)
    channels = groups * share
    case = kind, sizes, groups, share, epsilon, seed
    space, dtype = sizes[: evenly((0, 1, 2, 3), case)], evenly(TYPES, case, "type")
    space = (3, *space[1:]) if kind == "instance" else space  # it needs some
    shape = (2, *space, channels)
    x = rng.normal(size=shape) * np.arange(1, channels + 1) + rng.normal(size=channels)
    params = {"scale": rng.normal(size=channels)} | ({} if kind == "rms" else {"bias": rng.normal(size=channels)})
    options = {"epsilon": epsilon} | ({"groups": groups} if kind == "group" else {})
    op, module = LAYERS[kind]
    layer = module(**options)
    made = jax.eval_shape(layer.init, jax.random.key(0), jnp.array(x))["params"]
    assert jax.tree.map(lambda a: a.shape, made) == jax.tree.map(np.shape, params)
    sharing = together(kind, channels, groups)

    def ours(params, x):
        return layer.apply({"params": params}, x), (op(x, **options), layer.apply({"params": params}, x))

    def oracle(params, x):
        return loop_norm(x, sharing, params["scale"], params.get("bias", np.zeros(channels)), epsilon, centred=kind != "rms")

    plain, y = (np.asarray(a, np.float64) for a in assert_layer_agrees(ours, oracle, params, x, dtype=dtype))
    assert_near(plain * params["scale"] + params.get("bias", 0), y, TOLERANCES[dtype][0])  # without scale and bias


def test_norm_defaults_are_the_named_ones():
    """torch's ε in the functions; float32's step at 1 for the root mean square; 32 groups."""
    x = jnp.array([[1e-3, -2e-3, 3e-3, 1e-3]])
    v = np.asarray(x, np.float64)
    np.testing.assert_allclose(layer_norm(x), (v - v.mean()) / np.sqrt(v.var() + 1e-5), rtol=1e-5)
    np.testing.assert_allclose(
        LayerNorm().apply({"params": {"scale": jnp.ones(4), "bias": jnp.zeros(4)}}, x)[0, 1],
        ((v - v.mean()) / np.sqrt(v.var() + 1e-6))[0, 1],
        rtol=1e-5,
    )
    np.testing.assert_allclose(rms_norm(x), v / np.sqrt((v**2).mean() + np.finfo(np.float32).eps), rtol=1e-5)
    assert InstanceNorm(affine=False).init(jax.random.key(0), jnp.zeros((1, 2, 3))) == {}
    with pytest.raises(ValueError, match=r"groups=32 must .* divide the number of channels, which is 48"):
        GroupNorm().init(jax.random.key(0), jnp.zeros((1, 2, 48)))
    with pytest.raises(ValueError, match=r"groups=0 must be at least 1"):
        group_norm(x, groups=0)


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_norm_in_bfloat16_and_of_constants(kind):
    """Half precision is normalised in float32: the mean is 200 deviations away. Constants have a finite gradient."""
    op = {**LAYERS, "group": (lambda x: group_norm(x, groups=2), None)}[kind][0]
    x = jnp.array(np.random.default_rng(5).normal(size=(2, 7, 6, 4)) * 0.5 + 100, jnp.bfloat16)
    y = jax.jit(op)(x)
    assert y.dtype == jnp.bfloat16
    exact = loop_norm(np.asarray(x, np.float64), together(kind, 4, 2), np.ones(4), np.zeros(4), 1e-5, centred=kind != "rms")
    np.testing.assert_allclose(np.asarray(y, np.float64), exact, rtol=2e-2, atol=1e-4)
    gradient = jax.jit(jax.grad(lambda x: (op(x) * jnp.arange(4.0)[None, None, None]).sum()))
    for constant in (0.0, 1e4):
        assert np.isfinite(gradient(jnp.full((2, 3, 2, 4), constant))).all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.bool_])
def test_norms_of_whole_numbers_are_float32(dtype):
    x = np.random.default_rng(5).integers(0, 2 if dtype == jnp.bool_ else 200, size=(2, 5, 6))
    one, zero = jnp.ones(6), jnp.zeros(6)
    functions = [
        lambda x: normalise(x, one / 3, one * 2, one, zero), lambda x: group_norm(x, groups=3), layer_norm, instance_norm, rms_norm,
        lambda x: BatchNorm().apply(BatchNorm().init(jax.random.key(0), x, False), x, True, mutable=["batch_stats"])[0],
    ]  # fmt: skip
    for function in functions:
        value, expected = (jax.jit(function)(x.astype(t)) for t in (dtype, jnp.float32))
        assert value.dtype == jnp.float32
        np.testing.assert_array_equal(value, expected)


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_a_norm_is_named():
    x, c = jnp.ones((2, 3, 6)), jnp.ones(6)
    for groups in (1.0, True, "2"):
        with pytest.raises(ValueError, match=f"groups={groups!r} must be a whole number"):
            group_norm(x, groups=groups)
    assert group_norm(x, groups=np.int64(2)).shape == x.shape
    for function in (lambda *vectors, **options: group_norm(*vectors, groups=2, **options), layer_norm, instance_norm, rms_norm):
        with pytest.raises(ValueError, match=r"scale must be \[6\], .*got \(1,\)"):
            function(x, jnp.ones(1))
        with pytest.raises(ValueError, match="epsilon=-1.0 must be finite and not negative"):
            function(x, epsilon=-1.0)
    for function in (lambda x, *vectors: group_norm(x, *vectors, groups=2), layer_norm, instance_norm):
        with pytest.raises(ValueError, match=r"bias must be \[6\], .*got \(5,\)"):
            function(x, c, jnp.ones(5))
    with pytest.raises(ValueError, match=r"shift must be \[6\], .*got \(1, 6\)"):
        batch_moments(x, c[None])
    for at, name in enumerate(("mean", "var", "scale", "bias")):
        with pytest.raises(ValueError, match=rf"{name} must be \[6\], .*got \(1,\)"):
            normalise(x, *[jnp.ones(1) if i == at else c for i in range(4)])
    with pytest.raises(ValueError, match="epsilon=nan must be"):
        normalise(x, c, c, c, c, epsilon=float("nan"))
    for momentum in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=rf"momentum={momentum} must be in \[0, 1\]"):
            BatchNorm(momentum=momentum).init(jax.random.key(0), x, True)
