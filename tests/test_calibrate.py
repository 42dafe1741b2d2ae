"""Recalibrated running statistics against those of all values together, collected in float64; one or four devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from cnn_jax.calibrate import make_calibration_step, recalibrate_batch_norm
from cnn_jax.layers import BatchNorm, Conv, Dropout


def assert_close(ours, theirs, **tolerance):
    for (path, a), (_, b) in zip(*(jax.tree_util.tree_leaves_with_path(tree) for tree in (ours, theirs)), strict=True):
        np.testing.assert_allclose(a, b, err_msg=str(path), **tolerance)


class Net(nn.Module):
    """Two normalised layers, the first of them used twice, with dropout between and a frozen one at the end."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        first = BatchNorm(momentum=0.7, axis_name=self.axis_name, name="first")
        x = nn.relu(first(Conv(3, (2,), padding="VALID", name="conv")(x), train))
        x = first(x, train)
        x = Dropout(0.5)(x, train)
        x = BatchNorm(axis_name=self.axis_name, name="second")(x * jnp.arange(1.0, 4.0)[None, None], train)
        return BatchNorm(frozen=True, name="third")(x, train).sum(1)


def calibration_batches(sizes=(4, 8, 5), padded=8):
    """Batches of unequal numbers of examples, all padded to one shape with what must not count."""
    rng = np.random.default_rng(8)
    for i, size in enumerate(sizes):
        inputs = np.full((padded, 6, 2), 1e3, np.float32)
        inputs[:size] = rng.normal(size=(size, 6, 2)) * (i + 1) + 2 * i
        yield {"inputs": jnp.array(inputs), "valid": jnp.arange(padded) < size}


def pooled_oracle(variables, batches):
    """What each layer was given, collected value by value, each batch normalised by its own."""
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), variables["params"])

    def normalised(x, layer):
        return (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5) * params[layer]["scale"] + params[layer]["bias"]

    seen = {"first": [], "second": []}
    for batch in batches:
        x = np.asarray(batch["inputs"], np.float64)[np.asarray(batch["valid"])]
        kernel = params["conv"]["kernel"]
        x = np.stack([sum(x[:, i + t] @ kernel[t] for t in range(2)) for i in range(5)], axis=1) + params["conv"]["bias"]
        seen["first"].append(x)
        x = np.maximum(normalised(x, "first"), 0)
        seen["first"].append(x)
        seen["second"].append(normalised(x, "first") * np.arange(1, 4))
    return {layer: np.concatenate([x.reshape(-1, 3) for x in xs]) for layer, xs in seen.items()}


def net_variables():
    variables = Net().init(jax.random.key(0), jnp.zeros((1, 6, 2)), train=False)
    rng = np.random.default_rng(9)
    return jax.tree.map(lambda a: a + jnp.array(rng.random(a.shape), jnp.float32), variables)


def test_recalibrated_statistics_are_those_of_all_values_of_the_pass():
    variables = net_variables()
    step = jax.jit(make_calibration_step(Net()))
    result = recalibrate_batch_norm(step, variables, calibration_batches())
    for layer, values in pooled_oracle(variables, calibration_batches()).items():
        np.testing.assert_allclose(result["batch_stats"][layer]["mean"], values.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(result["batch_stats"][layer]["var"], values.var(0, ddof=1), rtol=1e-4)
    assert result["params"] is variables["params"]
    assert_close(result["batch_stats"]["third"], variables["batch_stats"]["third"], rtol=0)
    assert all(leaf.dtype == jnp.float32 and isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(result))
    again = recalibrate_batch_norm(step, variables, calibration_batches())
    assert_close(again, result, rtol=0)
    eager = recalibrate_batch_norm(make_calibration_step(Net()), variables, calibration_batches())
    assert_close(eager, result, rtol=1e-5, atol=1e-6)
    # Evaluating with them is evaluating: the network runs as before.
    assert np.isfinite(Net().apply(result, jnp.ones((2, 6, 2)), train=False)).all()


def test_recalibration_is_the_same_on_any_number_of_devices():
    variables = net_variables()
    one = recalibrate_batch_norm(make_calibration_step(Net()), variables, calibration_batches())
    mapped = jax.pmap(make_calibration_step(Net(axis_name="data")), "data", in_axes=(None, 0), out_axes=None)
    parts = (jax.tree.map(lambda a: a.reshape(4, 2, *a.shape[1:]), batch) for batch in calibration_batches())
    assert_close(recalibrate_batch_norm(mapped, variables, parts), one, rtol=2e-5, atol=1e-5)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    split = (jax.device_put(batch, NamedSharding(mesh, P("data"))) for batch in calibration_batches())
    assert_close(recalibrate_batch_norm(jax.jit(make_calibration_step(Net())), variables, split), one, rtol=2e-5, atol=1e-5)


def test_recalibration_says_when_there_is_nothing_to_go_by():
    variables = net_variables()
    step = make_calibration_step(Net())
    with pytest.raises(ValueError, match="no example that counts"):
        recalibrate_batch_norm(step, variables, calibration_batches(sizes=(0,)))
    plain = {"params": variables["params"]}
    assert recalibrate_batch_norm(step, plain, []) is plain


def test_initialisation_and_training_hold_no_trace_of_calibration():
    x = jnp.ones((3, 6, 2))
    assert set(Net().init({"params": jax.random.key(0)}, x, train=True)) == {"params", "batch_stats"}
    _, updates = Net().apply(net_variables(), x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)})
    assert set(updates) == {"batch_stats"}
