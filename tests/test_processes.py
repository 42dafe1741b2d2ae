"""Several processes that train as one: the same losses, one writer, ends that all agree on; killed, stopped and stuck ones."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from jax.sharding import PartitionSpec as P

from cnn_jax import processes
from cnn_jax.errors import EXIT_STOPPED, EXIT_STUCK, UserError
from cnn_jax.loop import check_copies
from cnn_jax.parallel import differing_copies, make_parallel
from cnn_jax.verify_resume import last_record, records
from tests.runs import REPOSITORY, launch_here
from tests.small_states import small_state

pytestmark = pytest.mark.usefixtures("quick_commands")

HEARTBEAT = 6
# A small learning rate: rounding grows from step to step, and with a large one until nothing is alike.
EVERY = ("--set=log_every=5", "--set=eval_every=20", "--set=save_every=10", "--set=optimizer.learning_rate=0.00001")


def a_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def start(num: int, workdir: Path, *arguments: str) -> list[subprocess.Popen]:
    """Starts so many processes of one run."""
    env = {**os.environ, processes.HEARTBEAT: str(HEARTBEAT)}
    command = [sys.executable, "launch.py", "--experiment=digits_resnet", "--tiny", *EVERY, f"--workdir={workdir}", *arguments]
    command += [f"--coordinator=localhost:{a_port()}", f"--num_processes={num}"]
    workdir.parent.mkdir(exist_ok=True)
    started = []
    for i in range(num):
        with open(workdir.parent / f"{workdir.name}_{i}.txt", "w") as output:
            streams = {"stdout": output, "stderr": subprocess.STDOUT}
            started.append(subprocess.Popen([*command, f"--process_id={i}"], cwd=REPOSITORY, env=env, **streams))
    return started


def said(workdir: Path, i: int) -> str:
    return (workdir.parent / f"{workdir.name}_{i}.txt").read_text()


def wait_for_step(workdir: Path, step: int, started: list[subprocess.Popen]) -> None:
    end = time.monotonic() + 150
    while last_record(workdir) < step:
        assert all(process.poll() is None for process in started), [said(workdir, i)[-2000:] for i in range(len(started))]
        assert time.monotonic() < end
        time.sleep(0.05)


def codes(started: list[subprocess.Popen], seconds: float) -> list[int]:
    """The exit codes of processes that must end within so many seconds; what does not is killed."""
    end = time.monotonic() + seconds
    try:
        return [process.wait(max(end - time.monotonic(), 0.1)) for process in started]
    finally:
        for process in started:
            process.kill()


def assert_the_same_records(ours: Path, theirs: Path) -> None:
    for a, b in zip(records(ours), records(theirs), strict=True):
        assert a.keys() == b.keys()
        for name in a:
            tolerance = {"rel": 1e-5 if name in ("loss", "accuracy") else 1e-4, "abs": 1e-6}
            assert a[name] == (b[name] if isinstance(b[name], str) else pytest.approx(b[name], **tolerance)), (a, b)


@pytest.mark.parametrize(
    ("num", "options"),
    [
        (2, ()),
        pytest.param(2, ("--parallel=pmap", "--num_devices=2"), marks=pytest.mark.slow),
        pytest.param(4, ("--parallel=fsdp",), marks=pytest.mark.slow),
        pytest.param(4, ("--set=dataset.in_memory=false", "--set=workers=1", "--set=steps_per_dispatch=3"), marks=pytest.mark.slow),
    ],
)
def test_they_train_as_one_end_together_when_one_is_asked_and_continue(num, options, tmp_path):
    """Of the processes the last gets SIGTERM; the run then ends with other processes, and all is as of one."""
    workdir = tmp_path / "several" / "run"
    started = start(num, workdir, "--set=num_steps=100000", "--set=schedule=constant", *options)
    wait_for_step(workdir, 20, started)
    started[-1].send_signal(signal.SIGTERM)
    assert codes(started, 60) == [EXIT_STOPPED] * num
    assert "SIGTERM: stopped after step" in said(workdir, num - 1)
    assert "another process was asked to end: stopped after step" in said(workdir, 0)
    stopped = int(said(workdir, 0).split("stopped after step ")[1].split()[0])
    last = (stopped // 20 + 1) * 20
    started = start(num, workdir, f"--set=num_steps={last}", "--set=schedule=constant", *options)
    assert codes(started, 120) == [0] * num, said(workdir, 0)[-2000:]
    assert f"continuing after step {stopped} of" in said(workdir, 0)
    assert "evaluated 21 of 21" in said(workdir, 0)
    assert "step" not in said(workdir, 1).replace("--process_id", "")  # the first speaks for all
    one = tmp_path / "one"
    arguments = [*EVERY, f"--workdir={one}", f"--set=num_steps={last}", "--set=schedule=constant"]
    assert launch_here("--experiment=digits_resnet", "--tiny", "--num_devices=1", *arguments) == 0
    assert_the_same_records(workdir, one)


@pytest.mark.parametrize(
    ("num", "who", "number"),
    [
        (2, 1, signal.SIGKILL),
        *(
            pytest.param(num, who, number, marks=pytest.mark.slow)
            for num in (2, 4)
            for who in (0, num - 1)
            for number in (signal.SIGKILL, signal.SIGSTOP)
            if (num, who, number) != (2, 1, signal.SIGKILL)
        ),
    ],
)
def test_a_dead_process_ends_the_run_and_it_continues(num, who, number, tmp_path):
    workdir = tmp_path / "several" / "run"
    started = start(num, workdir, "--set=num_steps=100000")
    wait_for_step(workdir, 20, started)
    started[who].send_signal(number)
    others = [process for i, process in enumerate(started) if i != who]
    try:
        assert set(codes(others, HEARTBEAT + 20)) <= {EXIT_STUCK, -signal.SIGABRT}
    finally:
        started[who].kill()
        started[who].wait()
    before = last_record(workdir)
    started = start(num, workdir, "--set=num_steps=100000")
    wait_for_step(workdir, before + 20, started)
    assert "continuing after step" in said(workdir, 0)
    started[0].send_signal(signal.SIGINT)
    assert codes(started, 60) == [EXIT_STOPPED] * num


_ONE_FAILS = """
import os, sys, time
from cnn_jax import processes
address, me, who, how, place = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
processes.join(address, 2, me)
with processes.first_alone("data"):
    if me == 0:
        time.sleep(0.3)
        open(place, "x").close()
    assert os.path.exists(place)
print("joined", flush=True)
if me == who and how == "error":
    raise ValueError("only here")
if me == who and how == "mistake":
    processes.end_all("a mistake")
if me == who and how == "late":  # when the other waits at its end
    time.sleep(2)
    processes.end_all("the last save failed")
if how != "late":
    processes.barrier("never")
"""


@pytest.mark.parametrize(
    ("who", "how", "why"),
    [
        (1, "error", "ValueError: only here"),
        pytest.param(0, "error", "ValueError: only here", marks=pytest.mark.slow),
        pytest.param(0, "mistake", "a mistake", marks=pytest.mark.slow),
        pytest.param(1, "mistake", "a mistake", marks=pytest.mark.slow),
        pytest.param(0, "late", "the last save failed", marks=pytest.mark.slow),
    ],
)
def test_what_one_process_meets_ends_the_others_with_its_message(who, how, why, tmp_path):
    address = f"localhost:{a_port()}"
    command = [sys.executable, "-c", _ONE_FAILS, address]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen([*command, f"{i}", f"{who}", how, f"{tmp_path}/it"], cwd=REPOSITORY, **streams) for i in range(2)]
    output = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [1, 1], output
    assert f"error: process {who}: {why}\nthis process ends with it" in output[1 - who]
    assert why in output[who]
    assert "this process ends" not in output[who]
    assert all("joined" in text for text in output)


def test_one_that_is_stuck_says_where_and_ends():
    code = "import time\nfrom cnn_jax.watchdog import Watchdog\nwith Watchdog(1.0):\n    time.sleep(1000)\n"
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == EXIT_STUCK
    assert "stuck: nothing has gone on for 1 s. What each thread is doing:" in result.stderr
    assert 'File "<string>", line 4 in <module>' in result.stderr


def test_one_whose_threads_cannot_run_ends_too():
    """A call that keeps Python's lock, as reading a mapped file does on a disk that is gone."""
    code = "import ctypes\nfrom cnn_jax.watchdog import Watchdog\nwith Watchdog(1.0):\n    ctypes.PyDLL(None).sleep(1000)\n"
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert 'File "<string>", line 4 in <module>' in result.stderr


def test_one_that_goes_on_is_left_alone():
    code = (
        "import time\nfrom cnn_jax.watchdog import Watchdog\nwith Watchdog(0.5) as watchdog:\n"
        "    for _ in range(20):\n        time.sleep(0.1)\n        watchdog.alive()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_processes=2"], "go together"),
        (["--coordinator=localhost:1", "--num_processes=2"], "go together"),
        (["--coordinator=localhost", "--num_processes=2", "--process_id=0"], "must be HOST:PORT"),
        (["--coordinator=localhost:1", "--num_processes=2", "--process_id=2"], "from 0 to --num_processes - 1, which is 1"),
        (["--mode=describe", "--process_id=2"], "--process_id belongs to --mode=train or --mode=evaluate"),
        (["--stuck_minutes=0"], "--stuck_minutes=0.0 must be positive"),
    ],
)
def test_mistakes(flags, message, tmp_path, capsys):
    assert launch_here("--experiment=digits_resnet", "--tiny", f"--workdir={tmp_path / 'run'}", *flags) == 1
    assert message in capsys.readouterr().err


def test_copies_that_differ_are_found():
    parallel = make_parallel("jit", 4)
    state = parallel.place(small_state(3).params)
    assert differing_copies(state) == []
    broken = [np.asarray(shard.data).copy() for shard in state["head"]["bias"].addressable_shards]
    broken[2].view(np.uint32)[1] ^= 1  # one bit on one device
    sharding = state["head"]["bias"].sharding
    assert sharding.spec == P()
    arrays = [jax.device_put(array, device) for array, device in zip(broken, sharding.mesh.devices.flat, strict=True)]
    bad = jax.make_array_from_single_device_arrays(broken[0].shape, sharding, arrays)
    assert differing_copies({**state, "head": {**state["head"], "bias": bad}}) == ["head/bias"]
    whole = small_state(3)
    with pytest.raises(UserError, match="Devices no longer agree: their copies of params/head/bias differ"):
        check_copies(whole.replace(params={**whole.params, "head": {**whole.params["head"], "bias": bad}}))


def test_the_shares_of_processes_make_a_batch(monkeypatch):
    rows = []
    for i in range(4):
        monkeypatch.setattr(processes, "_me", {"index": i, "count": 4})
        rows += list(range(12))[processes.share(12)]
    assert rows == list(range(12))


def test_the_batch_scripts_syntax_and_structure():
    folder = REPOSITORY / "deploy"
    subprocess.run(["bash", "-n", folder / "slurm.sbatch"], check=True)
    script = (folder / "slurm.sbatch").read_text()
    options = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in script.splitlines() if line.startswith("#SBATCH"))
    assert options["signal"].startswith("USR1@")
    assert {"requeue", "nodes", "gres"} <= options.keys()
    assert "gpus-per-task" not in options
    assert f"  {EXIT_STOPPED} | 138 | 143) limit=50" in script
    assert f"  {EXIT_STUCK} | 134 | 137) limit=5" in script
    spec = yaml.safe_load((folder / "jobset.yaml").read_text())
    assert (spec["apiVersion"], spec["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (job,) = spec["spec"]["replicatedJobs"]
    inner = job["template"]["spec"]
    assert inner["completionMode"] == "Indexed"
    assert inner["parallelism"] == inner["completions"]
    (container,) = inner["template"]["spec"]["containers"]
    given = dict(word.removeprefix("--").partition("=")[::2] for word in container["command"][2:])
    assert int(given["num_processes"]) == inner["completions"]
    host = f"{spec['metadata']['name']}-{job['name']}-0-0.{spec['metadata']['name']}"
    port = container["ports"][0]["containerPort"]
    assert given["coordinator"] == f"{host}:{port}"
    assert given["process_id"] == "$(JOB_COMPLETION_INDEX)"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in inner["template"]["spec"]["volumes"]}


def test_the_script_puts_the_job_back_after_the_codes_that_are_continued(tmp_path):
    """Run for real, with a `srun` that exits as told and a `scontrol` that writes down what it was asked."""
    (tmp_path / "srun").write_text('#!/bin/bash\nexit "$EXIT"\n')
    (tmp_path / "scontrol").write_text(f'#!/bin/bash\necho "$@" >> {tmp_path}/asked\n')
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)
    cases = [(0, 0, False), (1, 0, False), (75, 0, True), (75, 49, True), (75, 50, False)]
    for code, restarts, again in [*cases, (70, 3, True), (134, 1, True), (134, 5, False)]:
        (tmp_path / "asked").unlink(missing_ok=True)
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "EXIT": str(code), "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restarts)}
        result = subprocess.run(["bash", REPOSITORY / "deploy" / "slurm.sbatch"], env=env, capture_output=True, check=False)
        assert result.returncode == code
        assert (tmp_path / "asked").exists() == again
        if again:
            assert (tmp_path / "asked").read_text() == "requeue 7\n"


