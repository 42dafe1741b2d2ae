"""Data sets, their order and their batches."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax.data.order import batch_indices
from cnn_jax.data.pipeline import eval_batches, train_batches
from cnn_jax.data.samplers import shuffled
from cnn_jax.data.source import DecodedSource, MemorySource
from cnn_jax.errors import UserError
from cnn_jax.registry import DATASETS


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 5), batch_size=st.integers(1, 30), n=st.integers(1, 20))
def test_every_epoch_holds_every_example_once(seed, batch_size, n):
    num_epochs = 3
    stream = np.concatenate([batch_indices(seed, step, batch_size, n) for step in range(-(-num_epochs * n // batch_size))])
    for epoch in range(num_epochs):
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_order_depends_on_seed_and_epoch():
    orders = [tuple(batch_indices(seed, step, 50, 50)) for seed in (0, 1) for step in (0, 1)]
    assert len(set(orders)) == 4


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 40), batch_size=st.integers(1, 50))
def test_evaluation_sees_every_example_once_in_order(n, batch_size):
    source = MemorySource(np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1), np.arange(n))
    batches = list(eval_batches(source, batch_size=batch_size, workers=0))
    assert all(len(b["targets"]) == len(b["valid"]) == batch_size for b in batches)
    assert np.concatenate([b["targets"][b["valid"]] for b in batches]).tolist() == list(range(n))


@pytest.mark.parametrize("workers", [0, 2])
def test_decoded_data_come_in_the_same_order_as_data_in_memory(workers):
    shape = (4, 5, 1)
    decoded = DATASETS["generated"](shape=shape, num_train=11, num_test=7, in_memory=False)
    memory = DATASETS["generated"](shape=shape, num_train=11, num_test=7)
    settings = {"seed": 3, "start_step": 2, "num_steps": 6}
    order = shuffled(memory.open("train"), 4)
    a = list(train_batches(decoded.open("train"), order, workers=workers, **settings))
    b = list(train_batches(memory.open("train"), order, workers=workers, **settings))
    c = list(eval_batches(decoded.open("test"), batch_size=4, workers=workers))
    d = list(eval_batches(memory.open("test"), batch_size=4, workers=workers))
    assert (len(a), len(c)) == (4, 2)
    for ours, theirs in zip(a + c, b + d, strict=True):
        for key in ("inputs", "targets", "valid"):
            np.testing.assert_array_equal(ours[key], theirs[key])


def test_digits_are_scikit_learns_split_by_class():
    from sklearn.datasets import load_digits

    dataset = DATASETS["digits"]()
    splits = {name: dataset.open(name) for name in ("train", "test")}
    assert (len(splits["train"]), len(splits["test"])) == (dataset.num_train, dataset.num_test) == (1437, 360)
    data = load_digits()
    ours = np.concatenate([s.images for s in splits.values()])[..., 0].astype(float) * 16 / 255
    pairs = {(image.round().astype(int).tobytes(), int(label)) for image, label in zip(data.images, data.target, strict=True)}
    labels = np.concatenate([s.labels for s in splits.values()])
    assert {(i.round().astype(int).tobytes(), int(label)) for i, label in zip(ours, labels, strict=True)} == pairs
    for c in range(10):
        assert abs((splits["test"].labels == c).sum() - 0.2 * (data.target == c).sum()) < 1


def test_lfw_subset_is_half_faces():
    dataset = DATASETS["lfw_subset"]()
    for name, n in (("train", 160), ("test", 40)):
        source = dataset.open(name)
        assert source.images.shape == (n, 25, 25, 1)
        assert source.labels.sum() == n // 2


@pytest.mark.parametrize("name", ["digits", "lfw_subset"])
def test_standardisation_numbers_are_the_train_splits(name):
    dataset = DATASETS[name]()
    images = dataset.open("train").images / 255
    np.testing.assert_allclose(images.mean(), dataset.mean[0], atol=0.005)
    np.testing.assert_allclose(images.std(), dataset.std[0], atol=0.005)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100", "imagenet2012"])
def test_catalogue_data_set_reads_through_the_same_path(name):
    """On TFDS's mock data: the features are the real ones, the pixels made up."""
    dataset = DATASETS[name]()
    with tfds.testing.mock_data(num_examples=5):
        for split, shape in (("train", dataset.train_shape), ("test", dataset.input_shape)):
            source = dataset.open(split)
            assert isinstance(source, DecodedSource if name == "imagenet2012" else MemorySource)
            batch = source[np.array([3, 0, 4])]
            assert batch["inputs"].shape == (3, *shape)
            assert batch["inputs"].dtype == np.uint8
            assert batch["targets"].dtype == np.int32
            assert (batch["targets"] < dataset.num_classes).all()


@pytest.mark.parametrize("name", ["mnist", "imagenet2012"])
def test_missing_data_are_refused_with_the_way_out(name, tmp_path):
    with pytest.raises(UserError, match="(?s)was not found.*TensorFlow.*digits and lfw_subset"):
        DATASETS[name](data_dir=str(tmp_path)).open("train")
    assert not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written|Not a directory"):
        DATASETS["digits"](data_dir=str(tmp_path / "file" / "data")).open("train")
