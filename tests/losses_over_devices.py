"""The program of `test_losses_over_devices.py`: losses over 1, 2, 4 and 8 devices, in a process of its own, for the suite's has four.

`python -m tests.losses_over_devices NAME…` compares these losses (none named: all) on every number of devices under jit and pmap, with
`--few` each once under jit and once under pmap, on numbers that go round. It prints what it has compared, a line each.
"""

import sys
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cnn_jax.losses import triplet_sums
from cnn_jax.losses.comparison import References
from cnn_jax.losses.reduction import masked_mean
from cnn_jax.options import reads
from cnn_jax.registry import LOSSES, MINERS
from cnn_jax.step import gather

NUM_CLASSES = 4
SIZES = (1, 2, 4, 8)


def by_sorted_rows(embeddings, labels, *, where):
    """The way of batches with many positives an anchor."""
    most, triplet_sums.MOST_PASSES = triplet_sums.MOST_PASSES, 0
    try:
        return LOSSES["triplet_batch_all"](embeddings, labels, where=where)
    finally:
        triplet_sums.MOST_PASSES = most


def cases():
    """Name -> (a loss or a module, what it reads): all that compare examples, and their forms that take other ways through the code."""
    kept = np.random.default_rng(1)
    memory = References(jnp.array(kept.normal(size=(5, 4))), jnp.array(kept.integers(0, NUM_CLASSES, 5)), jnp.arange(5) != 2)
    found = {}
    for name, loss in LOSSES.items():
        if reads(loss) in ("embeddings", "scores"):
            found[name] = loss(num_classes=NUM_CLASSES) if isinstance(loss, type) else loss, reads(loss)
    others = {
        "nt_xent in tiles": partial(LOSSES["nt_xent"], tile=3),
        "supervised_contrastive in tiles": partial(LOSSES["supervised_contrastive"], tile=3),
        "triplet_batch_all by sorted rows": by_sorted_rows,
        "triplet_batch_all with a memory": partial(LOSSES["triplet_batch_all"], references=memory),
        "triplet_margin_loss swapped": partial(LOSSES["triplet_margin_loss"], swap=True),
        "learned_margin, one for all": LOSSES["learned_margin"](num_classes=NUM_CLASSES, betas="one"),
    }
    mined = {f"margin_loss mined by {name}": partial(LOSSES["margin_loss"], miner=miner) for name, miner in MINERS.items()}
    return found | {name: (loss, "embeddings") for name, loss in (others | mined).items()}


def batch_of(what):
    """(embeddings [16, 4] or scores [16], labels, where): unequal classes, a few examples that do not count."""
    draw = np.random.default_rng(0)
    x, labels, where = draw.normal(size=(16, 4)) + 0.2, draw.integers(0, NUM_CLASSES, 16), draw.random(16) < 0.8
    return jnp.array(x if what == "embeddings" else x[:, 0]), jnp.array(labels), jnp.array(where)


def mean_and_gradients(loss):
    """((weights, x), labels, where, axis name) -> the mean over the global batch, and its gradients."""

    def mean(learned, labels, where, axis_name):
        weights, x = learned
        x, labels, where = gather((x, labels, where), axis_name)
        loss_fn = partial(loss.apply, weights) if isinstance(loss, nn.Module) else loss
        return masked_mean(loss_fn(x, labels, where=where), where)

    def differentiated(weights, x, labels, where, axis_name=None):
        value, (by_weights, by_x) = jax.value_and_grad(mean)((weights, x), labels, where, axis_name)
        if axis_name is None:
            return value, by_weights, by_x
        # The gather's transpose has summed what all devices hold alike.
        return value, lax.pmean(by_weights, axis_name), by_x / lax.axis_size(axis_name)

    return differentiated


def under_jit(function, num, weights, *batch):
    mesh = jax.make_mesh((num,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:num])
    whole, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    return jax.jit(function, in_shardings=(whole, split, split, split))(weights, *batch)


def under_pmap(function, num, weights, *batch):
    shards = [a.reshape(num, -1, *a.shape[1:]) for a in batch]
    on_all = jax.pmap(partial(function, axis_name="data"), "data", in_axes=(None, 0, 0, 0), devices=jax.devices()[:num])
    value, by_weights, by_x = on_all(weights, *shards)
    for each in jax.tree.leaves((value, by_weights)):
        np.testing.assert_allclose(each, np.broadcast_to(each[0], each.shape), rtol=1e-12)
    return value[0], jax.tree.map(lambda g: g[0], by_weights), by_x.reshape(batch[0].shape)


def places(i, few):
    """Where the i-th loss is compared: (way, number of devices)."""
    if not few:
        return [(way, num) for way in (under_jit, under_pmap) for num in SIZES]
    return [(under_jit, (8, 4, 2)[i % 3]), (under_pmap, (2, 8, 4)[i % 3])]


def main(names, few):
    for i, (name, (loss, what)) in enumerate(cases().items()):
        if names and name not in names:
            continue
        batch = batch_of(what)
        weights = {}
        if isinstance(loss, nn.Module):
            weights = jax.tree.map(lambda w: w.astype(float), jax.jit(loss.init)(jax.random.key(0), *batch[:2]))
        function = mean_and_gradients(loss)
        expected = jax.jit(function)(weights, *batch)
        assert expected[0] > 0, f"{name}: nothing to compare"
        assert all(jnp.abs(g).max() > 0 for g in jax.tree.leaves(expected[1:])), f"{name}: no gradient"
        for way, num in places(i, few):
            found = way(function, num, weights, *batch)
            for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11, err_msg=f"{name} {way.__name__} {num}")
            print(name, way.__name__, num, sep="\t", flush=True)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    main([a for a in sys.argv[1:] if a != "--few"], "--few" in sys.argv)
