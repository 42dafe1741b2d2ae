"""`--mode=verify_resume`, as a user types it and with a run that does not continue as it should; and kills at random moments."""

import contextlib
import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnn_jax.errors import UserError
from cnn_jax.experiment import Spec, to_json
from cnn_jax.train import train
from cnn_jax.verify_resume import compare, last_record, records, short_form
from tests.runs import CLASSIFIER, REPOSITORY, TRIPLET, assert_trees_equal, launch
from tests.test_resume import final_state


@pytest.mark.usefixtures("quick_commands")
def test_an_experiment_is_verified_as_a_user_types_it():
    result = launch("--mode=verify_resume", "--experiment=digits_resnet", "--tiny", "--set", "steps_per_dispatch=3")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "12 updates in one go, then killed and continued (kill -9)" in lines[0]
    assert "killed while it saved; its last record" in lines[2]
    assert "while it trained; its last record is of step" in lines[3]
    assert lines[-1].startswith("bit-identical: ")
    assert " and 8 lines of metrics" in lines[-1]


def test_what_is_not_the_same_is_named(tmp_path):
    short = dataclasses.replace(short_form(CLASSIFIER), log_every=4)
    train(short, tmp_path / "a", num_devices=1)
    train(dataclasses.replace(short, seed=1), tmp_path / "b", num_devices=1)
    with pytest.raises(UserError, match=r"NOT the same: \d+ of \d+ arrays differ, by up to .*; the first is "):
        compare(tmp_path / "a", tmp_path / "b")
    path = tmp_path / "a" / "metrics.jsonl"
    assert compare(tmp_path / "a", tmp_path / "a")[1] == 5
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    train(short, tmp_path / "c", num_devices=1)
    with pytest.raises(UserError, match=r"NOT the same: line 5 of metrics.jsonl is \[\] in one go and \[{'step': 12"):
        compare(tmp_path / "a", tmp_path / "c")


def command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            found.append(path.read_text(errors="replace"))
    return found


@pytest.mark.usefixtures("quick_commands")
def test_nothing_is_left_when_it_is_ended(tmp_path):
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "launch.py", "--mode=verify_resume", "--experiment=digits_resnet", "--tiny"]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, text=True)
    assert "updates in one go" in process.stdout.readline()
    while not (started := list(tmp_path.glob("verify_resume-*/whole.txt"))):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    end = time.monotonic() + 30
    while any(str(tmp_path) in line for line in command_lines()):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert not (started[0].parent / "whole" / "checkpoints").exists()


def test_the_short_form_fits_any_schedule():
    warm = dataclasses.replace(CLASSIFIER, schedule=Spec("warmup_cosine", warmup_steps=500))
    assert short_form(warm).schedule.kwargs["warmup_steps"] == 1


_TRAINS = """
import sys
from pathlib import Path
from cnn_jax import runtime
runtime.set_up(1)
from cnn_jax.experiment import from_json
from cnn_jax.train import train
print("trains", flush=True)
train(from_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), num_devices=1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("repetition", [1, 2])
@pytest.mark.parametrize("experiment", [CLASSIFIER, TRIPLET], ids=["classification", "triplet"])
def test_twenty_five_kills_at_random_moments(experiment, repetition, tmp_path):
    """One run, killed 25 times at moments drawn from the whole of a start: compiling, updates, evaluations, saves."""
    experiment = dataclasses.replace(experiment, num_steps=30000, log_every=50, eval_every=1300, save_every=200, steps_per_dispatch=7)
    (tmp_path / "experiment.json").write_text(to_json(experiment))

    def start(workdir):
        with open(tmp_path / "output.txt", "w") as output:
            command = [sys.executable, "-c", _TRAINS, str(tmp_path / "experiment.json"), str(workdir)]
            process = subprocess.Popen(command, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)
        while "trains" not in (tmp_path / "output.txt").read_text():
            assert process.poll() is None
            time.sleep(0.01)
        return process

    def finish(process):
        assert process.wait(600) == 0, (tmp_path / "output.txt").read_text()[-2000:]

    process, began = start(tmp_path / "whole"), time.monotonic()
    while not last_record(tmp_path / "whole"):
        assert process.poll() is None
        time.sleep(0.01)
    compiled = time.monotonic() - began
    finish(process)
    latest = compiled + (time.monotonic() - began - compiled) / 25
    moments, last = random.Random(repetition), []
    for _ in range(25):
        process = start(tmp_path / "killed")
        # However fast it is by now, the run must be long enough for all kills.
        end, before = time.monotonic() + moments.uniform(0, latest), last_record(tmp_path / "killed")
        while time.monotonic() < end and last_record(tmp_path / "killed") < before + 1000:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run is too short for so many kills"
        last.append(last_record(tmp_path / "killed"))
    finish(start(tmp_path / "killed"))
    print(f"25 kills within {latest:.1f} s, last records {last}; {len(records(tmp_path / 'whole'))} lines")
    assert last[-1] > last[0]
    assert_trees_equal(final_state(tmp_path / "whole"), final_state(tmp_path / "killed"))
    assert records(tmp_path / "whole") == records(tmp_path / "killed")
