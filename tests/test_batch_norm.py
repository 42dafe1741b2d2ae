"""BatchNorm against loops in float64, value, gradient and statistics; its precision, masks and devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from cnn_jax.layers import BatchNorm
from cnn_jax.ops.norm import batch_moments, normalise, num_values
from tests.even_choice import TYPES, evenly
from tests.layer_oracle import TOLERANCES, assert_layer_agrees, assert_near, three_sizes


def batch_norm(params, stats, x, where, *, train, epsilon, momentum):
    """Outputs and moved statistics, one channel after another: moments of the examples that count, those kept where none does."""
    y, moved = np.zeros(x.shape), {name: stats[name].copy() for name in stats}
    for c in range(x.shape[-1]):
        values = x[where][..., c].ravel().tolist()
        mean, var = stats["mean"][c], stats["var"][c]
        if train and values:
            mean = sum(values) / len(values)
            total = sum((v - mean) ** 2 for v in values)
            var = total / len(values)
            moved["mean"][c] = momentum * stats["mean"][c] + (1 - momentum) * mean
            moved["var"][c] = momentum * stats["var"][c] + (1 - momentum) * total / (len(values) - 1)
        y[..., c] = (x[..., c] - mean) / np.sqrt(var + epsilon) * params["scale"][c] + params["bias"][c]
    return y, moved


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("mode", "counting"), [("train", "all"), ("train", "some"), ("train", "none"), ("evaluate", "all"), ("frozen", "some")]
)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    sizes=three_sizes,
    examples=st.integers(4, 6),  # of which three or more count: of two, normalised, all slopes cancel
    channels=st.integers(1, 3),
    epsilon=st.sampled_from([1e-5, 0.3]),
    momentum=st.sampled_from([0.0, 0.9, 0.99]),
    seed=st.integers(0, 99),
)
def test_batch_norm_equals_a_loop(mode, counting, sizes, examples, channels, epsilon, momentum, seed):
    case = mode, counting, sizes, examples, channels, epsilon, momentum, seed
    space, dtype, rng = sizes[: evenly((0, 1, 2, 3), case)], evenly(TYPES, case, "type"), np.random.default_rng(seed)
    x = rng.normal(size=(examples, *space, channels)) * np.arange(1, channels + 1) + rng.normal(size=channels)
    params = {"scale": rng.normal(size=channels), "bias": rng.normal(size=channels)}
    stats = {"mean": rng.normal(size=channels), "var": rng.random(channels) + 0.5}
    where = {"all": np.ones(examples, bool), "some": np.arange(examples) != seed % examples, "none": np.zeros(examples, bool)}[counting]
    options = {"epsilon": epsilon, "momentum": momentum}
    layer = BatchNorm(frozen=mode == "frozen", **options)
    asked = None if counting == "all" else jnp.array(where)

    def ours(params, x):
        variables = {"params": params, "batch_stats": jax.tree.map(jnp.array, stats)}
        y, moved = layer.apply(variables, x, mode != "evaluate", asked, mutable=["batch_stats"])
        return y, moved["batch_stats"]

    def oracle(params, x):
        return batch_norm(params, stats, x, where, train=mode == "train", **options)

    moved = assert_layer_agrees(ours, lambda *arrays: oracle(*arrays)[0], params, x, dtype=dtype)
    expected = oracle(params, np.asarray(jnp.array(x, dtype), np.float64))[1]
    for name in stats:  # whatever the inputs, to float32's precision
        assert_near(moved[name], expected[name], 1e-6)


def test_batch_norm_is_torchs_by_default():
    """new = 0.9 · old + 0.1 · batch, from mean 0 and variance 1; ε is 1e-5, scale 1, bias 0."""
    x = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32) * 0.01 + 5
    variables = BatchNorm().init(jax.random.key(0), jnp.array(x), train=True)
    params, stats = ({name: np.asarray(a) for name, a in variables[kind].items()} for kind in ("params", "batch_stats"))
    given = {"scale": np.ones(3), "bias": np.zeros(3)}, {"mean": np.zeros(3), "var": np.ones(3)}
    for found, wanted in zip((params, stats), given, strict=True):
        assert_close(found, wanted, rtol=0)
    y, moved = jax.jit(lambda x: BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"]))(x)
    expected, expected_moved = batch_norm(*given, x.astype(float), np.ones(6, bool), train=True, epsilon=1e-5, momentum=0.9)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    assert_close(moved["batch_stats"], expected_moved, rtol=1e-5)


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
        np.testing.assert_allclose(jax.jit(jax.grad(loss))(x, shift), jax.jit(jax.grad(two_passes))(x), rtol=1e-8, atol=1e-10)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("dtype", sorted(TOLERANCES))
def test_statistics_stay_float32_whatever_the_inputs(dtype):
    x, where = jnp.ones((4, 2), dtype), jnp.array([True, True, False, True])
    variables = jax.eval_shape(lambda x: BatchNorm().init(jax.random.key(0), x, True), x)
    for counting in (None, where):
        y, moved = jax.eval_shape(lambda v, x, w=counting: BatchNorm().apply(v, x, True, w, mutable=["batch_stats"]), variables, x)
        assert y.dtype == dtype
        assert {a.dtype.name for a in jax.tree.leaves([variables, moved])} == {"float32"}


def test_batch_moments_keep_their_precision_far_from_zero():
    """In float32, at mean 10⁴ and deviation 1, E[x²] − E[x]² is noise; with a shift near the mean it is not."""
    x = (np.random.default_rng(4).normal(size=(4096, 1)) + 1e4).astype(np.float32)
    for where in (None, jnp.arange(4096) != 5):
        _, var = batch_moments(jnp.array(x), jnp.array([1e4 + 3.0]), where=where)
        np.testing.assert_allclose(var, x.astype(np.float64).var(0), rtol=1e-3)


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
    subset = jax.jit(run_batch_norm)(variables, x[WHERE], cotangent[WHERE], None)
    masked = jax.jit(run_batch_norm)(variables, x, cotangent, jnp.array(WHERE))
    assert not np.asarray(masked["by_x"][~WHERE]).any()
    rows = {**masked, "y": masked["y"][WHERE], "by_x": masked["by_x"][WHERE]}
    assert_close(rows, subset, rtol=2e-5, atol=2e-5)


def test_masked_batch_norm_is_the_same_on_any_number_of_devices():
    x, cotangent, variables = masked_case()
    for where in (WHERE, np.zeros(12, bool), None):
        where = None if where is None else jnp.array(where)
        one = jax.jit(run_batch_norm)(variables, x, cotangent, where)
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
    result = jax.jit(run_batch_norm)(variables, x, cotangent, none)
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
