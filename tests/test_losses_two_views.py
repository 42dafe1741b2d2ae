"""Two views of a batch as one batch, and learning by them without labels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.build import build
from cnn_jax.errors import UserError
from cnn_jax.experiment import Spec
from cnn_jax.losses.comparison import pair_masks
from cnn_jax.losses.two_views import as_two_views, two_views
from cnn_jax.override import override_all
from cnn_jax.parallel import make_parallel
from cnn_jax.train import make_step
from tests.runs import CLASSIFIER, TRIPLET, assert_trees_equal, run_steps, start

UNLABELLED = dataclasses.replace(
    TRIPLET, name="unlabelled", two_views=True, loss=Spec("nt_xent", temperature=0.5), memory_size=40, accumulate_steps=2
)


def test_each_picture_is_a_class_of_its_own():
    first, second = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    x, labels, where = two_views(jnp.array(first), jnp.array(second), where=jnp.array([True, False, True]))
    positives, negatives = pair_masks(labels, where)
    for i in range(6):
        np.testing.assert_array_equal(x[i], (first if i < 3 else second)[i % 3])
        for j in range(6):
            counts = i % 3 != 1 and j % 3 != 1
            assert positives[i, j] == (counts and abs(i - j) == 3)
            assert negatives[i, j] == (counts and i % 3 != j % 3)


def test_all_count_by_default():
    assert two_views(jnp.ones((2, 1)), jnp.zeros((2, 1)))[2].tolist() == [True] * 4


@pytest.mark.parametrize(("second", "where", "message"), [
    ((3, 2), None, r"second must be \[2, 2\]"),
    ((2, 2), jnp.ones(2), r"must be bool \[2\]"),
    ((2, 2), jnp.ones(4, bool), r"must be bool \[2\]"),
])
def test_what_is_refused(second, where, message, unchecked):
    with pytest.raises(ValueError, match=message):
        two_views(jnp.ones((2, 2)), jnp.ones(second), where=where)


@pytest.mark.parametrize("num_micro", [1, 2, 3])
def test_both_views_come_into_one_micro_batch_and_no_number_comes_twice(num_micro):
    draw, numbers = np.random.default_rng(1), set()
    for step in range(3):
        batch = {"inputs": jnp.array(draw.normal(size=(6, 2))), "targets": jnp.zeros(6, int), "valid": jnp.arange(6) != 4}
        views = as_two_views(batch, jnp.array(step), num_micro=num_micro)
        for j in range(num_micro):
            micro = {name: np.asarray(values)[j::num_micro] for name, values in views.items()}  # as the step divides a batch
            pictures, counts = np.unique(micro["targets"], return_counts=True)
            assert (counts == 2).all()
            for picture in pictures:
                held = np.flatnonzero(micro["targets"] == picture)
                np.testing.assert_array_equal(micro["inputs"][held], np.asarray(batch["inputs"])[[picture % 6] * 2])
                assert micro["valid"][held].tolist() == [picture % 6 != 4] * 2
            assert not numbers & set(pictures.tolist())
            numbers |= set(pictures.tolist())
    assert len(numbers) == 18


def test_a_batch_that_cannot_be_divided_is_refused():
    batch = {"inputs": jnp.zeros((5, 1)), "targets": jnp.zeros(5, int), "valid": jnp.ones(5, bool)}
    with pytest.raises(ValueError, match="num_micro=2 must divide the batch of 5"):
        as_two_views(batch, jnp.array(0), num_micro=2)
    with pytest.raises(ValueError, match="num_micro"):
        as_two_views(batch, jnp.array(0), num_micro=0)


def test_labels_are_not_read_and_each_view_is_augmented_by_itself():
    built = build(UNLABELLED)
    step, draw = jax.jit(make_step(built, make_parallel("jit", 1))), np.random.default_rng(2)
    batch = {"inputs": jnp.array(draw.integers(0, 256, (16, 8, 8, 1)), jnp.uint8), "valid": jnp.ones(16, bool)}
    states = [step(start(built), {**batch, "targets": jnp.array(draw.integers(0, 4, 16))})[0] for _ in range(2)]
    assert_trees_equal(states[0].params, states[1].params)
    held = states[0].memory.references
    assert np.bincount(held.labels[held.where]).tolist() == [2] * 16
    first, second = (held.embeddings[np.argsort(held.labels[:32], stable=True)[i::2]] for i in (0, 1))
    assert (first != second).any(1).sum() > 8  # flipped or shifted otherwise, but for those that chance treats alike


@pytest.mark.parametrize(("mode", "num_devices"), [("pmap", 2), pytest.param("jit", 4, marks=pytest.mark.slow)])
def test_devices_and_mode_do_not_change_the_numbers(mode, num_devices):
    (state, measured), (expected_state, expected) = (run_steps(UNLABELLED, *by, 3) for by in ((mode, num_devices), ("jit", 1)))
    np.testing.assert_allclose(measured, expected, rtol=1e-5)
    for part in ("references", "position"):
        ours, theirs = getattr(state.memory, part), getattr(expected_state.memory, part)
        for x, y in zip(*([p] if part == "position" else p for p in (ours, theirs)), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("experiment", [CLASSIFIER, override_all(TRIPLET, ["loss=arcface"])], ids=["logits", "class vectors"])
def test_losses_of_classes_are_refused(experiment):
    with pytest.raises(UserError, match="two_views=true.*the loss .* (has weights for each class|compares no embeddings).*nt_xent"):
        build(dataclasses.replace(experiment, two_views=True))


def test_batches_by_label_and_views_that_are_alike_are_refused():
    with pytest.raises(UserError, match="sampler=classes_by_images makes batches by them. Add --set sampler=shuffled"):
        build(dataclasses.replace(UNLABELLED, sampler=Spec("classes_by_images")))
    with pytest.raises(UserError, match="both views of an image would be the same"):
        build(dataclasses.replace(UNLABELLED, augment=()))
