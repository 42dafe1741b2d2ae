"""In what a run computes: the policy by kind of device, what stays float32, what is said and recorded, and runs that change devices."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

from cnn_jax import precision
from cnn_jax.build import build
from cnn_jax.data.pipeline import empty_batch
from cnn_jax.evaluate import evaluate_workdir
from cnn_jax.experiment import Spec
from cnn_jax.override import override
from cnn_jax.parallel import make_parallel
from cnn_jax.precision import explained, precision_on, settled
from cnn_jax.train import make_step, train
from cnn_jax.verdict import changes
from cnn_jax.workdir import as_computed, check_continues, read_experiment
from experiments import EXPERIMENTS
from tests.runs import CLASSIFIER, TRIPLET, launch_here, start

BRIEF = dataclasses.replace(
    CLASSIFIER, model=Spec("lenet5_modern"), metrics=(Spec("accuracy"),), augment=(), ema_decay=None, num_steps=1
)


@pytest.fixture
def elsewhere(monkeypatch):
    """This CPU counts as a kind of device that the policy gives bfloat16."""
    monkeypatch.setattr(precision, "BFLOAT16_PLATFORMS", ("cpu",))


@pytest.mark.parametrize(
    ("platform", "expected"),
    [("cpu", "float32"), ("gpu", "bfloat16"), ("cuda", "bfloat16"), ("rocm", "bfloat16"), ("tpu", "bfloat16"), ("quantum", "float32")],
)
def test_the_policy(platform, expected):
    assert CLASSIFIER.precision == "auto"
    assert precision_on(platform) == settled(CLASSIFIER, platform).precision == expected
    assert explained("auto", platform).startswith(f"{expected} (by policy on {platform})")
    for asked in ("float32", "bfloat16"):  # what is asked for is what one gets
        assert settled(override(CLASSIFIER, f"precision={asked}"), platform).precision == asked
        assert explained(asked, platform).startswith(f"{asked} (as set)")


def test_every_experiment_leaves_it_to_the_policy():
    assert {e.precision for e in EXPERIMENTS.values()} == {"auto"}


@pytest.mark.parametrize("experiment", [dataclasses.replace(TRIPLET, memory_size=4), dataclasses.replace(CLASSIFIER, accumulate_steps=2)])
def test_in_bfloat16_everything_that_is_kept_or_measured_stays_float32(experiment):
    """By shapes: nothing is computed. The convolutions within are in bfloat16."""
    built, batch = build(override(experiment, "precision=bfloat16")), empty_batch(16, (8, 8, 1))
    before = jax.eval_shape(lambda: start(built))

    def kept_and_measured(state, batch):
        state, measures = make_step(built, make_parallel("jit", 1))(state, batch)
        return state.replace(key=jax.random.key_data(state.key)), jax.tree.leaves(measures)

    program, (after, measured) = jax.make_jaxpr(kept_and_measured, return_shape=True)(before, batch)
    assert {x.dtype for x in jax.tree.leaves(after)} <= {jnp.dtype(name) for name in ("float32", "int32", "uint32", "bool")}
    assert {x.dtype for x in measured} == {jnp.dtype("float32"), jnp.dtype("int32")}  # sums and counts
    convolutions = [line for line in str(program).splitlines() if " correlation[" in line]
    assert convolutions
    assert all("bf16[" in line.partition("=")[0] for line in convolutions)


def test_what_is_changed_is_counted_from_what_the_range_was_measured_in():
    registered = EXPERIMENTS["digits_resnet"]
    assert changes(registered, registered, platform="gpu") == ["precision: float32 -> bfloat16"]
    assert changes(registered, override(registered, "precision=float32"), platform="gpu") == []
    assert changes(registered, registered, platform="cpu") == []


def test_a_run_goes_on_elsewhere_and_says_what_has_changed(tmp_path, monkeypatch, capsys):
    """Started on a CPU, continued on what the policy gives bfloat16, evaluated on a CPU again."""
    train(BRIEF, tmp_path, num_devices=1)
    out = capsys.readouterr().out
    assert "(jit, float32)" in out
    assert "precision" not in out
    assert read_experiment(tmp_path).precision == "auto"

    with monkeypatch.context() as patch:
        patch.setattr(precision, "BFLOAT16_PLATFORMS", ("cpu",))
        train(dataclasses.replace(BRIEF, num_steps=2), tmp_path, num_devices=1)
        out = capsys.readouterr().out
        assert "(jit, bfloat16)" in out
        assert "precision: bfloat16 (by policy on cpu), parameters, statistics and losses in float32; --set precision=float32" in out
        assert "changed since the last start: precision: float32 -> bfloat16" in out

    starts = [json.loads(line) for line in (tmp_path / "environment.jsonl").read_text().splitlines()]
    assert [start["precision"] for start in starts] == ["float32", "bfloat16"]
    evaluate_workdir(tmp_path, read_experiment(tmp_path), step=None, mode="jit", num_devices=1)
    assert "computed in float32 (by policy on cpu); its training last computed in bfloat16" in capsys.readouterr().out
    assert json.loads((tmp_path / "evaluation.json").read_text())["precision"] == "float32"


def test_a_run_of_an_earlier_version_continues_without_a_change(tmp_path):
    """Its experiment.json says float32, its environment.jsonl nothing; what is asked for now is the policy's choice."""
    (tmp_path / "environment.jsonl").write_text('{"python": "3.11"}\n')
    before = as_computed(override(BRIEF, "precision=float32"), tmp_path)
    assert check_continues(before, settled(BRIEF, "cpu"), tmp_path) == []
    assert check_continues(before, settled(BRIEF, "gpu"), tmp_path) == ["precision: float32 -> bfloat16"]


def test_a_record_cut_short_is_passed_over(tmp_path):
    (tmp_path / "environment.jsonl").write_text('{"precision": "bfloat16"}\n{"prec')
    assert as_computed(BRIEF, tmp_path).precision == "bfloat16"


def test_describe_tells_what_it_would_compute_in(elsewhere, capsys):
    assert launch_here("--experiment=digits_resnet", "--mode=describe") == 0
    out = capsys.readouterr().out
    assert "bfloat16 (by policy on cpu), parameters, statistics and losses in float32" in out
    assert launch_here("--experiment=digits_resnet", "--mode=describe", "--set", "precision=float32") == 0
    assert "float32 (as set)" in capsys.readouterr().out
