"""`--mode=verify_resume`: shows of an experiment that a run which is killed ends bit for bit where it would have ended.

Run as a module it is the process that is killed: python -m cnn_jax.verify_resume EXPERIMENT.json WORKDIR MODE NUM_DEVICES PARENT.
"""

import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np

from cnn_jax import runtime
from cnn_jax.build import build
from cnn_jax.check import option, resolve
from cnn_jax.checkpoint import Checkpoints
from cnn_jax.errors import UserError
from cnn_jax.evaluate import restore_target
from cnn_jax.experiment import Experiment, from_json, to_json
from cnn_jax.parallel import make_parallel
from cnn_jax.report import say
from cnn_jax.train import train
from cnn_jax.tree_difference import name_of

NUM_STEPS, LOG_EVERY, EVAL_EVERY, SAVE_EVERY = 12, 2, 6, 4
CLOCK = ("examples_per_second", "waiting")  # what a record says of time, not of numbers
_PATIENCE = 1800  # seconds for one process


def verify_resume(experiment: Experiment, *, mode: str = "jit", num_devices: int | None = None, seed: int | None = None) -> None:
    """Trains a short form of the experiment in one go; and again, killed while it saves and once more while it trains. Compares the ends.

    Args:
      mode: "jit" or "pmap".
      num_devices: None uses all.
      seed: of the moments; None takes others each time.

    Raises:
      UserError: the ends are not the same; says in what. Or the experiment cannot be trained.
    """
    moments, short = random.Random(seed), short_form(experiment)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="verify_resume-", ignore_cleanup_errors=True) as place, contextlib.ExitStack() as ends:
        start = partial(_start, ends, Path(place), short, mode, num_devices)
        say(f"{experiment.name}: {NUM_STEPS} updates in one go, then killed and continued (kill -9)")
        began = time.perf_counter()
        _finish(start("whole"))
        say(f"  in one go: {time.perf_counter() - began:.1f} s")
        killed, kills = Path(place, "killed"), 0
        for what, comes in (
            ("while it saved", lambda before: any((killed / "checkpoints").glob(".*.partial"))),
            ("while it trained", lambda before: last_record(killed) > max(SAVE_EVERY, before)),
        ):
            comes = partial(comes, last_record(killed))
            in_time = _kill(start("killed"), comes, moments.uniform(0, 0.05))
            kills += in_time
            say(f"  {'killed' if in_time else 'too quick to be killed'} {what}; its last record is of step {last_record(killed)}")
        if not kills:
            raise UserError("The runs ended before they could be killed, so nothing was shown. Take one whose updates take longer.")
        _finish(start("killed"))
        arrays, lines = compare(Path(place, "whole"), killed, mode=mode)
    say(f"bit-identical: {arrays} arrays of the state (parameters, statistics, optimizer, averages, key) and {lines} lines of metrics")


def short_form(experiment: Experiment) -> Experiment:
    """Returns the experiment with a few updates, logged, evaluated and saved at different ones.

    >>> from cnn_jax.experiment import About, Spec
    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("digits"))
    >>> short_form(mine).num_steps
    12
    """
    schedule = experiment.schedule
    if option(schedule, "schedule", "warmup_steps"):
        schedule = schedule.replace(warmup_steps=1)
    every = {"log_every": LOG_EVERY, "eval_every": EVAL_EVERY, "save_every": SAVE_EVERY}
    about = dataclasses.replace(experiment.about, expected=None)
    return resolve(dataclasses.replace(experiment, about=about, schedule=schedule, num_steps=NUM_STEPS, **every))


def compare(whole: Path, other: Path, *, mode: str = "jit") -> tuple[int, int]:
    """Returns how many arrays and lines two finished runs of one experiment have in common: all that they have.

    Args:
      mode: that they were trained in.

    Raises:
      UserError: they are not the same, bit for bit; says in what.
    """
    first, second = (dict(_arrays(workdir, mode)) for workdir in (whole, other))
    differ = [name for name in first if first[name].tobytes() != second[name].tobytes()]
    if differ:
        largest = max(float(np.abs(first[n].astype(np.float64) - second[n]).max(initial=0)) for n in differ)
        raise UserError(
            f"NOT the same: {len(differ)} of {len(first)} arrays differ, by up to {largest:.3g}; the first is {differ[0]}. A run that is "
            f"continued does not end where it would have. On a GPU, see docs/reliability.md for what makes it deterministic."
        )
    lines, others = (records(workdir) for workdir in (whole, other))
    if lines != others:
        at = next((i for i, (a, b) in enumerate(zip(lines, others, strict=False)) if a != b), min(len(lines), len(others)))
        here, there = lines[at : at + 1], others[at : at + 1]
        raise UserError(f"NOT the same: line {at + 1} of metrics.jsonl is {here} in one go and {there} continued.")
    return len(first), len(lines)


def records(workdir: Path) -> list[dict]:
    """Returns what a run has recorded, without what depends on the clock."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]


def last_record(workdir: Path) -> int:
    """Returns the step of a run's last record; 0 before there is one."""
    try:
        return json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    except (OSError, IndexError, ValueError, KeyError):
        return 0


def _arrays(workdir: Path, mode: str):
    experiment = resolve(from_json((workdir / "experiment.json").read_text()))
    with Checkpoints(workdir / "checkpoints", best_by=experiment.best_by) as checkpoints:
        parallel = make_parallel(mode, 1)
        state = checkpoints.restore(NUM_STEPS, restore_target(build(experiment, axis_name=parallel.axis_name), parallel))
    state = state.replace(key=jax.random.key_data(state.key))
    return ((name_of(path), np.asarray(leaf)) for path, leaf in jax.tree_util.tree_leaves_with_path(state))


def _start(
    ends: contextlib.ExitStack, place: Path, experiment: Experiment, mode: str, num_devices: int | None, name: str
) -> subprocess.Popen:
    path = place / "experiment.json"
    path.write_text(to_json(experiment))
    command = [sys.executable, "-m", __name__, str(path), str(place / name), mode, str(num_devices or 0), str(os.getpid())]
    here = str(Path(__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])}
    with open(place / f"{name}.txt", "w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env, start_new_session=True)
    ends.callback(process.kill)  # where this command is ended, by Ctrl-C or SIGTERM, nothing is left behind
    process.output = place / f"{name}.txt"
    return process


def _finish(process: subprocess.Popen) -> None:
    if process.wait(_PATIENCE):
        raise UserError(f"A run of the experiment ended with exit code {process.returncode}:\n{process.output.read_text()[-2000:]}")


def _kill(process: subprocess.Popen, comes: Callable[[], bool], seconds: float) -> bool:
    """SIGKILL, so many seconds after something has come. Returns whether it was in time."""
    deadline = time.monotonic() + _PATIENCE
    while not comes() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    if process.wait() > 0:
        _finish(process)
    return process.returncode == -signal.SIGKILL


def _end_with(parent: int) -> None:
    """For when that is ended in the moment in which it starts this process, or by SIGKILL."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _main(path: str, workdir: str, mode: str, num_devices: str, parent: str) -> None:
    threading.Thread(target=_end_with, args=[int(parent)], daemon=True).start()
    runtime.set_up(int(num_devices) or None)
    train(from_json(Path(path).read_text()), Path(workdir), mode=mode, num_devices=int(num_devices) or None)


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])
    except UserError as error:  # for whoever started this to show
        sys.exit(f"error: {error}")
