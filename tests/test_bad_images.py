"""Forty broken, mislabelled and hostile images: counted, named, replaced, nothing executed, nothing written elsewhere, memory bounded."""

import dataclasses
import json
import os
import resource
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from cnn_jax import processes
from cnn_jax.build import build
from cnn_jax.check import resolve
from cnn_jax.data.faults import BadExamples
from cnn_jax.data.image_file import BadImage, decode_image
from cnn_jax.data.pipeline import eval_batches, train_batches
from cnn_jax.data.samplers import shuffled
from cnn_jax.errors import UserError
from cnn_jax.evaluate import evaluate_workdir
from cnn_jax.experiment import Spec
from cnn_jax.registry import DATASETS
from cnn_jax.train import train
from cnn_jax.workdir import read_experiment
from tests.hostile_images import bad, good, write_classes
from tests.runs import CLASSIFIER, launch_here

RED, BLUE = (250, 10, 10), (10, 10, 250)
TURNED = {"turned_by_exif.jpg", "mirrored_by_exif.jpg"}
COLOURED = {"plain.jpg", "png_named_jpeg.jpg", "jpeg_named_png.png", "cmyk.jpg", "palette.png", "lossless.webp", "bitmap.bmp", *TURNED}


def test_there_are_forty():
    assert len(good()) + len(bad()) >= 40


@pytest.mark.parametrize("name", good())
def test_what_holds_an_image_is_decoded(name):
    image = decode_image(good()[name])
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    if name in COLOURED:
        assert image.shape == (24, 32, 3)
        for corner, colour in ((image[3, 3], RED), (image[-4, -4], BLUE), (image[3, -4], (0, 0, 0))):
            assert np.abs(corner.astype(int) - colour).max() < 60, name  # JPEG, and CMYK's other gamut
    if name == "sixteen_bits.png":
        np.testing.assert_array_equal(image[..., 1], (np.arange(24 * 32).reshape(24, 32) * 80) >> 8)
    if name == "grey.jpg":
        assert np.ptp(image, axis=2).max() == 0


@pytest.mark.parametrize("name", bad())
def test_what_holds_none_is_refused_in_bounded_memory(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where a script would have touched its file
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    with pytest.raises(BadImage) as caught:
        decode_image(bad()[name])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0 < len(str(caught.value)) < 250
    assert str(caught.value).isprintable()
    assert peak < 2**28
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # kB
    assert not os.listdir(tmp_path)


@pytest.fixture
def folder(tmp_path):
    """Three good images for each bad one, in both splits; a link that leads out, and a pipe."""
    plain = {f"{i:03}_{name}": content for i in range(3) for name, content in good().items()}
    write_classes(tmp_path / "images" / "train", plain | bad())
    write_classes(tmp_path / "images" / "test", dict(list(plain.items())[:30]) | dict(list(bad().items())[:2]))
    (tmp_path / "secret.png").write_bytes(good()["with_alpha.png"])
    (tmp_path / "images" / "train" / "cat" / "out.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(tmp_path / "images" / "train" / "dog" / "pipe.png")
    return tmp_path / "images"


def dataset_of(folder, **options):
    return DATASETS["image_folder"](folder=str(folder), image_size=8, train_image_size=8, **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_substitutes_are_the_same_on_every_way(workers, folder):
    source = dataset_of(folder).open("train")
    faults = {i for i in range(len(source)) if source.fault(i) is not None}
    assert len(faults) == len(bad()) + 2
    order = shuffled(source, 12)
    found: set[int] = set()
    steps = {"seed": 1, "start_step": 0, "num_steps": 8}
    batches = list(train_batches(source, order, workers=workers, on_bad=lambda places: found.update(places.tolist()), **steps))
    for step, batch in enumerate(batches):
        for i, place in enumerate(order(1, step)):
            example = source.usable(int(place))
            np.testing.assert_array_equal(batch["inputs"][i], example["inputs"])
            assert batch["targets"][i] == example["targets"]
    assert found == faults & {int(i) for step in range(8) for i in order(1, step)}
    with pytest.raises(UserError, match=r"Example \d+ \(train/(cat|dog)/.*\) cannot be used: "):
        list(train_batches(source, order, workers=workers, **steps))


def test_a_test_set_is_evaluated_without_them(folder):
    source = dataset_of(folder).open("test")
    told = []
    batches = list(eval_batches(source, batch_size=5, padded_size=6, workers=0, on_bad=told.append))
    assert sum(int(batch["valid"].sum()) for batch in batches) == len(source) - 2 == 30
    assert sorted(np.concatenate(told).tolist()) == [i for i in range(len(source)) if source.fault(i)]


def experiment_of(folder, **changes):
    dataset = Spec("image_folder", folder=str(folder), image_size=8, train_image_size=8)
    options = {"augment": (Spec("random_flip"),), "num_steps": 10, "eval_every": 5, "workers": 0, "max_bad_fraction": 0.5}
    return dataclasses.replace(CLASSIFIER, dataset=dataset, **(options | changes))


def test_a_run_on_them_tells_records_and_goes_on(folder, tmp_path, capsys):
    experiment, workdir = experiment_of(folder), tmp_path / "run"
    train(experiment, workdir, num_devices=2)
    out = capsys.readouterr().out
    assert "is replaced by another: the file is empty" in out
    assert "evaluated 30 of 32" in out
    lines = [json.loads(line) for line in (workdir / "bad_examples.jsonl").read_text().splitlines()]
    assert {line["split"] for line in lines} == {"train", "test"}
    names = {line["name"].split("/")[-1] for line in lines if line["split"] == "train"}
    assert names <= {*bad(), "out.png", "pipe.png"}
    assert len(names) > 15
    assert {line["why"] for line in lines if line["name"].endswith("out.png")} <= {"it is a link that leads out of the folder"}
    # Continued, each is recorded once.
    train(dataclasses.replace(experiment, num_steps=20), workdir, num_devices=2)
    lines = [json.loads(line) for line in (workdir / "bad_examples.jsonl").read_text().splitlines()]
    assert len({(line["split"], line["example"]) for line in lines}) == len(lines)
    evaluation = evaluate_workdir(workdir, read_experiment(workdir), step=None, mode="jit", num_devices=1)
    assert evaluation.num_examples == 30
    rows = (workdir / "predictions.csv").read_text().splitlines()[1:]
    source = dataset_of(folder).open("test")
    assert [int(row.split(",")[0]) for row in rows] == [i for i in range(32) if source.fault(i) is None]


def test_more_than_may_be_end_the_run(folder, tmp_path):
    message = r"(?s)\d+ of 88 train examples cannot be used, more than max_bad_fraction=0.01; they are listed in .*bad_examples.jsonl"
    with pytest.raises(UserError, match=message):
        train(experiment_of(folder, max_bad_fraction=0.01), tmp_path / "run", num_devices=1)


def test_a_folder_whose_files_have_changed_is_another_runs(tmp_path):
    images = tmp_path / "images"
    for i in range(12):
        path = images / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(path)
    experiment = experiment_of(images, max_bad_fraction=0.0)
    train(experiment, tmp_path / "run", num_devices=1)
    (images / "a" / "0.png").rename(images / "a" / "00.png")
    with pytest.raises(UserError, match="it is another run's: names of files is"):
        train(dataclasses.replace(experiment, num_steps=20), tmp_path / "run", num_devices=1)


def test_what_several_processes_find_is_added_up(folder, tmp_path, monkeypatch):
    source = dataset_of(folder).open("train")
    of = []
    for i in range(2):
        monkeypatch.setattr(processes, "_me", {"index": i, "count": 2})
        of.append(BadExamples(tmp_path / "bad_examples.jsonl", max_fraction=2.5 / len(source), say=lambda line: None).of("train", source))
    of[0](np.array([3, 3]))
    of[1](np.array([3]))
    of[1](np.array([4]))
    with pytest.raises(UserError, match=rf"3 of {len(source)} train examples cannot be used"):
        of[0](np.array([5]))
    assert [line.count("\n") for line in (p.read_text() for p in sorted(tmp_path.glob("*.jsonl")))] == [2, 1]


def test_labels_that_are_no_classes_are_refused_before_anything(tmp_path, monkeypatch):
    from cnn_jax import train as module

    def build_mislabelled(experiment, **options):
        built = build(experiment, **options)

        def open_split(split):
            source = built.dataset.open(split)
            source.labels[3] = 99
            return source

        return built._replace(dataset=dataclasses.replace(built.dataset, open=open_split))

    monkeypatch.setattr(module, "build", build_mislabelled)
    with pytest.raises(UserError, match="1 of 50 train labels are none of the 4 classes, 0 to 3: example 3 has 99"):
        train(CLASSIFIER, tmp_path / "run", num_devices=1)
    assert not (tmp_path / "run").exists()


def test_one_folder_a_class_is_split_by_names(tmp_path):
    write_classes(tmp_path, {f"{i}.png": good()["plain.jpg"] for i in range(40)})
    first = dataset_of(tmp_path)
    assert (first.num_train, first.num_test, first.class_names) == (32, 8, ("cat", "dog"))
    (tmp_path / "cat" / "new.png").write_bytes(good()["plain.jpg"])
    again = dataset_of(tmp_path)
    old, new = ({path.name for path in dataset.decoded("test").records.paths} for dataset in (first, again))
    assert len(old - new) <= 1
    labels = first.open("test").labels
    assert np.bincount(labels).tolist() == [4, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs folder"),
        ({"folder": "no/such/folder"}, "there is no folder"),
        ({"folder": "{empty}"}, "holds 0 images to train, 0 images to test, of 0 classes"),
        ({"folder": "{empty}", "test_share": 2.0}, "must lie between 0 and 1"),
    ],
)
def test_mistakes_with_folders(options, message, tmp_path, capsys):
    sets = [f"--set=dataset.{key}={str(value).format(empty=tmp_path)}" for key, value in options.items()]
    assert launch_here("--experiment=imagenet_resnet50", "--set=dataset=image_folder", *sets, f"--workdir={tmp_path / 'run'}") == 1
    assert message in capsys.readouterr().err


def test_check_data_lists_what_cannot_be_used_and_what_is_in_both_splits(folder, tmp_path, capsys):
    arguments = ["--mode=check_data", "--experiment=imagenet_resnet50", "--set=dataset=image_folder", f"--set=dataset.folder={folder}"]
    arguments += ["--set=dataset.image_size=64", "--set=dataset.train_image_size=64", "--set=augment=", "--set=metrics=accuracy"]
    assert launch_here(*arguments) == 1
    out, err = capsys.readouterr()
    assert "train/cat/empty.jpg: the file is empty" in out or "train/dog/empty.jpg: the file is empty" in out
    assert "30 of 32 test images are in the train split too" in err
    assert "test/cat/000_cmyk.jpg (test) is train/cat/000_cmyk.jpg (train)" in out
    assert launch_here("--mode=check_data", "--experiment=digits_resnet") == 0
    assert "no test image is in the train split" in capsys.readouterr().out


def test_the_experiment_of_a_folder_resolves(folder):
    assert resolve(experiment_of(folder)).dataset.kwargs["test_share"] == 0.2
