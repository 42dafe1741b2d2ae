"""Samplers: what a batch holds, that streams are even, pure functions of (seed, step), the same for decoded data; refusals."""

import cloudpickle
import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax.data.pipeline import train_batches
from cnn_jax.data.samplers import classes_by_images, groups_by_classes, shuffled
from cnn_jax.data.source import DecodedSource, MemorySource
from cnn_jax.errors import UserError
from cnn_jax.registry import DATASETS


def source_of(labels, groups=None):
    return MemorySource(np.zeros((len(labels), 1, 1, 1), np.uint8), np.array(labels), groups)


def labels_of(sizes):
    """Interleaved labels 10, 11, … with these numbers of examples."""
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)) + 10, sizes))


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=7), data=st.data(), seed=st.integers(0, 3))
def test_a_batch_holds_p_classes_of_k_images(sizes, data, seed):
    labels = labels_of(sizes)
    p, k = data.draw(st.integers(1, len(sizes))), data.draw(st.integers(1, 5))
    order = classes_by_images(source_of(labels), p * k, num_images=k)
    for step in (0, 1, 17):
        batch = order(seed, step)
        classes, counts = np.unique(labels[batch], return_counts=True)
        assert (len(classes), set(counts)) == (p, {k})
        for c in classes:  # no image twice, unless the class has too few
            mine = batch[labels[batch] == c]
            assert len(set(mine)) == min(k, sizes[c - 10])
        np.testing.assert_array_equal(batch, order(seed, step))


def test_classes_and_images_come_equally_often():
    labels = labels_of([4, 6, 10])
    order = classes_by_images(source_of(labels), 6, num_images=2)
    seen = np.bincount(np.concatenate([order(0, step) for step in range(60)]), minlength=20)
    for c, size in ((10, 4), (11, 6), (12, 10)):
        mine = seen[labels == c]
        assert mine.sum() == 120
        assert mine.max() - mine.min() <= 1 if 120 % size else mine.max() == mine.min()


def test_where_p_does_not_divide_the_classes_all_come_in_the_long_run():
    labels = labels_of([5] * 5)
    order = classes_by_images(source_of(labels), 4, num_images=2)
    seen = np.bincount(np.concatenate([labels[order(0, step)] - 10 for step in range(500)]), minlength=5)
    assert seen.min() > 0.85 * seen.mean()


@settings(max_examples=30, deadline=None)
@given(data=st.data(), seed=st.integers(0, 3), step=st.integers(0, 40))
def test_a_hierarchical_batch_holds_g_groups(data, seed, step):
    labels = labels_of([4, 4, 4, 4, 4, 4])
    groups = np.array([0, 0, 0, 1, 1, 2])[labels - 10]
    g, p, k = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    order = groups_by_classes(source_of(labels, groups), g * p * k, num_groups=g, num_images=k)
    batch = order(seed, step)
    assert np.unique(groups[batch], return_counts=True)[1].tolist() == [p * k] * g
    for group, num in ((0, 3), (1, 2), (2, 1)):
        if group in groups[batch]:
            assert len(np.unique(labels[batch][groups[batch] == group])) == min(p, num)


def test_the_classes_of_a_group_and_their_images_come_equally_often():
    labels = labels_of([4, 6, 4])
    groups = np.array([0, 0, 1])[labels - 10]
    order = groups_by_classes(source_of(labels, groups), 4, num_groups=1, num_images=2)  # group 1 repeats its one class
    seen = np.bincount(np.concatenate([order(0, step) for step in range(120)]), minlength=14)
    assert [seen[labels == c].tolist() for c in (10, 11, 12)] == [[30] * 4, [20] * 6, [60] * 4]


@pytest.mark.parametrize("name", ["shuffled", "classes_by_images", "groups_by_classes"])
def test_orders_differ_by_seed_and_step_and_travel_to_other_processes(name):
    sampler = {"shuffled": shuffled, "classes_by_images": classes_by_images, "groups_by_classes": groups_by_classes}[name]
    labels = labels_of([9] * 6)
    order = sampler(source_of(labels, labels % 2), 12)
    batches = [tuple(order(seed, step)) for seed in (0, 1) for step in (0, 1, 2)]
    assert len(set(batches)) == 6
    again = cloudpickle.loads(cloudpickle.dumps(order))
    assert tuple(again(1, 2)) == batches[-1]


@pytest.mark.parametrize("workers", [0, 2])
def test_decoded_data_are_sampled_as_data_in_memory(workers):
    memory, decoded = (DATASETS["generated"](num_train=30, num_classes=4, in_memory=m).open("train") for m in (True, False))
    for sampler in (classes_by_images, groups_by_classes):
        steps = {"seed": 1, "start_step": 3, "num_steps": 6, "workers": workers}
        ours, theirs = (list(train_batches(source, sampler(source, 8), **steps)) for source in (memory, decoded))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a["inputs"], b["inputs"])
            np.testing.assert_array_equal(a["targets"], b["targets"])


@pytest.mark.parametrize(
    ("sampler", "batch_size", "options", "message"),
    [
        (classes_by_images, 10, {"num_images": 4}, r"num_images=4 must divide batch_size=10.*--set sampler.num_images=5"),
        (classes_by_images, 10, {"num_images": 0}, "num_images=0 must divide"),
        (classes_by_images, 40, {"num_images": 4}, r"asks for 10 classes, but the train split has 3. Add --set batch_size=12"),
        (groups_by_classes, 8, {"num_groups": 3}, "num_groups=3 must be a divisor of batch_size=8"),
        (groups_by_classes, 9, {"num_groups": 3, "num_images": 1}, "the data set has 2 groups"),
        (groups_by_classes, 8, {"num_groups": 2, "num_images": 3}, "num_images=3 must divide batch_size=4"),
    ],
)
def test_what_cannot_be_sampled_is_refused(sampler, batch_size, options, message):
    labels = labels_of([5, 5, 5])
    with pytest.raises(UserError, match=message):
        sampler(source_of(labels, labels % 2), batch_size, **options)


def test_groups_are_asked_for_by_name():
    with pytest.raises(UserError, match="such as stanford_online_products"):
        groups_by_classes(source_of([0, 1]), 2)


def test_unseen_digits_are_split_by_class():
    dataset = DATASETS["digits_unseen"]()
    train, test = dataset.open("train"), dataset.open("test")
    assert (len(train), len(test)) == (dataset.num_train, dataset.num_test) == (901, 896)
    assert set(train.labels) == {0, 1, 2, 3, 4}
    assert set(test.labels) == {5, 6, 7, 8, 9}


def test_each_form_of_a_digit_is_a_class_of_its_own():
    plain = DATASETS["digits_unseen"]().open("train")
    dataset = DATASETS["digits_unseen"](symmetries=8)
    source = dataset.open("train")
    assert len(source) == dataset.num_train == 8 * 901
    assert len(np.unique(source.labels)) == 40
    assert source.labels.max() < dataset.num_classes
    np.testing.assert_array_equal(source.images[:901], plain.images)
    np.testing.assert_array_equal(source.images[901:1802, :, 0], plain.images[:, 0, ::-1])  # a quarter turn: the top row goes left
    assert len({image.tobytes() for image in source.images[::901]}) == 8
    assert len(DATASETS["digits_unseen"](symmetries=8).open("test")) == 896


def test_a_decoded_source_keeps_only_its_classes():
    records = [{"image": np.full((2, 2, 1), i, np.uint8), "class": i % 3, "kind": i % 2} for i in range(7)]
    source = DecodedSource(records, np.asarray, label="class", group="kind", keep=lambda labels: labels > 0)
    assert source.labels.tolist() == [1, 2, 1, 2]
    assert source.groups.tolist() == [1, 0, 0, 1]
    assert source[np.array([0, 3])]["inputs"][:, 0, 0, 0].tolist() == [1, 5]


@pytest.mark.parametrize("name", ["stanford_online_products"])
def test_catalogue_retrieval_data_read_through_the_same_path(name):
    """On TFDS's mock data. Those split by class are in `test_unseen_classes.py`."""
    dataset = DATASETS[name]()
    with tfds.testing.mock_data(num_examples=5):
        source = dataset.open("train")
        batch = source[np.array([3, 0])]
    assert batch["inputs"].shape == (2, *dataset.train_shape)
    assert (batch["targets"] < dataset.num_classes).all()
