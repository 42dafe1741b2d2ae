"""The catalogue's data sets split by class: small ones with the real features are prepared, and read as the real ones are."""

import io

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from cnn_jax.data.pipeline import train_batches
from cnn_jax.data.samplers import classes_by_images
from cnn_jax.registry import DATASETS

# Name -> (TFDS's name, classes, the first of those that are never trained on, all photographs as its paper counts them).
SPLIT_BY_CLASS = {"cars196": ("cars196", 196, 98, 16185), "cub200": ("caltech_birds2011", 200, 100, 11788)}
SIZES = {"image_size": 12, "train_image_size": 16}


def labels_of(split, num_classes):
    """Of the catalogue's own split, which is by image: all classes are in both, in no order, and the classes at the border often."""
    border = num_classes // 2
    every = np.random.default_rng(len(split)).permutation(num_classes)
    return np.concatenate([every, [border - 1, border, border, 0, num_classes - 1]] if split == "train" else [[border], every])


def encoded(array):
    written = io.BytesIO()
    PIL.Image.fromarray(array).save(written, "PNG")
    return written.getvalue()


def brightness(split, i):
    """Tells which example an image is of."""
    return i % 200 + (50 if split == "test" else 0)


def prepare(name, folder):
    """Writes a small data set with all the features of TFDS's own."""
    num_classes = next(classes for own, classes, *_ in SPLIT_BY_CLASS.values() if own == name)
    builder = tfds.builder(name, data_dir=str(folder), file_format="array_record", try_gcs=False)
    others = {"bbox": tfds.features.BBox(0.1, 0.2, 0.6, 0.9), "id": "a", "image/filename": "b", "label_name": "c"}

    def examples(split):
        for i, label in enumerate(labels_of(split, num_classes)):
            image = np.full((14 + i % 3, 18, 3), brightness(split, i), np.uint8)
            example = others | {"image": encoded(image), "segmentation_mask": encoded(image[:, :, 0]), "label": int(label)}
            yield f"{split}{i:04}", {key: example[key] for key in builder.info.features}

    builder._split_generators = lambda *arguments: {split: examples(split) for split in ("train", "test")}
    builder.download_and_prepare()


@pytest.fixture(scope="module", params=list(SPLIT_BY_CLASS))
def opened(request, tmp_path_factory):
    """(the data set, {split: its source}, the classes that are never trained on, the labels of all examples)."""
    own, num_classes, first_unseen, _ = SPLIT_BY_CLASS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    prepare(own, folder)
    dataset = DATASETS[request.param](data_dir=str(folder), **SIZES)
    assert dataset.num_classes == num_classes
    labels = np.concatenate([labels_of(split, num_classes) for split in ("train", "test")])
    return dataset, {split: dataset.open(split) for split in ("train", "test")}, first_unseen, labels


def test_no_class_is_both_trained_on_and_retrieved_and_no_example_is_lost(opened):
    dataset, sources, first_unseen, labels = opened
    assert set(sources["train"].labels) == set(range(first_unseen))
    assert set(sources["test"].labels) == set(range(first_unseen, dataset.num_classes))
    for split, kept in (("train", labels < first_unseen), ("test", labels >= first_unseen)):
        assert len(sources[split]) == kept.sum()
        # The files are shuffled when they are written.
        np.testing.assert_array_equal(np.sort(sources[split].labels), np.sort(labels[kept]))
        assert sources[split].labels.dtype == np.int32


def test_an_image_keeps_its_label(opened):
    """Of both of the catalogue's splits, whose classes are dealt out differently."""
    dataset, sources, first_unseen, labels = opened
    brightnesses = [brightness(s, i) for s in ("train", "test") for i in range(len(labels_of(s, dataset.num_classes)))]
    for split, shape in (("train", dataset.train_shape), ("test", dataset.input_shape)):
        batch = sources[split][np.arange(len(sources[split]))]
        assert batch["inputs"].shape[1:] == shape
        assert batch["inputs"].dtype == np.uint8
        np.testing.assert_array_equal(batch["targets"], sources[split].labels)
        found = sorted(zip(batch["inputs"][:, 3, 4, 1].tolist(), batch["targets"].tolist(), strict=True))
        kept = labels < first_unseen if split == "train" else labels >= first_unseen
        assert found == sorted((b, int(label)) for b, label, k in zip(brightnesses, labels, kept, strict=True) if k)


def test_batches_of_classes_by_images_are_of_train_classes(opened):
    _, sources, first_unseen, _ = opened
    order = classes_by_images(sources["train"], 12, num_images=3)
    for batch in train_batches(sources["train"], order, seed=0, start_step=0, num_steps=3, workers=0):
        classes, counts = np.unique(batch["targets"], return_counts=True)
        assert counts.tolist() == [3] * 4
        assert (classes < first_unseen).all()


@pytest.mark.parametrize("name", SPLIT_BY_CLASS)
def test_declared_sizes_are_all_photographs(name):
    dataset, (_, num_classes, first_unseen, num_images) = DATASETS[name](), SPLIT_BY_CLASS[name]
    assert dataset.num_train + dataset.num_test == num_images
    assert 2 * first_unseen == num_classes == dataset.num_classes
