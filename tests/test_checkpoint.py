"""What is saved is found again, or its damage is named: truncated, flipped, missing and foreign checkpoints, full and read-only disks."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from cnn_jax.checkpoint import Checkpoints
from cnn_jax.errors import UserError
from cnn_jax.manifest import NAME, Damaged, check_files, read_manifest, write_manifest
from tests.runs import REPOSITORY, assert_trees_equal
from tests.small_states import plain, restored, save_steps, small_state, target


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints of steps 1 and 2."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    save_steps(folder, [1, 2])
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run" / "checkpoints")
    return tmp_path / "run" / "checkpoints"


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def flip(path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << at % 8
    path.write_bytes(bytes(content))


DAMAGES = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "first bit flipped": lambda path: flip(path, 0),
    "middle bit flipped": lambda path: flip(path, path.stat().st_size // 2),
    "last bit flipped": lambda path: flip(path, path.stat().st_size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "deleted": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link": lambda path: (path.rename(path.with_name("other")), path.symlink_to("other")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_file_in_turn(damage, copy, saved):
    """Whatever is done to whichever file: never a wrong load; the one before is found, and the damage is said aloud."""
    for name in files_of(saved / "2"):
        before = (copy / "2" / name).read_bytes()
        DAMAGES[damage](copy / "2" / name)
        said = []
        with Checkpoints(copy, best_by="accuracy") as checkpoints:
            harmless = name == NAME and damage == "longer"  # a newline behind JSON says nothing
            assert checkpoints.last_good(said.append) == (2 if harmless else 1), name
            if not harmless:
                assert said[0].startswith("WARNING: the checkpoint of step 2 in"), said
                with pytest.raises(UserError, match="The checkpoint of step 2 in .* cannot be used: .*Use --step=1 for another"):
                    checkpoints.restore(2, target())
        shutil.rmtree(copy / "2")
        shutil.copytree(saved / "2", copy / "2")
        assert (copy / "2" / name).read_bytes() == before


def test_what_was_saved_is_restored(saved):
    for step in (1, 2):
        assert_trees_equal(restored(saved, step), plain(small_state(step)))


def test_where_none_is_good_the_run_is_not_begun_anew(copy):
    for step in (1, 2):
        (copy / str(step) / NAME).unlink()
    message = "(?s)No checkpoint in .* can be used:.*step 1"
    with Checkpoints(copy, best_by="accuracy") as checkpoints, pytest.raises(UserError, match=message):
        checkpoints.last_good(lambda line: None)


def test_foreign_checkpoints_are_refused(copy, tmp_path):
    os.rename(copy / "2", copy / "3")
    with Checkpoints(copy, best_by="accuracy") as checkpoints:
        assert checkpoints.fault(3) == "it is of step 2"
    save_steps(tmp_path / "other" / "checkpoints", [5], identity={"model": "lenet5", "seed": 0})
    shutil.copytree(tmp_path / "other" / "checkpoints" / "5", copy / "5")
    with Checkpoints(copy, best_by="accuracy", identity={"model": "lenet5", "seed": 1}) as checkpoints:
        assert checkpoints.fault(5) == "it is another run's: seed is 0 there, and 1 here"
    # An option that this version has and that one had not is no difference.
    with Checkpoints(copy, best_by="accuracy", identity={"model": "lenet5", "seed": 0, "model.width": 4}) as checkpoints:
        assert checkpoints.fault(5) is None


def test_other_shapes_are_named(saved):
    with Checkpoints(saved, best_by="accuracy") as checkpoints, pytest.raises(UserError, match=r"saved \(3,\) float32, this model \(5,\)"):
        checkpoints.restore(1, target(size=5))


def test_a_damaged_checkpoint_is_kept_under_another_name_when_its_step_is_saved_again(copy):
    flip(copy / "2" / NAME, 40)
    save_steps(copy, [2])
    assert_trees_equal(restored(copy, 2), plain(small_state(2)))
    assert (copy / "damaged-2" / NAME).exists()


def test_a_good_checkpoint_that_another_has_saved_is_not_taken_for_ones_own(copy):
    with Checkpoints(copy, best_by="accuracy") as checkpoints:
        checkpoints.save(small_state(2).replace(params=small_state(7).params), {"accuracy": 0.1})
    assert_trees_equal(restored(copy, 2).params, plain(small_state(7)).params)
    assert (copy / "damaged-2" / NAME).exists()


@pytest.mark.parametrize(
    "record", [{"metrics": [1]}, {"window": [1]}, {"window": {"skipped": "x", "sums": 3}}, {"window": {"skipped": 0, "sums": {"a": ["x"]}}}]
)
def test_manifests_of_other_forms(record, copy):
    write_manifest(copy / "2", {"step": 2, "metrics": None, "window": None} | record)
    with Checkpoints(copy, best_by="accuracy") as checkpoints:
        assert checkpoints.fault(2) == "its manifest is not of this version's form"
        assert checkpoints.best_step() == 1
        assert checkpoints.last_good(lambda line: None) == 1


def test_the_figures_of_a_state_can_be_added_later(tmp_path):
    with Checkpoints(tmp_path / "run" / "checkpoints", best_by="accuracy") as checkpoints:
        (tmp_path / "run").mkdir()
        checkpoints.save(small_state(4), None, {"skipped": 1, "sums": {"loss": [0.1, 3]}})
        checkpoints.wait()
        assert checkpoints.record(4)["window"] == {"skipped": 1, "sums": {"loss": [0.1, 3]}}
        assert checkpoints.best_step() is None
        checkpoints.save(small_state(4), {"accuracy": 0.5})
        checkpoints.wait()
        assert [checkpoints.record(4)["metrics"], checkpoints.best_step()] == [{"accuracy": 0.5}, 4]
        assert checkpoints.fault(4) is None


def test_pruning_keeps_the_last_the_best_and_those_to_be_kept(tmp_path):
    def kept(values, **options):
        folder = tmp_path / str(len(list(tmp_path.iterdir()))) / "checkpoints"
        folder.parent.mkdir()
        with Checkpoints(folder, best_by="loss", **options) as checkpoints:
            for step, value in enumerate(values, 1):
                checkpoints.save(small_state(step), None if value is None else {"loss": value})
            checkpoints.wait()
            return checkpoints.steps()

    assert kept([3.0, 1.0, 2.0, 4.0]) == [2, 4]
    assert kept([3.0, 1.0, 2.0, 4.0], keep_best=2) == [2, 3, 4]
    assert kept([3.0, float("nan"), None, 4.0, None], keep_every=2) == [1, 2, 4, 5]
    assert kept([None, None, None]) == [3]
    assert kept([2.0, 2.0, 2.0]) == [3]


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
    folder = tmp_path / "checkpoints"
    save_steps(folder, [1])
    with Checkpoints(folder, best_by="accuracy") as checkpoints:
        state = small_state(2)
        checkpoints.save(state.replace(params={**state.params, "head": state.params["head"]["bias"] + float("inf")}), None)
        checkpoints.wait()
        (problem,) = checkpoints.problems()
        assert "head is not finite, and nothing could continue from it. What was saved before is intact" in problem
        assert checkpoints.steps() == [1]


def test_manifests_hold_no_surprises(tmp_path):
    (tmp_path / "weights").write_bytes(b"12")
    write_manifest(tmp_path, {"step": 1})
    for content in ("", "[" * 100_000, "{}", '{"sha256": "", "content": 3}', "9" * 10_000, '{"content": {"files": []}, "sha256": 1}'):
        (tmp_path / NAME).write_text(content)
        with pytest.raises(Damaged, match=f"{NAME} is not what was written"):
            read_manifest(tmp_path)
    with open(tmp_path / NAME, "w") as file:
        file.truncate(2**40)  # takes no space, and would take all memory
    with pytest.raises(Damaged, match="more than any that is written"):
        read_manifest(tmp_path)
    outside = tmp_path.parent / "outside"
    outside.write_bytes(b"12")
    write_manifest(tmp_path, {})
    record = json.loads((tmp_path / NAME).read_text())["content"]
    (files,) = record["files"].values()
    from cnn_jax.manifest import _checksum

    for name in (str(outside), "../outside", "weights/../../outside"):
        content = {"files": {name: files}}
        (tmp_path / NAME).write_text(json.dumps({"sha256": _checksum(content), "content": content}))
        with pytest.raises(Damaged, match="lies outside of the folder"):
            check_files(tmp_path)


_ON_A_SMALL_DISK = """
import os, subprocess, sys
from pathlib import Path
place = Path(sys.argv[1])
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", place], capture_output=True).returncode:
    sys.exit(77)
from cnn_jax.checkpoint import Checkpoints
from tests.small_states import plain, restored, small_state
from tests.runs import assert_trees_equal
folder = place / "run" / "checkpoints"
folder.parent.mkdir()
try:
    with Checkpoints(folder, best_by="accuracy", keep_every=1) as checkpoints:
        def save(step):
            checkpoints.save(small_state(step), None)
            checkpoints.wait()
            return checkpoints.problems()
        assert save(1) == []
        (place / "fill").write_bytes(bytes(os.statvfs(place).f_bavail * os.statvfs(place).f_frsize - 8192))
        (problem,) = save(2)
        assert "No space left on device" in problem, problem
        assert checkpoints.last_good() == 1
        (place / "fill").unlink()
        assert save(3) == [], "there is room again"
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        (problem,) = save(4)
        assert "Read-only file system" in problem, problem
        assert checkpoints.last_good() == 3
        assert_trees_equal(restored(folder, 3), plain(small_state(3)))
        subprocess.run(["mount", "-o", "remount,rw", place], check=True)
        os.rename(place / "run", place / "gone")
        (problem,) = save(5)
        assert "run is gone" in problem, problem
        os.rename(place / "gone", place / "run")
        assert save(6) == []
finally:
    subprocess.run(["umount", "-l", place])
"""


def test_full_read_only_and_vanished_folders(tmp_path):
    """A real file system of 400 kB. Needs the right to mount one."""
    command = ["unshare", "--mount", sys.executable, "-c", _ON_A_SMALL_DISK, str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount")
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=200, check=False)
    if result.returncode == 77:
        pytest.skip("no right to mount")
    assert (result.returncode, result.stderr) == (0, "")  # and no traceback of a library's
