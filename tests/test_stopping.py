"""Runs that are asked to end: by signals, twice, by time; and two runs of one workdir."""

import dataclasses
import os
import signal
import struct
import subprocess
import sys
import time

import pytest
from tensorboardX.proto.event_pb2 import Event

from cnn_jax import evaluate
from cnn_jax.errors import EXIT_STOPPED, Stopped, UserError
from cnn_jax.lock import Lock
from cnn_jax.stopping import Stop
from cnn_jax.train import train
from cnn_jax.verify_resume import last_record, records
from tests.preloaded import preloaded
from tests.runs import CLASSIFIER, REPOSITORY, assert_trees_equal, launch_here
from tests.test_resume import final_state

LONG = ("--experiment=digits_resnet", "--set", "num_steps=100000", "--set", "eval_every=100000", "--set", "save_every=100000")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run in one go."""
    folder = tmp_path_factory.mktemp("whole")
    train(CLASSIFIER, folder, num_devices=1)
    return folder


def signalled(function, number: int, at: int):
    """The generator, which sends this process a signal before its item `at`."""

    def generate(*arguments, **options):
        for i, item in enumerate(function(*arguments, **options)):
            if i == at:
                os.kill(os.getpid(), number)
            yield item

    return generate


@pytest.mark.parametrize("dispatch", [1, 4])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_ends_the_run_saved_and_it_continues_bit_for_bit(number, dispatch, whole, tmp_path, monkeypatch, capfd):
    from cnn_jax import train as module

    experiment = dataclasses.replace(CLASSIFIER, steps_per_dispatch=dispatch)
    with monkeypatch.context() as patch:
        patch.setattr(module, "train_batches", signalled(module.train_batches, number, at=7))
        with pytest.raises(Stopped, match=r"stopped after step ([4-9]|1.) of 30, saved in .*; the same command continues from there"):
            train(experiment, tmp_path, num_devices=1)
    assert "the run finishes this step, saves and ends; once more to leave at once" in capfd.readouterr().err
    train(experiment, tmp_path, num_devices=1)
    assert "continuing after step" in capfd.readouterr().out
    assert_trees_equal(final_state(whole), final_state(tmp_path))
    assert records(whole) == records(tmp_path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("evaluation", [1, 3])  # after step 13, and after the last
def test_a_signal_during_an_evaluation_is_not_waited_for_and_it_is_made_when_the_run_continues(evaluation, whole, tmp_path, monkeypatch):
    calls = []

    def eval_batches(*arguments, **options):
        calls.append(1)
        batches = whole_batches(*arguments, **options)
        return signalled(lambda: batches, signal.SIGTERM, at=2)() if len(calls) == evaluation else batches

    whole_batches = evaluate.eval_batches
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "eval_batches", eval_batches)
        with pytest.raises(Stopped, match=f"stopped after step {13 if evaluation == 1 else 30} of 30"):
            train(CLASSIFIER, tmp_path, num_devices=1)
    assert [r["step"] for r in records(tmp_path) if r["split"] == "test"] == [13, 26][: evaluation - 1]
    train(CLASSIFIER, tmp_path, num_devices=1)
    assert_trees_equal(final_state(whole), final_state(tmp_path))
    assert records(whole) == records(tmp_path)


def started(*arguments: str, **env: str) -> subprocess.Popen:
    env = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", **env}
    command = [sys.executable, "launch.py", *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(comes, process: subprocess.Popen) -> None:
    end = time.monotonic() + 120
    while not comes():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_command_that_is_terminated_and_another_beside_it(tmp_path, capsys):
    workdir = tmp_path / "run"
    process = started(*LONG, f"--workdir={workdir}")
    wait_for(lambda: last_record(workdir), process)
    assert launch_here(*LONG, f"--workdir={workdir}") == 1
    error = capsys.readouterr().err
    assert f"Another run is writing to {workdir}: process {process.pid} on " in error
    assert "there is nothing to delete" in error
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_STOPPED == 75, err
    assert "SIGTERM: stopped after step" in out.splitlines()[-1]
    assert "Traceback" not in err
    # It can be continued, and its lock is gone with it.
    again = started(*LONG, f"--workdir={workdir}", "--max_minutes=0.001")
    out, err = again.communicate(timeout=120)
    assert again.returncode == EXIT_STOPPED, err
    assert "continuing after step" in out
    assert "--max_minutes: stopped after step" in out.splitlines()[-1]


def test_ctrl_c_before_there_is_anything_to_save(tmp_path):
    """While the step is compiled; or soon after, if that was quick."""
    process = started(*LONG, f"--workdir={tmp_path / 'run'}")
    while "compiling the training step" not in (line := process.stdout.readline()):
        assert line, process.communicate()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (130, EXIT_STOPPED)
    assert "Traceback" not in err
    assert "Fatal" not in err


_SLEEPS = """
import ctypes
from cnn_jax.stopping import Stop
with Stop() as stop:
    print("ready", flush=True)
    libc = ctypes.CDLL(None)
    for _ in range(3):
        libc.sleep(1000)
"""


def test_the_second_signal_is_not_discussed():
    """It ends a process whose main thread does not come back from C: here it waits for a lock that nobody gives back."""
    process = subprocess.Popen([sys.executable, "-c", _SLEEPS], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert "once more to leave at once" in process.stderr.readline() + process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGINT
    assert "left at once; the same command continues from what was saved" in err


def test_the_second_signal_is_obeyed_though_nobody_reads_what_is_said():
    read, write = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", _SLEEPS], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=write, text=True)
    os.close(write)
    assert process.stdout.readline() == "ready\n"
    os.close(read)
    for number in (signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGINT)  # whichever of the two came second


def test_time_is_up_by_a_clock_that_nobody_sets():
    """The monotonic clock: a change of the date ends no run, and delays no end."""
    now = [100.0]
    stop = Stop(deadline=160.0, clock=lambda: now[0])
    assert stop.reason is None
    now[0] = 161.0
    assert stop.reason == "--max_minutes"
    assert Stop.__init__.__kwdefaults__["clock"] is time.monotonic


def dates_in(events: bytes) -> list[float]:
    """The times of the records of an event file, each of which is a length, its checksum, so many bytes, and their checksum."""
    times = []
    while events:
        (size,) = struct.unpack("<Q", events[:8])
        times.append(Event.FromString(events[12 : 12 + size]).wall_time)
        events = events[16 + size :]
    return times


YEAR = 365 * 86400


@pytest.mark.parametrize(
    ("seconds", "minutes", "num_steps", "code"),
    [(YEAR, 60, 300, 0), pytest.param(-YEAR, 0.4, 10**6, EXIT_STOPPED, marks=pytest.mark.slow)],
)
def test_a_change_of_the_date_ends_no_run_and_delays_no_end(seconds, minutes, num_steps, code, tmp_path):
    workdir, jumps = tmp_path / "run", tmp_path / "jumps"
    env = {"LD_PRELOAD": str(preloaded("jumping_clock", tmp_path)), "JUMP_WHEN": str(jumps), "JUMP_SECONDS": str(seconds)}
    every = ("--set=save_every=20", "--set=eval_every=50", f"--set=num_steps={num_steps}")
    process = started("--experiment=digits_resnet", "--tiny", *every, f"--workdir={workdir}", f"--max_minutes={minutes}", **env)
    wait_for(lambda: last_record(workdir) > 20, process)
    jumps.touch()
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert code == 0 or "--max_minutes: stopped after step" in out
    times = dates_in(next((workdir / "tensorboard").iterdir()).read_bytes())
    assert max(times) - min(times) == pytest.approx(YEAR, abs=600)
    last = last_record(workdir)
    assert last == num_steps or 100 < last < num_steps
    assert [r["step"] for r in records(workdir) if r["split"] == "train"] == [*range(2, last + 1, 2)]
    assert [r["step"] for r in records(workdir) if r["split"] == "test"] == [*range(50, last + 1, 50)]


def test_ignored_signals_stay_ignored():
    """`nohup`, and a shell's jobs in the background, start processes that way."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            stop.wait(0.1)
            assert stop.reason is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_lock_is_for_one(tmp_path):
    with Lock(tmp_path) as first:
        first.check()  # nothing is there: nothing is written
        assert not list(tmp_path.iterdir())
        first.take()
        first.take()
        with Lock(tmp_path) as second, pytest.raises(UserError, match=f"Another run is writing to {tmp_path}: process {os.getpid()} on "):
            second.check()
    with Lock(tmp_path) as third:
        third.check()
        third.take()
