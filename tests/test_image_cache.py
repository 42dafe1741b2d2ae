"""Decoded images on disk: the same batches as decoding gives, and no others; what is damaged or unfinished is never used."""

import os
import shutil
from functools import partial
from itertools import islice

import numpy as np
import pytest

from cnn_jax.data import prepared
from cnn_jax.data.image_cache import CachedSource, cached, open_cache, unfinished, write_cache
from cnn_jax.data.pipeline import eval_batches, train_batches
from cnn_jax.data.samplers import groups_by_classes, shuffled
from cnn_jax.data.source import DecodedSource
from cnn_jax.errors import UserError
from cnn_jax.registry import DATASETS
from tests.test_unseen_classes import SIZES, prepare

SHAPE = (4, 5, 3)


def made_up(folder, **options):
    """A data set that is decoded, of more images than are written at a time."""
    return DATASETS["generated"](shape=SHAPE, num_train=150, num_test=70, in_memory=False, data_dir=str(folder), **options)


def write(dataset, *, workers=0):
    """Writes both splits, that for training with so many workers: they take seconds to start. test_cache_data.py has both with."""
    for split, shape in (("train", dataset.train_shape), ("test", dataset.input_shape)):
        source = dataset.decoded(split)
        *_, last = write_cache(source, shape, workers=workers if split == "train" else 0)
        assert last == len(source)
        assert not unfinished(source.cache).exists()


def assert_same_batches(cache, decoded):
    assert isinstance(cache, CachedSource)
    assert isinstance(decoded, DecodedSource)
    assert len(cache) == len(decoded)
    for ours, theirs in ((cache.labels, decoded.labels), (cache.groups, decoded.groups)):
        np.testing.assert_array_equal(ours, theirs)
        assert ours is theirs is None or ours.dtype == theirs.dtype
    orders = [shuffled(decoded, 8)]
    if decoded.groups is not None:
        orders.append(groups_by_classes(cache, 8, num_groups=2, num_images=2))
        np.testing.assert_array_equal(orders[-1](3, 9), groups_by_classes(decoded, 8, num_groups=2, num_images=2)(3, 9))
    batches = [partial(train_batches, order=order, seed=3, start_step=2, num_steps=40, workers=0) for order in orders]
    batches.append(partial(eval_batches, batch_size=9, workers=0))
    for ours, theirs in ((list(read(cache)), list(read(decoded))) for read in batches):
        for a, b in zip(ours, theirs, strict=True):
            assert a.keys() == b.keys()
            for key in a:
                assert a[key].dtype == b[key].dtype
                np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize("workers", [0, 1])
def test_training_and_evaluation_read_from_the_cache_what_decoding_gives(workers, tmp_path, capsys):
    dataset = made_up(tmp_path)
    assert isinstance(dataset.open("train"), DecodedSource)
    write(dataset, workers=workers)
    for split, n in (("train", 150), ("test", 70)):
        assert_same_batches(dataset.open(split), dataset.decoded(split))
        assert f"reading {n} images from the cache in {tmp_path}" in capsys.readouterr().out
        shutil.rmtree(dataset.decoded(split).cache)
        assert isinstance(dataset.open(split), DecodedSource)


def test_photographs_split_by_class_are_cached_for_each_size_and_decoder(tmp_path, monkeypatch):
    prepare("cars196", tmp_path)
    cars = partial(DATASETS["cars196"], data_dir=str(tmp_path))
    dataset = cars(**SIZES)
    write(dataset)
    for split in ("train", "test"):
        assert_same_batches(dataset.open(split), dataset.decoded(split))
    name = f"train+test_others-98_central_square-resize14-size12_{prepared.image_decoder()}"
    assert list((tmp_path / "cached_images" / "cars196").glob(f"*/{name}/images.npy"))
    other = cars(image_size=10, train_image_size=16)
    assert isinstance(other.open("train"), CachedSource)
    assert isinstance(other.open("test"), DecodedSource)
    monkeypatch.setattr(prepared, "image_decoder", lambda: "another")
    assert isinstance(dataset.open("train"), DecodedSource)


def test_a_split_that_differs_in_anything_has_a_folder_of_its_own(tmp_path):
    options = ({}, {"num_classes": 3}, {"train_shape": (8, 8, 3)})
    folders = {made_up(tmp_path, **o).decoded(split).cache for o in options for split in ("train", "test")}
    assert len(folders) == 5  # train_shape says nothing of the test split
    assert all(tmp_path / "cached_images" in folder.parents for folder in folders)


def flip(path, place):
    """Changes one bit."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def resave(change):
    return lambda folder: np.save(folder / "images.npy", change(np.load(folder / "images.npy")))


def cut(name, size):
    return lambda folder: os.truncate(folder / name, size)


def put(name, text):
    return lambda folder: (folder / name).write_text(text)


DAMAGES = {
    # what is done to the folder: what the message must say
    "truncated images": (cut("images.npy", 9127), "images.npy has 9127 bytes, not 9128"),
    "images of nothing": (cut("images.npy", 0), "images.npy has 0 bytes, not 9128"),
    "a byte too many": (lambda folder: os.truncate(folder / "images.npy", 9129), "images.npy has 9129 bytes"),
    "another dtype": (resave(lambda images: images.view(np.int8)), "images.npy holds int8"),
    "another shape": (resave(lambda images: images.transpose(0, 2, 1, 3)), r"\[150, 5, 4, 3\], not uint8 \[150, 4, 5, 3\]"),
    "too few images": (resave(lambda images: images[:-1]), "images.npy has 9068 bytes"),
    "another header": (lambda folder: flip(folder / "images.npy", 0), "images.npy: the magic string"),
    "another first image": (lambda folder: flip(folder / "images.npy", 128), "image 0 is not what was written"),
    "another label": (lambda folder: flip(folder / "labels.npy", 200), "labels.npy is not what was written"),
    "truncated labels": (cut("labels.npy", 300), "labels.npy is not what was written"),
    "another group": (lambda folder: flip(folder / "groups.npy", 200), "groups.npy is not what was written"),
    "another checksum": (lambda folder: flip(folder / "checksums.npy", 200), "checksums.npy is not what was written"),
    "no labels": (lambda folder: (folder / "labels.npy").unlink(), "labels.npy: No such file"),
    "no images": (lambda folder: (folder / "images.npy").unlink(), "images.npy: No such file"),
    "no record": (lambda folder: (folder / "cache.json").unlink(), "cache.json: No such file"),
    "half a record": (cut("cache.json", 20), "not of the form"),
    "a record of something else": (put("cache.json", "[]"), "not of the form"),
    "pickled images": (lambda folder: np.save(folder / "images.npy", np.array([{}]), allow_pickle=True), "images.npy has [0-9]* bytes"),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder of data with a complete cache, to be copied."""
    folder = tmp_path_factory.mktemp("written")
    write(made_up(folder))
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_refused_with_the_way_out(damage, written, tmp_path):
    act, expected = DAMAGES[damage]
    dataset = made_up(shutil.copytree(written, tmp_path / "data"))
    folder = dataset.decoded("train").cache
    act(folder)
    with pytest.raises(UserError, match=f"(?s)cached images in {folder} are damaged: .*({expected}).*cache_data.*rm -r {folder}"):
        dataset.open("train")
    assert isinstance(dataset.open("test"), CachedSource)
    shutil.rmtree(folder)
    assert isinstance(dataset.open("train"), DecodedSource)


def test_a_damaged_image_is_found_when_it_is_first_read(written, tmp_path):
    dataset = made_up(shutil.copytree(written, tmp_path / "data"))
    source = dataset.decoded("train")
    flip(source.cache / "images.npy", 128 + 60 * 7)
    cache = cached(source)
    np.testing.assert_array_equal(cache[np.array([6, 8])]["inputs"], source[np.array([6, 8])]["inputs"])
    for _ in range(2):
        with pytest.raises(UserError, match="image 7 is not what was written"):
            cache[np.array([6, 7])]


def test_other_data_under_the_same_name_are_refused(written, monkeypatch):
    source = made_up(written).decoded("train")
    source.decode = np.zeros_like
    with pytest.raises(UserError, match=r"example 0 is not what decoding gives \(cached by (\w+) [0-9.]+, here is \1"):
        open_cache(source)
    monkeypatch.setattr(DecodedSource, "__len__", lambda _: 149)
    with pytest.raises(UserError, match="holds 150 images and 150 labels, but the data set has 149"):
        open_cache(source)


def begin(source):
    """Writes the first 128 images."""
    writing = write_cache(source, SHAPE, workers=0)
    assert list(islice(writing, 2)) == [64, 128]
    writing.close()


def counted(source, calls):
    """The source, noting what it decodes."""
    decode = source.decode
    source.decode = lambda image: (calls.append(1), decode(image))[1]
    return source


def test_an_interrupted_writing_is_not_used_and_continued_where_it_stopped(written, tmp_path):
    dataset = made_up(tmp_path)
    source = dataset.decoded("train")
    begin(source)
    assert isinstance(dataset.open("train"), DecodedSource)
    folder = unfinished(source.cache)
    for name in ("images.npy", "labels.npy"):  # a kill comes in between, and in the middle of an image
        with (folder / name).open("ab") as file:
            file.write(b"half")
    calls = []
    assert list(write_cache(counted(source, calls), SHAPE, workers=0)) == [64, 128, 150]
    assert len(calls) == 22
    complete = made_up(written).decoded("train").cache
    assert {p.name: p.read_bytes() for p in source.cache.iterdir()} == {p.name: p.read_bytes() for p in complete.iterdir()}
    assert not folder.exists()


def test_images_that_a_crash_has_lost_are_decoded_again(tmp_path):
    source = made_up(tmp_path).decoded("train")
    begin(source)
    images = unfinished(source.cache) / "images.npy"
    content = images.read_bytes()
    images.write_bytes(content[: 128 + 60 * 100] + bytes(60 * 28))  # what was in memory only when the machine went down
    assert list(write_cache(source, SHAPE, workers=0)) == [64, 128, 150]
    assert_same_batches(open_cache(source), made_up(tmp_path).decoded("train"))


def test_what_is_complete_but_for_its_name_is_named(written, tmp_path):
    source = made_up(shutil.copytree(written, tmp_path / "data")).decoded("train")
    source.cache.rename(unfinished(source.cache))
    calls = []
    assert list(write_cache(counted(source, calls), SHAPE, workers=0)) == [64, 128, 150]
    assert not calls
    assert len(open_cache(source)) == 150


def test_two_processes_do_not_write_the_same_images(tmp_path):
    source = made_up(tmp_path).decoded("train")
    writing = write_cache(source, SHAPE, workers=0)
    next(writing)
    with pytest.raises(UserError, match="Another process is writing to .*unfinished"):
        next(write_cache(source, SHAPE, workers=0))
    assert list(writing) == [128, 150]


def test_images_of_another_shape_than_the_data_set_says_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"uint8 \(4, 4, 3\), not uint8 \(4, 5, 3\)"):
        list(write_cache(made_up(tmp_path).decoded("train"), (4, 4, 3), workers=0))
