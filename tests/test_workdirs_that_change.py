"""Workdirs that are moved, taken by others, full of leftovers or links, and disks that do not answer: nothing saved is lost."""

import os
import shutil
import subprocess
import threading
import time

import pytest

from cnn_jax.checkpoint import Checkpoints
from cnn_jax.errors import UserError
from cnn_jax.lines import Lines
from cnn_jax.lock import Lock
from tests.runs import assert_trees_equal
from tests.small_states import plain, restored, save_steps, small_state


@pytest.fixture
def copy(tmp_path):
    save_steps(tmp_path / "run" / "checkpoints", [1, 2])
    return tmp_path / "run" / "checkpoints"


def test_leftovers_that_cannot_be_deleted_block_no_save(copy, tmp_path):
    (tmp_path / "precious").mkdir()
    (copy / ".7.partial").symlink_to(tmp_path / "precious")
    (copy / ".8.partial").write_text("a file")
    (copy / ".3.partial").mkdir()
    fixed = subprocess.run(["chattr", "+i", copy / ".3.partial"], capture_output=True, check=False).returncode == 0
    try:
        save_steps(copy, [3])
    finally:
        if fixed:
            subprocess.run(["chattr", "-i", copy / ".3.partial"], check=True)
    assert_trees_equal(restored(copy, 3), plain(small_state(3)))
    assert not {".7.partial", ".8.partial"} & set(os.listdir(copy))
    assert (tmp_path / "precious").is_dir()


def test_a_folder_that_another_run_has_taken_is_left_alone(tmp_path):
    """The workdir is moved away while a run goes on, and another run begins in its place."""
    workdir = tmp_path / "run"
    workdir.mkdir()
    lock, other = Lock(workdir), Lock(workdir)
    lock.take()
    lines = Lines(workdir / "metrics.jsonl", lock.make_sure)
    lines.add({"step": 1})
    with Checkpoints(workdir / "checkpoints", best_by="accuracy", make_sure=lock.make_sure) as checkpoints:
        workdir.rename(tmp_path / "moved")
        with pytest.raises(FileNotFoundError, match="is gone"):
            lock.make_sure()
        workdir.mkdir()
        other.take()
        with pytest.raises(OSError, match="is another folder by now"):
            lines.add({"step": 2})
        checkpoints.save(small_state(2), None)
        checkpoints.wait()
        assert "is another folder by now" in checkpoints.problems()[0]
        assert os.listdir(workdir) == ["lock"]
        # What has come back is written again.
        other.release()
        shutil.rmtree(workdir)
        (tmp_path / "moved").rename(workdir)
        lines.synchronise()
        checkpoints.save(small_state(2), None)
    assert (workdir / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
    assert os.listdir(workdir / "checkpoints") == ["2"]
    (workdir / "lock").unlink()  # by somebody who tidies up
    lock.make_sure()
    with pytest.raises(UserError, match="Another run is writing"):
        Lock(workdir).check()
    lock.release()


def test_links_and_folders_are_no_locks(tmp_path):
    (tmp_path / "precious").write_text("as it was")
    for make in (lambda path: path.symlink_to(tmp_path / "precious"), lambda path: path.mkdir()):
        make(tmp_path / "lock")
        with pytest.raises(UserError, match="is not the lock of a run"):
            Lock(tmp_path).check()
        (tmp_path / "lock").rmdir() if (tmp_path / "lock").is_dir() else (tmp_path / "lock").unlink()
    assert (tmp_path / "precious").read_text() == "as it was"


def test_a_link_to_a_disk_that_is_not_there_is_named(tmp_path):
    (tmp_path / "checkpoints").symlink_to(tmp_path / "scratch")
    with pytest.raises(UserError, match="is a link to .*scratch, which is not there. Mount its disk"):
        Checkpoints(tmp_path / "checkpoints", best_by="loss").steps()


def test_a_save_that_does_not_end_is_told_of_once(tmp_path, monkeypatch):
    from cnn_jax import checkpoint as module

    (tmp_path / "run").mkdir()
    answers = threading.Event()
    write = module.write_state
    monkeypatch.setattr(module, "_SLOW", 0.05)
    monkeypatch.setattr(module, "write_state", lambda *arguments: (answers.wait(60), write(*arguments)))
    with Checkpoints(tmp_path / "run" / "checkpoints", best_by="accuracy") as checkpoints:
        checkpoints.save(small_state(1), None)
        assert checkpoints.problems() == []
        time.sleep(0.1)
        assert "after 0 s: the disk does not answer" in checkpoints.problems()[0]
        assert checkpoints.problems() == []
        answers.set()
        checkpoints.wait()
        assert checkpoints.problems() == []
