"""Saving is ended by SIGKILL before each of its calls that change files: what is there then is the old state or the new one."""

import os
import shutil
import subprocess
import sys

import pytest

from cnn_jax.checkpoint import Checkpoints
from tests.preloaded import preloaded
from tests.runs import REPOSITORY, assert_trees_equal
from tests.small_states import plain, restored, save_steps, small_state, target

# One process that has imported all forks one for each call: it saves step 4, which deletes step 2 as well.
_SAVES = """
import ctypes, os, sys
from pathlib import Path
from cnn_jax.checkpoint import Checkpoints
from tests.small_states import small_state
shim = ctypes.CDLL(sys.argv[1])
place = Path(sys.argv[2])
def save(folder, n):
    with Checkpoints(folder, best_by="accuracy") as checkpoints:
        state = small_state(4)
        shim.kill_at_call_arm(str(folder.parent).encode(), ctypes.c_long(n))
        checkpoints.save(state, {"accuracy": 0.9})
        checkpoints.wait()
        assert checkpoints.problems() == []
        return shim.kill_at_call_count()
for line in sys.stdin:
    n = int(line)
    child = os.fork()
    if child == 0:
        counted = save(place / str(n) / "checkpoints", n)
        (place / f"count-{n}").write_text(str(counted))
        os._exit(0)
    print(n, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    return preloaded("kill_at_call", tmp_path_factory.mktemp("shim"))


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_a_save_that_is_killed_before_any_of_its_calls(every, shim, tmp_path):
    save_steps(tmp_path / "before" / "checkpoints", [1, 2, 3])  # 1 is the best, and 3 the last
    assert sorted(os.listdir(tmp_path / "before" / "checkpoints")) == ["1", "3"]
    env = {**os.environ, "LD_PRELOAD": str(shim), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", _SAVES, str(shim), str(tmp_path)]
    outcomes = set()
    with subprocess.Popen(command, cwd=REPOSITORY, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def run(n: int) -> int:
            shutil.copytree(tmp_path / "before", tmp_path / str(n))
            process.stdin.write(f"{n}\n")
            process.stdin.flush()
            return int(process.stdout.readline().split()[1])

        assert run(0) == 0
        num_calls = int((tmp_path / "count-0").read_text())
        assert num_calls > 40
        print(f"{num_calls} calls")
        for n in range(1, num_calls + 1, every):
            code = run(n)
            assert code in (-9, 0), (n, code)  # threads do not always make as many calls
            folder = tmp_path / str(n) / "checkpoints"
            with Checkpoints(folder, best_by="accuracy") as checkpoints:
                said = []
                last = checkpoints.last_good(said.append)
                assert said == [], "a kill is no damage"
                assert last in (3, 4)
                outcomes.add((last, code))
                assert_trees_equal(plain(checkpoints.restore(last, target())), plain(small_state(last)))
                if last == 3:
                    assert_trees_equal(restored(folder, 1), plain(small_state(1)))
                # The next save leaves nothing behind of what was half written or half deleted.
                checkpoints.save(small_state(5), {"accuracy": 0.8})
                checkpoints.wait()
                assert checkpoints.problems() == []
                assert not [name for name in os.listdir(folder) if name.startswith(".")]
            shutil.rmtree(tmp_path / str(n))
        process.stdin.close()
    assert {(3, -9), (4, -9)} <= outcomes
