"""Files of a workdir that somebody else has written: a clear error, in bounded time and memory, and nothing is run."""

import dataclasses
import json
import os
import shutil
import time
import zipfile

import numpy as np
import pytest

from cnn_jax.errors import UserError
from cnn_jax.experiment import Spec, to_json
from cnn_jax.train import train
from cnn_jax.workdir import check_data_folder
from tests.runs import CLASSIFIER, launch_here

FIELDS = json.loads(to_json(CLASSIFIER))


def sparse(path) -> None:
    with open(path, "w") as file:
        file.truncate(2**40)


EXPERIMENTS = {
    # content of experiment.json, and what is said
    "empty": ("", "not valid JSON"),
    "binary": (b"\x80\x04\x95\xff", "cannot be read"),
    "deep": ("[" * 200_000, "not valid JSON"),
    "deep objects": ('{"name":' * 50_000, "not valid JSON"),
    "long number": ('{"batch_size": ' + "9" * 100_000 + "}", "not valid JSON"),
    "list": ("[1, 2]", "does not describe an experiment"),
    "null": ("null", "does not describe an experiment"),
    "number beyond all": (json.dumps(FIELDS).replace('"num_steps": 30', '"num_steps": 1e999'), "num_steps"),
    "text for a number": (json.dumps(FIELDS | {"batch_size": "ten"}), "batch_size"),
    "object for a number": (json.dumps(FIELDS | {"seed": {"a": 1}}), "seed"),
    "field of attributes": (json.dumps(FIELDS | {"__class__": "os.system"}), "Unknown field"),
    "model that is a path": (json.dumps(FIELDS | {"model": {"name": "../../evil", "kwargs": {}}}), "Unknown model"),
    "model that is code": (json.dumps(FIELDS | {"model": {"name": "os.system('touch owned')", "kwargs": {}}}), "Unknown model"),
    "options that are no options": (json.dumps(FIELDS | {"model": {"name": "resnet8", "kwargs": {"__init__": 1}}}), "Unknown option"),
    "model without a name": (json.dumps(FIELDS | {"model": {"kwargs": {}}}), "does not describe an experiment"),
    "a hundred million blocks": (
        json.dumps(FIELDS | {"model": {"name": "resnet18", "kwargs": {"stage_sizes": [100_000_000, 1, 1]}}}),
        "100,000,002 blocks; 2,000 are the most",
    ),
    "colours": (json.dumps(FIELDS | {"\x1b[31m": 1}), "Unknown field"),
}


@pytest.mark.parametrize("case", EXPERIMENTS)
@pytest.mark.parametrize("mode", ["evaluate", "train"])
def test_experiments(case, mode, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, message = EXPERIMENTS[case]
    workdir = tmp_path / "run"
    workdir.mkdir()
    path = workdir / "experiment.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (workdir / "checkpoints").mkdir()
    arguments = ["--mode=evaluate"] if mode == "evaluate" else ["--experiment=digits_resnet", "--tiny"]
    began = time.monotonic()
    code = launch_here(*arguments, f"--workdir={workdir}")
    _, err = capsys.readouterr()
    assert time.monotonic() - began < 20
    assert not (tmp_path / "owned").exists()
    if mode == "train" and code == 0:
        return  # settings may change freely while nothing is saved, if they are any
    assert code == 1
    assert err.startswith("error: ")
    assert message in err or mode == "train"
    assert len(err) < 2500
    assert "\x1b" not in err


def test_an_experiment_of_a_terabyte(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    sparse(tmp_path / "run" / "experiment.json")
    assert launch_here("--mode=evaluate", f"--workdir={tmp_path / 'run'}") == 1
    assert "has 1,099,511,627,776 bytes, more than any that is written" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["evaluate", "train"])
def test_experiments_without_an_end(mode, tmp_path, capsys):
    for i, make in enumerate((os.mkfifo, lambda path: os.symlink("/dev/zero", path))):
        workdir = tmp_path / str(i)
        workdir.mkdir()
        make(workdir / "experiment.json")
        arguments = ["--mode=evaluate"] if mode == "evaluate" else ["--experiment=digits_resnet", "--tiny"]
        assert launch_here(*arguments, f"--workdir={workdir}") == 1
        assert "cannot be read: it is no plain file" in capsys.readouterr().err


def test_data_are_not_prepared_where_a_file_says(tmp_path):
    hostile = dataclasses.replace(CLASSIFIER, dataset=Spec("digits", data_dir=f"{tmp_path}/x/../outside"))
    with pytest.raises(UserError, match=r"/outside, which is no folder. Name theirs with --set dataset.data_dir=FOLDER"):
        check_data_folder(tmp_path, hostile)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    train(CLASSIFIER, folder, num_devices=1)
    return folder


def alter_state(folder, name, content) -> None:
    """Changes a file of the state, and the manifest with it, as somebody could who means it."""
    from cnn_jax.manifest import read_manifest, write_manifest

    record = read_manifest(folder)
    (folder / name).write_bytes(content)
    write_manifest(folder, {key: value for key, value in record.items() if key != "files"})


@pytest.mark.parametrize("name", ["state/_METADATA", "state/manifest.ocdbt", "state/_CHECKPOINT_METADATA"])
@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\x80\x04\x95cposix\nsystem\n", b'{"tree_metadata": {"x": 9}}'])
def test_states_with_manifests_that_agree(name, content, run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    alter_state(tmp_path / "run" / "checkpoints" / "30", name, content)
    code = launch_here("--mode=evaluate", f"--workdir={tmp_path / 'run'}", "--step=30")
    err = capsys.readouterr().err
    if code:  # orbax does not need each of its files
        assert err.startswith("error: The checkpoint of step 30 in ")
        assert len(err) < 2500


def test_records_of_others_are_dropped(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    for name in ("metrics.jsonl", "environment.jsonl", "bad_examples.jsonl"):
        with open(tmp_path / "run" / name, "ab") as file:
            file.write(b'\x00\xff\n{"step": "x"}\n{"split": {}, "example": []}\n[]\n' + b"[" * 50_000 + b"\n")
    from dataclasses import replace

    train(replace(CLASSIFIER, num_steps=32), tmp_path / "run", num_devices=1)
    assert all(isinstance(json.loads(line)["step"], int) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())


@pytest.mark.parametrize("kind", ["bomb", "pickle", "claims", "scalar", "text"])
def test_batches_of_an_autopsy(kind, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "run")
    folder = tmp_path / "run" / "autopsy" / "step_3"
    folder.mkdir(parents=True)
    path = folder / "batch.npz"
    if kind == "bomb":
        np.savez_compressed(path, inputs=np.zeros((2000, 64, 64, 3), np.uint8), targets=np.zeros(3))
    elif kind == "pickle":
        np.savez(path, inputs=np.array([print], object), targets=np.zeros(3))
    elif kind == "scalar":
        np.savez(path, inputs=np.zeros((3, 8, 8, 3), np.uint8), targets=np.float64(1))
    elif kind == "claims":
        with zipfile.ZipFile(path, "w") as archive:
            header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }"
            header += b" " * (118 - len(header)) + b"\n"
            archive.writestr("inputs.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
            archive.writestr("targets.npy", b"x")
    else:
        path.write_text("nothing")
    assert launch_here("--mode=autopsy", f"--workdir={tmp_path / 'run'}") == 1
    assert "batch.npz cannot be read: " in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["run"]
