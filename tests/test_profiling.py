"""`--profile`: a trace of the steps after the first, without their compiling, and nothing else changed."""

import gzip
import json

import jax.numpy as jnp
import pytest

from cnn_jax.profiling import Trace
from tests.runs import launch_here


def events(folder):
    (path,) = folder.rglob("perfetto_trace.json.gz")
    with gzip.open(path) as file:
        return json.load(file)["traceEvents"]


def steps(folder):
    return [int(event["args"]["step_num"]) for event in events(folder) if "step_num" in event.get("args", {})]


def test_a_run_and_its_evaluation_are_traced(tmp_path, capsys):
    run = tmp_path / "run"
    settings = [f"--set={setting}" for setting in ("model=lenet5_modern", "augment=", "steps_per_dispatch=1")]
    command = ["--experiment=digits_resnet", "--tiny", f"--workdir={run}", "--num_devices=1", *settings, "--profile"]
    assert launch_here(*command) == 0
    out = capsys.readouterr().out
    assert f"traced calls 3 to 4 of the compiled step: {run}/profile/" in out  # after the first log, at 2
    assert f"xprof --logdir={run}/profile" in out
    assert "done: 4 updates" in out
    assert steps(run / "profile") == [2, 3]
    (run / "profile").rename(tmp_path / "training")
    names = {event.get("name") for event in events(tmp_path / "training")}
    assert any(name and "ExecuteHelper" in name for name in names)  # the device's side
    assert any(name and "feed.py" in name for name in names)  # the host's
    assert not any(name and "Client::Compile" in name for name in names)
    assert list((tmp_path / "training").rglob("*.xplane.pb"))

    assert launch_here(*command) == 1
    assert "no step to profile" in capsys.readouterr().err
    assert launch_here("--mode=evaluate", f"--workdir={run}", "--num_devices=1", "--profile") == 0
    out = capsys.readouterr().out
    assert "traced calls 2 to 3 of" in out  # 21 images in batches of 8
    assert "evaluated 21 of 21" in out
    assert steps(run / "profile") == [1, 2]


@pytest.mark.parametrize(("num_calls", "skip", "traced"), [(1, 1, [0]), (2, 1, [1]), (9, 1, [1, 2, 3, 4, 5]), (9, 6, [6, 7, 8])])
def test_how_many_calls_are_traced(num_calls, skip, traced, tmp_path, capsys):
    with Trace(lambda x: x + 1, tmp_path, num_calls=num_calls, skip=skip) as step:
        assert [step(jnp.float32(i)) for i in range(num_calls)] == list(range(1, num_calls + 1))
        assert steps(tmp_path) == traced  # it is written before the last returns
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_fewer_calls_than_said_are_written_at_the_end_and_an_error_is_let_through(tmp_path, capsys):
    with Trace(jnp.negative, tmp_path / "a", num_calls=9) as step:
        step(step(1.0))
    assert steps(tmp_path / "a") == [1]

    def interrupted():
        with Trace(jnp.negative, tmp_path / "b", num_calls=9) as step:
            step(step(1.0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with Trace(jnp.negative, tmp_path / "c", num_calls=1) as step:  # no trace is left running
        step(1.0)
    assert steps(tmp_path / "c") == [0]
