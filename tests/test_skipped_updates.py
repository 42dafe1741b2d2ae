"""Numbers that are not finite: the update is left out, the state stays bit for bit what it was, and too many in a row end the run."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn_jax.build import build, first_state
from cnn_jax.data.source import MemorySource
from cnn_jax.errors import UserError
from cnn_jax.experiment import Spec
from cnn_jax.optim import no_average
from cnn_jax.parallel import make_parallel
from cnn_jax.step import GRADIENT, LOSS, TOO_MANY, make_train_step
from cnn_jax.train import make_step, train
from cnn_jax.verify_resume import records
from tests.runs import CLASSIFIER, TRIPLET, assert_trees_equal, launch_here
from tests.test_resume import final_state

LAYOUTS = [("jit", 1), ("jit", 4), ("pmap", 2)]


def batch_of(built, poison: tuple = ()):
    rng = np.random.default_rng(3)
    inputs = rng.uniform(size=(16, *built.dataset.train_shape)).astype(np.float32)
    for index in poison:
        inputs[index] = np.nan
    return {"inputs": inputs, "targets": (np.arange(16) % 4).astype(np.int32), "valid": np.ones(16, bool)}


def plain(state):
    return jax.device_get(state.replace(key=jax.random.key_data(state.key)))


@pytest.mark.parametrize(("mode", "num_devices"), LAYOUTS)
@pytest.mark.parametrize("experiment", [CLASSIFIER, TRIPLET, dataclasses.replace(CLASSIFIER, accumulate_steps=2)], ids=["a", "b", "c"])
def test_a_bad_value_on_one_device_leaves_the_whole_state_as_it_was(experiment, mode, num_devices):
    experiment = dataclasses.replace(experiment, max_skipped=2)
    parallel = make_parallel(mode, num_devices)
    built = build(experiment, axis_name=parallel.axis_name)
    state = parallel.make(lambda: first_state(built))
    step = parallel.compile(make_step(built, parallel), state, parallel.shard(batch_of(built)), donate=False)
    good, _ = step(state, parallel.shard(batch_of(built)))  # so that momentum, statistics and average are not zeros
    bad, measures = step(good, parallel.shard(batch_of(built, poison=(13,))))  # on the last device
    assert int(measures["skipped"]) in (LOSS, GRADIENT)  # behind a ReLU a CPU's sums may hide it
    assert [int(bad.step), int(bad.skipped)] == [2, 1]
    assert_trees_equal(plain(bad.replace(step=good.step, skipped=good.skipped)), plain(good))
    assert not any(np.any(leaf) for name, m in measures.items() if name != "skipped" for leaf in jax.tree.leaves(m))
    for copies in jax.tree.leaves(bad.params):  # all devices agree
        shards = [np.asarray(shard.data) for shard in copies.addressable_shards]
        assert all(np.array_equal(shards[0], shard) for shard in shards)
    # Two in a row are as many as may be: from then on nothing is updated, not by a good batch either.
    worse, _ = step(bad, parallel.shard(batch_of(built, poison=(2,))))
    frozen, measures = step(worse, parallel.shard(batch_of(built)))
    assert int(measures["skipped"]) == TOO_MANY
    assert_trees_equal(plain(frozen).params, plain(good).params)
    # One in a row may be followed by a good one, which starts the count anew.
    healed, measures = step(bad, parallel.shard(batch_of(built)))
    assert [int(measures["skipped"]), int(healed.skipped)] == [0, 0]
    assert not np.array_equal(jax.tree.leaves(healed.params)[0], jax.tree.leaves(good.params)[0])


def test_a_gradient_that_is_not_finite_is_left_out_though_the_loss_is():
    built, parallel = build(CLASSIFIER), make_parallel("jit", 1)

    def loss(logits, labels, *, where=None):
        return jnp.sqrt(0 * logits.sum(1))  # 0, with a slope of ∞ · 0

    last = lambda *arguments, **options: arguments[-1]
    options = {"augment": last, "mix": lambda key, x, y, **_: (x, y), "standardise": last, "average": no_average}
    step = make_train_step(built.model, loss, {}, optax.adam(0.1), **options)
    state = parallel.make(lambda: first_state(build(dataclasses.replace(CLASSIFIER, optimizer=Spec("adamw"), ema_decay=None))))
    state = state.replace(opt_state=optax.adam(0.1).init(state.params))
    after, measures = jax.jit(step)(state, batch_of(built))
    assert int(measures["skipped"]) == GRADIENT
    assert_trees_equal(plain(after.replace(step=state.step, skipped=state.skipped)), plain(state))


def poisoned(monkeypatch, bad: slice):
    """Training images as floats, some of which are not numbers: data that were prepared badly."""
    from cnn_jax import train as module

    def build_poisoned(experiment, **options):
        built = build(experiment, **options)
        opened = built.dataset.open

        def open_split(split):
            source = opened(split)
            if split == "test":
                return source
            images = source.images.astype(np.float32) / 255
            images[bad] = np.nan
            return MemorySource(images, source.labels)

        return built._replace(dataset=dataclasses.replace(built.dataset, open=open_split))

    monkeypatch.setattr(module, "build", build_poisoned)


def test_a_bad_example_costs_its_batches_and_is_named(tmp_path, monkeypatch, capsys):
    poisoned(monkeypatch, slice(7, 8))
    figures = train(CLASSIFIER, tmp_path, num_devices=1)
    skipped = [record for record in records(tmp_path) if record["split"] == "skipped"]
    assert 5 <= len(skipped) <= 10  # one update an epoch of three
    assert all(7 in record["examples"] and len(record["examples"]) == 16 for record in skipped)
    assert all(record["why"] in ("the loss is not finite", "the gradient is not finite") for record in skipped)
    logged = [record for record in records(tmp_path) if record["split"] == "train"]
    assert sum(record.get("skipped", 0) for record in logged) == len(skipped)
    assert all(np.isfinite(record["loss"]) for record in logged)
    assert np.isfinite(figures["loss"])
    assert f"WARNING: the update of step {skipped[0]['step']} is left out" in capsys.readouterr().out


def test_too_many_in_a_row_end_the_run_with_an_autopsy(tmp_path, monkeypatch, capsys):
    poisoned(monkeypatch, slice(None))
    with pytest.raises(UserError, match="(?s)10 updates in a row were left out, from step 1 on.*images are not finite after augmentation"):
        train(CLASSIFIER, tmp_path, num_devices=2)
    found = json.loads((tmp_path / "autopsy" / "step_1" / "findings.json").read_text())
    assert found["step"] == 1
    assert found["learning_rate"] == pytest.approx(0.05)
    assert len(found["examples"]) == 16
    with np.load(tmp_path / "autopsy" / "step_1" / "batch.npz") as batch:
        assert np.isnan(batch["inputs"]).all()
        assert len(batch["indices"]) == 16
    monkeypatch.undo()
    capsys.readouterr()
    assert launch_here("--mode=autopsy", f"--workdir={tmp_path}") == 0
    out = capsys.readouterr().out
    assert "the update of step 1, computed in float32: The images are not finite after augmentation." in out
    assert out.strip().splitlines()[-1].split() == ["head", "not", "finite"]


def test_an_explosion_is_traced_to_its_layer(tmp_path):
    explosive = dataclasses.replace(
        CLASSIFIER, model=Spec("lenet5_modern"), optimizer=Spec("sgd", learning_rate=1e12), clip_norm=None, num_steps=40, max_skipped=3
    )
    with pytest.raises(UserError, match=r"3 updates in a row were left out.*\n.*(first output|loss is not|gradient is not)"):
        train(explosive, tmp_path, num_devices=1)
    assert [r["split"] for r in records(tmp_path)].count("skipped") == 3


def test_updates_left_out_before_and_after_a_save_are_recorded_once(tmp_path, monkeypatch):
    poisoned(monkeypatch, slice(7, 8))
    train(CLASSIFIER, tmp_path / "whole", num_devices=1)
    train(dataclasses.replace(CLASSIFIER, num_steps=13), tmp_path / "stopped", num_devices=1)
    train(CLASSIFIER, tmp_path / "stopped", num_devices=1)
    assert_trees_equal(final_state(tmp_path / "whole"), final_state(tmp_path / "stopped"))
    skipped = [[r for r in records(tmp_path / name) if r["split"] == "skipped"] for name in ("whole", "stopped")]
    assert skipped[0] == skipped[1]

