"""Started, killed and continued again and again: no processes, files or memory are left behind, and the end is the same."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnn_jax.verify_resume import last_record, records
from tests.runs import REPOSITORY, assert_trees_equal
from tests.test_resume import final_state

SETTINGS = {"dataset.in_memory": "false", "save_every": "5", "eval_every": "50", "log_every": "5"}


def command(workdir: Path, num_steps: int, cycle: int) -> list[str]:
    """In each fourth cycle images are decoded by two processes, which must not outlive the run that started them."""
    settings = {**SETTINGS, "num_steps": num_steps, "workers": 0 if cycle % 4 else 2}
    sets = [f"--set={key}={value}" for key, value in settings.items()]
    return [sys.executable, "launch.py", "--experiment=digits_resnet", "--tiny", *sets, f"--workdir={workdir}"]


def of_session(session: int) -> list[int]:
    """Processes that were started by one command."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(path.name)) == session and "(Z)" not in path.joinpath("stat").read_text():
                found.append(int(path.name))
        except (OSError, ValueError):
            continue
    return found


def gone(session: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while of_session(session):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def orphans() -> set[str]:
    """Shared memory that no process has."""
    names = os.listdir("/dev/shm")
    mapped = ""
    for path in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            mapped += path.read_text()
    return {name for name in names if f"/dev/shm/{name}" not in mapped and Path("/dev/shm", name).exists()}


def memory(pid: int) -> int:
    """In kB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))
    except (OSError, StopIteration):
        return 0


def finish(command: list[str]) -> None:
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.usefixtures("quick_commands")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("cycles", [2, pytest.param(300, marks=pytest.mark.slow)])
def test_many_starts_and_kills(cycles, tmp_path):
    workdir, moments, sizes, shared = tmp_path / "run", random.Random(cycles), [], orphans()
    num_steps, began = cycles * 20, time.monotonic()
    for cycle in range(cycles):
        with open(tmp_path / "output.txt", "w") as output:
            streams = {"stdout": output, "stderr": subprocess.STDOUT}
            process = subprocess.Popen(command(workdir, num_steps, cycle), cwd=REPOSITORY, start_new_session=True, **streams)
        before, end = last_record(workdir), time.monotonic() + 120
        while last_record(workdir) < before + 10 and process.poll() is None:  # two logs, so a save of this start
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.1))
        sizes.append(memory(process.pid))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (tmp_path / "output.txt").read_text()
        assert gone(process.pid, 20), f"cycle {cycle}: {of_session(process.pid)} outlive their run"
    finish(command(workdir, num_steps, cycles))
    took, num_files = time.monotonic() - began, len(list(workdir.rglob("*")))
    print(f"{cycles} cycles in {took:.0f} s, {sizes[0] // 1000} to {sizes[-1] // 1000} MB, {num_files} files")
    assert len(os.listdir(workdir / "checkpoints")) <= 3
    names = {"checkpoints", "environment.jsonl", "experiment.json", "lock", "metrics.jsonl", "tensorboard"}
    assert {path.name for path in workdir.iterdir()} == names
    left, end = orphans() - shared, time.monotonic() + 20
    while left and time.monotonic() < end:  # other tests' workers hand theirs over just now
        time.sleep(0.1)
        left &= orphans()
    # Killed between a semaphore's creation and its registration, Python's multiprocessing leaves its 32 bytes: once in some hundred kills.
    assert len(left) <= cycles // 100, left
    assert all(name.startswith("sem.") for name in left), "memory shared with decoding processes is left behind"
    later = sorted(sizes[len(sizes) // 2 :])
    assert later[len(later) // 2] < 1.15 * max(sizes[: max(len(sizes) // 4, 1)])
    whole = tmp_path / "whole"
    finish(command(whole, num_steps, 1))
    assert_trees_equal(final_state(whole), final_state(workdir))
    assert records(whole) == records(workdir)
