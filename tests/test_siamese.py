"""Siamese networks on explicit pairs: the ending, the data, the loss, and verification metrics against scikit-learn and brute force."""

import itertools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cnn_jax.data.pairs import paired
from cnn_jax.experiment import About, Experiment, Spec
from cnn_jax.layers import Siamese
from cnn_jax.losses.siamese import siamese_contrastive
from cnn_jax.metrics.verification import equal_error_rate, roc_auc, verification_accuracy, verification_report
from cnn_jax.registry import DATASETS, MODELS
from tests.against_oracle import assert_equals_oracle
from tests.runs import run_steps


class Flat(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(5)(x.reshape(len(x), -1))


def test_both_images_go_through_one_network(float64):
    pairs = np.random.default_rng(0).normal(size=(3, 4, 4, 2))
    model = Siamese(Flat())
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), jnp.array(pairs))
    assert jax.tree.leaves(variables)[1].shape == (16, 5)  # of one image
    kernel, bias = (np.asarray(variables["params"]["network"]["Dense_0"][name]) for name in ("kernel", "bias"))
    first, second = (pairs[..., i].reshape(3, -1) @ kernel + bias for i in (0, 1))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second)]
    np.testing.assert_allclose(model.apply(variables, jnp.array(pairs), train=False), np.linalg.norm(unit[0] - unit[1], axis=1), rtol=1e-9)


def test_a_pair_of_equal_images_has_no_distance_and_no_gradient():
    image = jnp.array(np.random.default_rng(0).normal(size=(2, 4, 4, 1)), jnp.float32)
    pairs = jnp.concatenate([image, image], axis=-1)
    model = Siamese(Flat())
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), pairs)
    assert (model.apply(variables, pairs, train=False) == 0).all()
    gradient = jax.jit(jax.grad(lambda v: model.apply(v, pairs, train=False).sum()))(variables)
    assert all((g == 0).all() for g in jax.tree.leaves(gradient))


def test_an_odd_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="even number of channels, got 3"):
        Siamese(Flat()).init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)), train=False)


def test_the_loss_is_contrastive_by_label(float64):
    def oracle(d, label, margin=1.0):
        return 0.5 * d**2 if label == 1 else 0.5 * max(0, margin - d) ** 2

    distances = np.array([0.1, 0.7, 1.3, 0.4, 1.1, 0.2])
    assert_equals_oracle(siamese_contrastive, oracle, [distances, np.array([1, 0, 1, 0, 0, 1])], seed=0, margin=0.9)


def test_labels_other_than_same_and_different_are_refused():
    with pytest.raises(ValueError, match=r"labels\[0\]=2"):
        siamese_contrastive(jnp.zeros(1), jnp.array([2]))
    with pytest.raises(ValueError, match=r"labels\[1\]=7"):
        siamese_contrastive(jnp.zeros(2), jnp.array([1, 7]), where=jnp.array([False, True]))
    assert siamese_contrastive(jnp.zeros(2), jnp.array([1, 7]), where=jnp.array([True, False])).tolist() == [0, 0]


def test_pairs_are_half_of_one_class_and_of_two_images():
    labels = np.random.default_rng(0).integers(0, 3, 20)
    first, second, same = paired(labels, 4)
    np.testing.assert_array_equal(labels[first] == labels[second], same == 1)
    assert (first != second).all()
    assert same.mean() == 0.5
    assert np.bincount(first).tolist() == [4] * 20


def test_digit_pairs_are_digits():
    dataset = DATASETS["digits_pairs"]()
    single, source = DATASETS["digits"]().open("test"), dataset.open("test")
    assert len(source) == dataset.num_test == 2880
    np.testing.assert_array_equal(source.images[::8, ..., :1], single.images)


@pytest.mark.parametrize("seed", range(3))
def test_verification_metrics(seed):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, 53)
    distances = np.round(generator.normal(size=53) + 1.2 * (1 - labels), 1)  # with ties
    report = verification_report(distances, labels)
    assert roc_auc(report) == pytest.approx(roc_auc_score(labels, -distances), rel=1e-12)
    # The equal error rate, by bisection along the piecewise linear curve.
    thresholds = [-np.inf, *np.unique(distances)]
    accepted = np.array([(distances[labels == 0] <= t).mean() for t in thresholds])
    refused = np.array([(distances[labels == 1] > t).mean() for t in thresholds])
    places = np.linspace(0, len(thresholds) - 1, 200_001)
    gap = np.interp(places, range(len(thresholds)), accepted) - np.interp(places, range(len(thresholds)), refused)
    expected = np.interp(places[np.abs(gap).argmin()], range(len(thresholds)), accepted)
    assert equal_error_rate(report) == pytest.approx(expected, abs=1e-4)
    right = 0
    for i in range(53):
        others = np.arange(53) % 53 != i
        values = sorted(set(distances[others]))
        edges = [values[0] - 1, *[(a + b) / 2 for a, b in itertools.pairwise(values)], values[-1] + 1]
        wrong = [((distances[others] <= t) != (labels[others] == 1)).sum() for t in edges]
        best = [t for t, w in zip(edges, wrong, strict=True) if w == min(wrong)]
        right += (distances[i] <= best[len(best) // 2]) == (labels[i] == 1)
    assert verification_accuracy(report, folds=53) == right / 53


def test_perfect_and_useless_distances():
    labels = np.array([1, 1, 0, 0])
    perfect, useless = (verification_report(d, labels) for d in (np.array([0.1, 0.2, 0.8, 0.9]), np.ones(4)))
    assert (roc_auc(perfect), equal_error_rate(perfect), verification_accuracy(perfect, folds=4)) == (1, 0, 1)
    assert (roc_auc(useless), equal_error_rate(useless)) == (0.5, 0.5)
    assert np.isnan(roc_auc(verification_report(np.array([1.0, 2.0]), np.array([1, 1]))))
    assert np.isnan(equal_error_rate(verification_report(np.array([np.nan, 2.0]), np.array([1, 0]))))


def test_what_cannot_be_verified_is_refused():
    with pytest.raises(ValueError, match="labels 0 or 1"):
        verification_report(np.zeros(12), np.arange(12))
    with pytest.raises(ValueError, match="folds=1 must be from 2 to the number of pairs"):
        verification_accuracy(verification_report(np.zeros(3), np.array([0, 1, 1])), folds=1)


def test_a_siamese_net_trains_alike_on_any_number_of_devices():
    mine = Experiment(
        name="siamese",
        about=About(shows="", num_params=0),
        model=Spec("resnet8", width=4, stage_sizes=(1,)),
        dataset=Spec("generated", shape=(8, 8, 2), num_classes=2),
        loss=Spec("siamese_contrastive"),
        metrics=(),
        retrieval=(Spec("roc_auc"),),
        best_by="roc_auc",
        embedding_size=6,
        batch_size=8,
    )
    assert "resnet8" in MODELS
    expected, figures = run_steps(mine, "jit", 1, 3)
    for mode, num_devices in (("jit", 4), ("pmap", 2)):
        state, again = run_steps(mine, mode, num_devices, 3)
        np.testing.assert_allclose(again, figures, rtol=1e-4)
        for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * max(np.abs(b).max(), 1))
