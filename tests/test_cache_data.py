"""`--mode=cache_data` as a user types it: what it writes, says and refuses, and that a run's figures are the same with and without."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest

from cnn_jax.data import image_cache
from tests.runs import launch, launch_here
from tests.test_image_cache import flip

CACHE = ["--mode=cache_data", "--experiment=digits_resnet", "--tiny", "--set", "dataset.in_memory=false"]
SMALL = ["--set", "model.stage_sizes=1", "--set", "model.width=8"]  # a network that compiles soon


def test_a_whole_run_as_a_user_types_it(tmp_path, capsys):
    data = ["--set", f"dataset.data_dir={tmp_path / 'data'}"]
    result = launch(*CACHE, *data, "--set", "workers=1")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    folder = tmp_path / "data" / "cached_images" / "generated"
    for line in ("train: 40 images of 8×8×1 bytes are 2.56 kB", "caching train 40/40", f"wrote {folder}/test_8x8x1_21-images_10-classes: "):
        assert line in result.stdout
    assert "next: python launch.py --experiment=digits_resnet --tiny --set dataset.in_memory=false" in result.stdout
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert launch_here(*CACHE, *data) == 0
    assert capsys.readouterr().out.count("already cached") == 2
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before

    figures = []
    for name in ("from the cache", "decoded"):
        assert launch_here(*CACHE[1:], *data, *SMALL, f"--workdir={tmp_path / name}", "--num_devices=1") == 0
        assert ("reading 40 images from the cache" in capsys.readouterr().out) == (name == "from the cache")
        assert launch_here("--mode=evaluate", f"--workdir={tmp_path / name}", "--num_devices=1") == 0
        assert ("reading 21 images from the cache" in capsys.readouterr().out) == (name == "from the cache")
        records = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        figures.append([{k: v for k, v in record.items() if k not in ("examples_per_second", "waiting")} for record in records])
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
    assert figures[0] == figures[1]
    for name in ("evaluation.json", "predictions.csv"):
        assert (tmp_path / "from the cache" / name).read_text() == (tmp_path / "decoded" / name).read_text()


@pytest.mark.parametrize("experiment", ["digits_resnet", "mnist_lenet5", "cifar10_resnet18"])
def test_data_in_memory_need_no_cache(experiment, tmp_path, capsys):
    assert launch_here("--mode=cache_data", f"--experiment={experiment}", "--set", f"dataset.data_dir={tmp_path}") == 0
    assert "there is nothing to cache" in capsys.readouterr().out
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--workdir=x"], "--workdir belongs to --mode=train"),
        (["--num_devices=2"], "means nothing in --mode=cache_data"),
        (["--mode=cache_date"], "Did you mean cache_data"),
        (["--set", "dataset.in_memory=perhaps"], "true or false"),
        (["--set", "workers=-1"], "must not be negative"),
        (["--set", "dataset.data_dir={tmp}/file/x"], "cannot be cached: .*--set dataset.data_dir=FOLDER"),
    ],
)
def test_mistakes_are_refused(arguments, expected, tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    assert launch_here(*CACHE, *(argument.format(tmp=tmp_path) for argument in arguments)) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert re.search(expected, error), error


def test_a_damaged_cache_is_written_anew(tmp_path, capsys):
    data = ["--set", f"dataset.data_dir={tmp_path}"]
    assert launch_here(*CACHE, *data) == 0
    images = next(tmp_path.rglob("train*/images.npy"))
    whole = images.read_bytes()
    flip(images, 128 + 64 * 30)  # an image that opening does not look at
    capsys.readouterr()
    assert launch_here(*CACHE, *data) == 0
    out = capsys.readouterr().out
    assert "damaged and written anew: image 30 is not what was written" in out
    assert out.count("already cached") == 1
    assert images.read_bytes() == whole


def test_a_disk_with_too_little_space_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3903))
    command = [*CACHE, "--set", f"dataset.data_dir={tmp_path / 'data'}"]
    assert launch_here(*command) == 1
    captured = capsys.readouterr()
    assert "train: 40 images of 8×8×1 bytes are 2.56 kB" in captured.out
    assert f"3.9 kB of images are to be written, but {tmp_path} has 3.9 kB free. Make room" in captured.err
    assert not any(tmp_path.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3904))  # (40 + 21) × 64
    assert launch_here(*command) == 0


def test_a_disk_that_fills_up_is_said_and_what_was_written_is_kept(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    command = [*CACHE, "--set", f"dataset.data_dir={tmp_path}"]
    with monkeypatch.context() as patch:
        patch.setattr(image_cache._Rows, "append", full)
        assert launch_here(*command) == 1
    assert "No space left on device. What was written is kept; the same command continues" in capsys.readouterr().err
    assert launch_here(*command) == 0
    assert not list(tmp_path.rglob("*.unfinished"))
