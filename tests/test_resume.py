"""A run that is killed and started again ends bit for bit where it would have ended."""

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest

from cnn_jax.build import build, first_state
from cnn_jax.check import resolve
from cnn_jax.checkpoint import Checkpoints
from cnn_jax.errors import UserError
from cnn_jax.evaluate import evaluate_workdir, restore_target
from cnn_jax.experiment import Spec, to_json
from cnn_jax.parallel import make_parallel
from cnn_jax.train import train
from cnn_jax.verify_resume import records
from cnn_jax.workdir import read_experiment
from tests.runs import CLASSIFIER, REPOSITORY, TRIPLET, assert_trees_equal

pytestmark = pytest.mark.usefixtures("quick_commands")


def final_state(workdir):
    experiment = read_experiment(workdir)
    with Checkpoints(workdir / "checkpoints", best_by=experiment.best_by) as checkpoints:
        state = checkpoints.restore(checkpoints.steps()[-1], restore_target(build(experiment), make_parallel("jit", 1)))
    return jax.device_get(state.replace(key=jax.random.key_data(state.key)))


_KILLED = """
import os, signal, sys
from pathlib import Path
import jax
jax.config.update("jax_num_cpu_devices", 4)
from cnn_jax import data, train as module
from tests import runs
whole = module.train_batches
def mortal(*arguments, **settings):
    for step, batch in enumerate(whole(*arguments, **settings), settings["start_step"] + 1):
        if step == {die_at}:
            while {saved!r} and not Path({saved!r}).exists():
                pass  # a checkpoint is renamed into place once all of it is written
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
module.train_batches = mortal
module.train(runs.{experiment}, Path({workdir!r}), num_devices=1)
"""


def train_and_kill(experiment: str, workdir, die_at: int, saved: int | None):
    """Trains in a process of its own that kills itself, SIGKILL, before update `die_at`, once `saved` is on disk."""
    place = str(workdir / "checkpoints" / str(saved)) if saved else ""
    code = _KILLED.format(die_at=die_at, experiment=experiment, workdir=str(workdir), saved=place)
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr[-2000:]


@pytest.mark.parametrize("name", ["CLASSIFIER", "TRIPLET"])
def test_kill_and_resume_equals_a_run_in_one_go(name, tmp_path, capsys):
    experiment = {"CLASSIFIER": CLASSIFIER, "TRIPLET": TRIPLET}[name]
    figures = train(experiment, tmp_path / "whole", num_devices=1)
    train_and_kill(name, tmp_path / "killed", die_at=18, saved=13)  # saved at 13; five updates are lost and made again
    capsys.readouterr()
    assert train(experiment, tmp_path / "killed", num_devices=1) == figures
    assert "continuing after step 13 of 30" in capsys.readouterr().out
    whole, killed = final_state(tmp_path / "whole"), final_state(tmp_path / "killed")
    assert int(whole.step) == 30
    assert_trees_equal(whole, killed)  # params, batch_stats, opt_state, ema, key
    assert jax.tree.leaves(whole.ema)
    assert jax.tree.leaves(whole.opt_state)
    assert records(tmp_path / "whole") == records(tmp_path / "killed")


def test_a_save_cut_short_is_not_used(tmp_path):
    """Killed soon after asking for the save at 13: whatever is on disk, the run goes on and ends the same."""
    train(CLASSIFIER, tmp_path / "whole", num_devices=1)
    train_and_kill("CLASSIFIER", tmp_path / "killed", die_at=15, saved=None)  # the batch of update 14 is fetched before the save
    train(CLASSIFIER, tmp_path / "killed", num_devices=1)
    assert_trees_equal(final_state(tmp_path / "whole"), final_state(tmp_path / "killed"))


def test_resume_on_other_devices_and_mode(tmp_path):
    first = dataclasses.replace(CLASSIFIER, num_steps=13)
    train(first, tmp_path / "a", mode="jit", num_devices=4)
    moved = train(CLASSIFIER, tmp_path / "a", mode="pmap", num_devices=2)
    stayed = train(CLASSIFIER, tmp_path / "b", num_devices=1)
    assert moved["loss"] == pytest.approx(stayed["loss"], rel=1e-3)


def test_best_and_last_are_kept(tmp_path):
    experiment = dataclasses.replace(CLASSIFIER, num_steps=12, eval_every=2, log_every=4)
    train(experiment, tmp_path, num_devices=1)
    tests = [r for r in records(tmp_path) if r["split"] == "test"]
    assert [r["step"] for r in tests] == [2, 4, 6, 8, 10, 12]
    best = max(tests, key=lambda r: (r["accuracy"], r["step"]))["step"]
    with Checkpoints(tmp_path / "checkpoints", best_by="accuracy") as checkpoints:
        assert checkpoints.steps() == sorted({best, 12})
        assert checkpoints.best_step() == best


def test_save_every_saves_between_evaluations(tmp_path):
    experiment = dataclasses.replace(CLASSIFIER, num_steps=9, eval_every=9, save_every=4, log_every=9)
    train(experiment, tmp_path, num_devices=1)
    assert [r["step"] for r in records(tmp_path) if r["split"] == "train"] == [9]  # a save is no log
    with Checkpoints(tmp_path / "checkpoints", best_by="accuracy") as checkpoints:
        assert checkpoints.steps() == [9]


def test_the_best_few_and_every_so_often_are_kept(tmp_path):
    experiment = dataclasses.replace(CLASSIFIER, num_steps=12, eval_every=3, save_every=2, log_every=4, keep_best=2, keep_every=4)
    train(experiment, tmp_path, num_devices=1)
    tests = {r["step"]: r["accuracy"] for r in records(tmp_path) if r["split"] == "test"}
    assert list(tests) == [3, 6, 9, 12]
    best = sorted(tests, key=lambda step: (tests[step], step))[-2:]
    with Checkpoints(tmp_path / "checkpoints", best_by="accuracy") as checkpoints:
        assert checkpoints.steps() == sorted({*best, 4, 8, 12})


def test_another_architecture_is_refused_with_the_difference(tmp_path):
    train(dataclasses.replace(CLASSIFIER, num_steps=2), tmp_path, num_devices=1)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    with pytest.raises(UserError, match="model.width: 8 -> 16"):
        train(dataclasses.replace(CLASSIFIER, model=Spec("resnet8", width=16)), tmp_path, num_devices=1)
    with pytest.raises(UserError, match="(?s)another model or optimizer.*opt_state.*checkpoint"):
        train(dataclasses.replace(CLASSIFIER, optimizer=Spec("adamw")), tmp_path, num_devices=1)
    with pytest.raises(UserError, match="seed: 0 -> 1"):
        train(dataclasses.replace(CLASSIFIER, seed=1), tmp_path, num_devices=1)
    with pytest.raises(UserError, match="trained for 2 updates already"):
        train(dataclasses.replace(CLASSIFIER, num_steps=1), tmp_path, num_devices=1)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_settings_may_change_freely_while_nothing_is_saved(tmp_path):
    (tmp_path / "experiment.json").write_text(to_json(CLASSIFIER))  # a run that was interrupted before its first save
    train(dataclasses.replace(CLASSIFIER, model=Spec("resnet8", width=4), num_steps=1), tmp_path, num_devices=1)
    assert read_experiment(tmp_path).model.kwargs["width"] == 4


def test_clipping_can_be_turned_on_in_a_run(tmp_path, capsys):
    train(dataclasses.replace(CLASSIFIER, num_steps=1), tmp_path, num_devices=1)
    train(dataclasses.replace(CLASSIFIER, num_steps=2, clip_norm=1.0), tmp_path, num_devices=1)
    assert "clip_norm: None -> 1.0" in capsys.readouterr().out


def test_a_gradient_that_is_not_finite_is_not_saved(tmp_path):
    """The loss before the update is fine, the update is not: nothing of it may reach the disk."""
    explosive = dataclasses.replace(CLASSIFIER, optimizer=Spec("sgd", learning_rate=1e38), eval_every=1, log_every=1, num_steps=3)
    with pytest.raises(UserError, match="is (nan|inf) at step 1"):
        train(explosive, tmp_path, num_devices=1)
    with Checkpoints(tmp_path / "checkpoints", best_by="accuracy") as checkpoints:
        assert checkpoints.steps() == []


def test_another_runs_checkpoint_is_refused_though_all_settings_are_the_same(tmp_path, capsys):
    for name in ("one", "other"):
        train(dataclasses.replace(CLASSIFIER, num_steps=13), tmp_path / name, num_devices=1)
    shutil.copytree(tmp_path / "other" / "checkpoints" / "13", tmp_path / "one" / "checkpoints" / "20")
    shutil.rmtree(tmp_path / "one" / "checkpoints" / "13")
    shutil.copytree(tmp_path / "other" / "checkpoints" / "13", tmp_path / "one" / "checkpoints" / "13")
    with pytest.raises(UserError, match="it is another run's: number of the run is"):
        train(CLASSIFIER, tmp_path / "one", num_devices=1)
    # Where the starts are not known any more, the last checkpoint tells whose the folder is; and lost records are told of.
    capsys.readouterr()
    for name in ("environment.jsonl", "metrics.jsonl"):
        (tmp_path / "other" / name).unlink()
    train(dataclasses.replace(CLASSIFIER, num_steps=15), tmp_path / "other", num_devices=1)
    out = capsys.readouterr().out
    assert "continuing after step 13 of 15" in out
    assert "metrics.jsonl: what was recorded before step 13 is lost" in out


def test_evaluation_beside_a_training_tidies_nothing_up(tmp_path):
    train(dataclasses.replace(CLASSIFIER, num_steps=2), tmp_path, num_devices=1)
    half_written = tmp_path / "checkpoints" / ".3.partial"
    half_written.mkdir()
    evaluate_workdir(tmp_path, read_experiment(tmp_path), step=None, mode="jit", num_devices=1)
    assert half_written.exists()


def test_harmless_changes_are_named(tmp_path, capsys):
    train(dataclasses.replace(CLASSIFIER, num_steps=2), tmp_path, num_devices=1)
    capsys.readouterr()
    train(dataclasses.replace(CLASSIFIER, num_steps=3, log_every=1), tmp_path, num_devices=1)
    out = capsys.readouterr().out
    assert "changed since the last start: num_steps: 2 -> 3" in out
    assert "changed since the last start: log_every: 5 -> 1" in out


def test_a_finished_run_says_so_and_changes_nothing(tmp_path, capsys):
    experiment = dataclasses.replace(CLASSIFIER, num_steps=2)
    figures = train(experiment, tmp_path, num_devices=1)
    capsys.readouterr()
    assert train(experiment, tmp_path, num_devices=1) == figures
    assert "nothing left to train" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path):
    explosive = dataclasses.replace(
        CLASSIFIER, model=Spec("lenet5_modern"), optimizer=Spec("sgd", learning_rate=1e30), clip_norm=None, num_steps=20
    )
    with pytest.raises(UserError, match=r"10 updates in a row were left out, from step [234] on: the loss is not finite"):
        train(explosive, tmp_path, num_devices=1)
    with Checkpoints(tmp_path / "checkpoints", best_by="accuracy") as checkpoints:
        assert checkpoints.steps() == []  # nothing bad was saved


def test_a_damaged_checkpoint_is_named(tmp_path):
    train(dataclasses.replace(CLASSIFIER, num_steps=2), tmp_path, num_devices=1)
    for file in (tmp_path / "checkpoints" / "2" / "state").rglob("*"):
        if file.is_file():
            os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(UserError, match="(?s)No checkpoint in .* can be used.*step 2 .* has .* bytes instead of"):
        train(CLASSIFIER, tmp_path)


def test_restored_states_are_the_saved_ones(tmp_path):
    """Saving goes on while the donated state is overwritten by the next step: what is on disk must be the old one."""
    built, parallel = build(CLASSIFIER), make_parallel("jit", 2)
    state = parallel.make(partial(first_state, built))
    with Checkpoints(tmp_path, best_by="accuracy") as checkpoints:
        expected = jax.device_get(jax.tree.map(np.array, state.params))
        checkpoints.save(state, {"accuracy": 0.5})
        overwrite = jax.jit(lambda s: s.replace(params=jax.tree.map(lambda p: p * 0 - 7, s.params)), donate_argnums=0)
        state = overwrite(state)
        checkpoints.wait()
        restored = checkpoints.restore(0, restore_target(built, parallel))
    assert_trees_equal(restored.params, expected)


def test_a_workdir_holds_what_a_result_depends_on(tmp_path):
    train(dataclasses.replace(CLASSIFIER, num_steps=2), tmp_path, num_devices=1)
    (line,) = (tmp_path / "environment.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["versions"]["jax"] == jax.__version__
    assert record["git"] is None or len(record["git"]["commit"]) == 40
    assert read_experiment(tmp_path) == resolve(dataclasses.replace(CLASSIFIER, num_steps=2))
    assert list((tmp_path / "tensorboard").iterdir())


def test_predictions_agree_with_the_figures(tmp_path):
    train(dataclasses.replace(CLASSIFIER, num_steps=4), tmp_path, num_devices=1)
    evaluation = evaluate_workdir(tmp_path, read_experiment(tmp_path), step=None, mode="jit", num_devices=None)
    with open(tmp_path / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 37
    assert np.mean([r["label"] == r["prediction"] for r in rows]) == pytest.approx(evaluation.results["accuracy"])
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["accuracy"] == evaluation.results["accuracy"]
    assert written["num_examples"] == 37
