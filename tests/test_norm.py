"""Normalisation against loops in float64, value and gradient; masks and devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from cnn_jax.layers import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from cnn_jax.ops.norm import (
    batch_moments,
    group_norm,
    instance_norm,
    layer_norm,
    normalise,
    num_values,
    rms_norm,
    standardise_weights,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.usefixtures("float64")
def test_batch_norm_equals_two_passes():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4, 3, 5, 6)) * np.arange(1, 7) + np.arange(6) * 10
    shift, scale, bias = (rng.normal(size=6) for _ in range(3))
    mean, var = batch_moments(jnp.array(x), jnp.array(shift))
    np.testing.assert_allclose(mean, x.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(var, x.var((0, 1, 2)), rtol=1e-11)
    expected = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5) * scale + bias
    np.testing.assert_allclose(normalise(jnp.array(x), mean, var, jnp.array(scale), jnp.array(bias)), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("float64")
def test_batch_norm_gradient_does_not_depend_on_the_shift():
    rng = np.random.default_rng(3)
    x, cotangent = jnp.array(rng.normal(size=(8, 4)) * 3 + 7), jnp.array(rng.normal(size=(8, 4)))

    def loss(x, shift):
        mean, var = batch_moments(x, shift)
        return (normalise(x, mean, var, jnp.ones(4), jnp.zeros(4)) * cotangent).sum()

    def two_passes(x):
        mean = x.mean(0, keepdims=True)
        return ((x - mean) / jnp.sqrt(jnp.square(x - mean).mean(0, keepdims=True) + 1e-5) * cotangent).sum()

    for shift in (jnp.zeros(4), jnp.full(4, 7.0)):
        np.testing.assert_allclose(jax.grad(loss)(x, shift), jax.grad(two_passes)(x), rtol=1e-8, atol=1e-10)


def test_batch_norm_keeps_its_precision_far_from_zero():
    """In float32, at mean 10⁴ and deviation 1, E[x²] − E[x]² is noise; with the running mean as shift it is not."""
    x = (np.random.default_rng(4).normal(size=(4096, 1)) + 1e4).astype(np.float32)
    for where in (None, jnp.arange(4096) != 5):
        _, var = batch_moments(jnp.array(x), jnp.array([1e4 + 3.0]), where=where)
        np.testing.assert_allclose(var, x.astype(np.float64).var(0), rtol=1e-3)


def loop_norm(x, together, scale, bias, epsilon, centred=True):
    """The definition: values whose index has the same `together` share a mean and a variance."""
    sets = {}
    for place in np.ndindex(x.shape):
        sets.setdefault(together(place), []).append(place)
    y = np.zeros(x.shape)
    for places in sets.values():
        mean = sum(x[p] for p in places) / len(places) if centred else 0.0
        var = sum((x[p] - mean) ** 2 for p in places) / len(places)
        for p in places:
            y[p] = (x[p] - mean) / np.sqrt(var + epsilon) * scale[p[-1]] + bias[p[-1]]
    return y


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
@settings(max_examples=16, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(sorted(LAYERS)),
    shape=st.sampled_from([(3, 6), (2, 5, 4), (2, 3, 2, 6), (2, 2, 3, 2, 4)]),
    epsilon=st.sampled_from([1e-5, 0.3]),
    whole=st.booleans(),
    seed=st.integers(0, 99),
)
def test_norm_equals_a_loop(kind, shape, epsilon, whole, seed):
    rng = np.random.default_rng(seed)
    channels = shape[-1]
    groups = 1 if whole else 2
    x = rng.normal(size=shape) * np.arange(1, channels + 1) + rng.normal(size=channels) * 5
    scale, bias, cotangent = rng.normal(size=channels), rng.normal(size=channels), rng.normal(size=shape)
    dx, dscale, dbias = rng.normal(size=shape), rng.normal(size=channels), rng.normal(size=channels)
    if kind == "rms":
        bias, dbias = np.zeros(channels), np.zeros(channels)
    if kind == "instance" and len(shape) == 2:
        with pytest.raises(ValueError, match=r"more than one position.*\(3, 6\)"):
            instance_norm(jnp.array(x))
        return
    op, module = LAYERS[kind]
    layer = module(epsilon=epsilon, **({"groups": groups} if kind == "group" else {}))
    params = {"scale": jnp.array(scale)} | ({} if kind == "rms" else {"bias": jnp.array(bias)})
    assert jax.tree.map(jnp.shape, layer.init(jax.random.key(0), jnp.array(x))["params"]) == jax.tree.map(jnp.shape, params)

    def expected(t):
        return loop_norm(x + t * dx, together(kind, channels, groups), scale + t * dscale, bias + t * dbias, epsilon, centred=kind != "rms")

    @jax.jit
    def ours(params, x):
        y, pullback = jax.vjp(lambda p, x: layer.apply({"params": p}, x), params, x)
        return y, *pullback(jnp.array(cotangent))

    y, gradients, gradient = ours(params, jnp.array(x))
    np.testing.assert_allclose(y, expected(0), rtol=1e-10, atol=1e-12)
    slope = (gradient * dx).sum() + (gradients["scale"] * dscale).sum() + (gradients.get("bias", np.zeros(channels)) * dbias).sum()
    np.testing.assert_allclose(slope, ((expected(1e-6) - expected(-1e-6)) / 2e-6 * cotangent).sum(), rtol=1e-6, atol=1e-7)
    plain = np.asarray(op(jnp.array(x), epsilon=epsilon, **({"groups": groups} if kind == "group" else {})))
    np.testing.assert_allclose(plain * scale + bias, y, rtol=1e-10, atol=1e-12)  # eager, and without scale and bias


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
    y = op(x)
    assert y.dtype == jnp.bfloat16
    exact = loop_norm(np.asarray(x, np.float64), together(kind, 4, 2), np.ones(4), np.zeros(4), 1e-5, centred=kind != "rms")
    np.testing.assert_allclose(np.asarray(y, np.float64), exact, rtol=2e-2, atol=1e-4)
    for constant in (0.0, 1e4):
        gradient = jax.grad(lambda x: (op(x) * jnp.arange(4.0)[None, None, None]).sum())(jnp.full((2, 3, 2, 4), constant))
        assert np.isfinite(gradient).all()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("shape", [(7, 3), (5, 2, 3), (3, 2, 2, 4), (2, 3, 1, 2, 3)])
def test_standardised_weights_equal_a_loop(shape):
    rng = np.random.default_rng(6)
    w, dw, cotangent = (rng.normal(size=shape) for _ in range(3))

    def expected(w):
        y = np.zeros(shape)
        for o in range(shape[-1]):
            values = [w[p] for p in np.ndindex(shape) if p[-1] == o]
            mean = sum(values) / len(values)
            var = sum((v - mean) ** 2 for v in values) / len(values)
            for p in np.ndindex(shape):
                if p[-1] == o:
                    y[p] = (w[p] - mean) / np.sqrt(var + 1e-3)
        return y

    y, pullback = jax.vjp(lambda w: standardise_weights(w, epsilon=1e-3), jnp.array(w))
    np.testing.assert_allclose(y, expected(w), rtol=1e-11)
    slope = (expected(w + 1e-6 * dw) - expected(w - 1e-6 * dw)) / 2e-6
    np.testing.assert_allclose((pullback(jnp.array(cotangent))[0] * dw).sum(), (slope * cotangent).sum(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"more than one weight.*\(1, 1, 8\)"):
        standardise_weights(jnp.zeros((1, 1, 8)))


WHERE = np.array([1, 1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 1], bool)  # on four devices: 2, 0, 1 and 3 of three


def masked_case():
    """Examples, of which those that do not count are far away, and what a BatchNorm layer makes of them."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(12, 5, 4)) * np.arange(1, 5) + 3
    x[~WHERE] = 1e3
    cotangent = rng.normal(size=x.shape) * WHERE[:, None, None]
    variables = {
        "params": {"scale": jnp.array(rng.normal(size=4), jnp.float32), "bias": jnp.array(rng.normal(size=4), jnp.float32)},
        "batch_stats": {"mean": jnp.array(rng.normal(size=4) + 3, jnp.float32), "var": jnp.array(rng.random(4) + 1, jnp.float32)},
    }
    return jnp.array(x, jnp.float32), jnp.array(cotangent, jnp.float32), variables


def run_batch_norm(variables, x, cotangent, where, axis_name=None):
    """Outputs, moved statistics, and the gradients of the global sum of outputs · cotangent."""

    def loss(params, x):
        y, updates = BatchNorm(axis_name=axis_name).apply({**variables, "params": params}, x, True, where, mutable=["batch_stats"])
        total = (y * cotangent).sum()
        return total if axis_name is None else jax.lax.psum(total, axis_name), (y, updates["batch_stats"])

    (_, (y, stats)), (by_params, by_x) = jax.value_and_grad(loss, (0, 1), has_aux=True)(variables["params"], x)
    if axis_name is not None:
        by_params = jax.lax.pmean(by_params, axis_name)
    return {"y": y, "stats": stats, "by_params": by_params, "by_x": by_x}


def assert_close(ours, theirs, **tolerance):
    for (path, a), (_, b) in zip(*(jax.tree_util.tree_leaves_with_path(tree) for tree in (ours, theirs)), strict=True):
        np.testing.assert_allclose(a, b, err_msg=str(path), **tolerance)


def test_masked_batch_norm_is_that_of_the_examples_that_count():
    x, cotangent, variables = masked_case()
    subset = run_batch_norm(variables, x[WHERE], cotangent[WHERE], None)
    masked = run_batch_norm(variables, x, cotangent, jnp.array(WHERE))
    assert not np.asarray(masked["by_x"][~WHERE]).any()
    rows = {**masked, "y": masked["y"][WHERE], "by_x": masked["by_x"][WHERE]}
    assert_close(rows, subset, rtol=2e-5, atol=2e-5)
    assert_close(jax.jit(run_batch_norm)(variables, x, cotangent, jnp.array(WHERE)), masked, rtol=1e-5, atol=1e-5)
    # And, in doubles, of plain NumPy.
    values = np.asarray(x, np.float64)[WHERE].reshape(-1, 4)
    np.testing.assert_allclose(
        masked["stats"]["mean"], 0.9 * np.asarray(variables["batch_stats"]["mean"]) + 0.1 * values.mean(0), rtol=1e-5
    )
    np.testing.assert_allclose(
        masked["stats"]["var"], 0.9 * np.asarray(variables["batch_stats"]["var"]) + 0.1 * values.var(0, ddof=1), rtol=1e-5
    )


def test_masked_batch_norm_is_the_same_on_any_number_of_devices():
    x, cotangent, variables = masked_case()
    for where in (WHERE, np.zeros(12, bool), None):
        where = None if where is None else jnp.array(where)
        one = run_batch_norm(variables, x, cotangent, where)
        parts = [None if a is None else a.reshape(4, 3, *a.shape[1:]) for a in (x, cotangent, where)]
        mapped = jax.pmap(lambda v, *parts: run_batch_norm(v, *parts, axis_name="data"), "data", in_axes=(None, 0, 0, 0))(variables, *parts)
        for name in ("y", "by_x"):
            mapped[name] = mapped[name].reshape(x.shape)
        for name in ("stats", "by_params"):  # the same on every device
            mapped[name] = jax.tree.map(lambda a: a[2], mapped[name])
        # psum's transpose sums over devices: each device's gradient of x is four times that of the global sum.
        mapped["by_x"] = mapped["by_x"] / 4
        assert_close(mapped, one, rtol=2e-5, atol=2e-5)
        mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
        split = NamedSharding(mesh, P("data"))
        sharded = [None if a is None else jax.device_put(a, split) for a in (x, cotangent, where)]
        assert_close(jax.jit(run_batch_norm)(variables, *sharded), one, rtol=2e-5, atol=2e-5)


def test_batch_norm_without_an_example_that_counts_stays_as_it_is():
    x, cotangent, variables = masked_case()
    none = jnp.zeros(12, bool)
    mean, var = batch_moments(x, jnp.arange(4.0), where=none)
    np.testing.assert_array_equal(mean, jnp.arange(4.0))
    np.testing.assert_array_equal(var, jnp.ones(4))
    result = run_batch_norm(variables, x, cotangent, none)
    assert_close(result["stats"], variables["batch_stats"], rtol=0)
    np.testing.assert_allclose(result["y"], BatchNorm().apply(variables, x, False), rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))
    poisoned = batch_moments(x.at[2].set(jnp.nan), jnp.zeros(4), where=jnp.array(WHERE))
    assert all(np.isfinite(moment).all() for moment in poisoned)
    with pytest.raises(ValueError, match=r"where must hold one boolean an example, shape \(12,\), got bool \(11,\)"):
        num_values(x, where=none[:11])


def test_frozen_batch_norm_trains_as_it_evaluates():
    x, _, variables = masked_case()
    y, updates = BatchNorm(frozen=True).apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, BatchNorm().apply(variables, x, False))
    assert_close(updates["batch_stats"], variables["batch_stats"], rtol=0)
    params = jax.grad(lambda p: BatchNorm(frozen=True).apply({**variables, "params": p}, x, True).sum())(variables["params"])
    assert all(np.abs(g).min() > 0 for g in jax.tree.leaves(params))


def test_batch_norm_moves_its_statistics_as_torch_does():
    """new = 0.9 · old + 0.1 · batch, with the unbiased variance."""
    x = jnp.array(np.random.default_rng(1).normal(size=(6, 3)), jnp.float32) * 2 + 5
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), x, train=False)
    _, updates = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-5)


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
        value, expected = function(jnp.array(x, dtype)), function(jnp.array(x, jnp.float32))
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
    with pytest.raises(ValueError, match="epsilon=-1e-06 must be"):
        standardise_weights(x, epsilon=-1e-6)
    for momentum in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=rf"momentum={momentum} must be in \[0, 1\]"):
            BatchNorm(momentum=momentum).init(jax.random.key(0), x, True)
