"""Whole runs on a disk that is full, gone or closed for a while, for real: the run says so, goes on, and loses nothing."""

import shutil
import subprocess
import sys

import pytest

from tests.runs import REPOSITORY

# A run that meets a fault before update 8 and is rid of it before update 20; saves are due after every fourth update.
_RUN = """
import contextlib, dataclasses, os, subprocess, sys
from pathlib import Path
import jax
jax.config.update("jax_num_cpu_devices", 4)
from cnn_jax import train as module
from cnn_jax.verify_resume import records
from tests.runs import CLASSIFIER, assert_trees_equal
from tests.test_resume import final_state
place, fault = Path(sys.argv[1]), sys.argv[2]
if fault != "closed" and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True).returncode:
    sys.exit(77)
experiment = dataclasses.replace(CLASSIFIER, save_every=4)
workdir = place / "run"

def begin():
    if fault == "full":
        with contextlib.suppress(OSError), open(place / "fill", "wb", buffering=0) as file:  # beside a save, which takes some as well
            while True:
                file.write(bytes(4096))
    elif fault == "closed":
        for path in (workdir, workdir / "checkpoints"):
            path.chmod(0o500)
    else:
        os.rename(workdir, place / "elsewhere")

def end():
    if fault == "full":
        (place / "fill").unlink()
    elif fault == "closed":
        for path in (workdir, workdir / "checkpoints"):
            path.chmod(0o700)
    else:
        os.rename(place / "elsewhere", workdir)

whole = module.train_batches
def faulty(*arguments, **settings):
    for step, batch in enumerate(whole(*arguments, **settings), settings["start_step"] + 1):
        if step == 9:
            begin()
        if step == 21:
            end()
        yield batch

module.train_batches = faulty
try:
    module.train(experiment, workdir, num_devices=1)
    module.train_batches = whole
    module.train(experiment, Path(sys.argv[3]), num_devices=1)
    assert_trees_equal(final_state(Path(sys.argv[3])), final_state(workdir))
    assert records(Path(sys.argv[3])) == records(workdir)
finally:
    if fault != "closed":
        subprocess.run(["umount", "-l", place])
"""


@pytest.mark.usefixtures("quick_commands")
@pytest.mark.parametrize(
    ("fault", "message"),
    [("full", "No space left on device"), ("gone", "is gone"), ("closed", "Permission denied|PERMISSION_DENIED")],
)
def test_a_run_says_so_goes_on_and_loses_nothing(fault, message, tmp_path):
    # Root may do everything; without this capability it may not write where the permissions say no.
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if fault == "closed" else ["unshare", "--mount"]
    if shutil.which(drop[0]) is None or subprocess.run([*drop, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"no right to {drop[0]}")
    (tmp_path / "disk").mkdir()
    command = [*drop, sys.executable, "-c", _RUN, str(tmp_path / "disk"), fault, str(tmp_path / "whole")]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    if result.returncode == 77:
        pytest.skip("no right to mount")
    assert result.returncode == 0, result.stderr[-3000:] + result.stdout[-2000:]
    assert "WARNING: A checkpoint could not be written" in result.stdout
    assert any(word in result.stdout for word in message.split("|")), result.stdout
    assert "The run goes on, and saves again when a save is due." in result.stdout
    if fault == "gone":  # a full disk may still have room for a line, and files are written in a closed folder
        assert "cannot be written" in result.stdout
        assert "all records are written to" in result.stdout
    assert "Traceback" not in result.stderr
