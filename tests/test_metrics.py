"""Metrics against counting by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cnn_jax.metrics.accuracy import accuracy, top_k
from cnn_jax.metrics.confusion import confusion


def random_case(n=50, k=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, k)).astype(np.float32), rng.integers(k, size=n), rng.random(n) < 0.7


def test_accuracy_and_top_k_equal_counting():
    logits, labels, where = random_case()
    ranks = [list(np.argsort(-row, kind="stable")).index(label) for row, label in zip(logits, labels, strict=True)]
    for k in (1, 3, 6):
        expected = np.mean([rank < k for rank, counts in zip(ranks, where, strict=True) if counts])
        assert top_k(jnp.array(logits), jnp.array(labels), where=jnp.array(where), k=k).result() == pytest.approx(expected)
    expected = np.mean([r == 0 for r, counts in zip(ranks, where, strict=True) if counts])
    assert accuracy(jnp.array(logits), jnp.array(labels), where=jnp.array(where)).result() == pytest.approx(expected)


def test_top_k_counts_a_nan_as_wrong_and_breaks_ties_by_class():
    assert top_k(jnp.full((2, 3), jnp.nan), jnp.array([0, 1]), k=3).result() == 0
    tied = jnp.zeros((3, 3))
    assert top_k(tied, jnp.array([0, 1, 2]), k=1).result() == pytest.approx(1 / 3)
    assert accuracy(tied, jnp.array([0, 1, 2])).result() == pytest.approx(1 / 3)


@settings(max_examples=25, deadline=None)
@given(part=arrays(bool, 50), seed=st.integers(0, 100))
def test_measures_of_parts_add_up_to_the_whole(part, seed):
    logits, labels, where = random_case(seed=seed)
    for metric in (accuracy, confusion):
        measured = [metric(jnp.array(logits), jnp.array(labels), where=jnp.array(mask)) for mask in (where & part, where & ~part, where)]
        merged = jax.tree.map(jnp.add, *measured[:2])
        np.testing.assert_equal(merged.result(), measured[2].result())


def test_confusion_gives_precision_and_recall():
    logits, labels, where = random_case()
    result = confusion(jnp.array(logits), jnp.array(labels), where=jnp.array(where)).result()
    predicted, true = logits.argmax(1)[where], labels[where]
    for c in range(6):
        for d in range(6):
            assert result["matrix"][c][d] == ((true == c) & (predicted == d)).sum()
        assert result["precision"][c] == pytest.approx((true[predicted == c] == c).mean())
        assert result["recall"][c] == pytest.approx((predicted[true == c] == c).mean())
        assert result["examples"][c] == (true == c).sum()


def test_an_empty_class_has_no_recall():
    result = confusion(jnp.eye(3), jnp.array([0, 1, 1])).result()
    assert np.isnan(result["recall"][2])
