"""The memory of earlier batches: a ring that a loop agrees with, and losses that compare a batch with it."""

from collections import deque
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses.contrastive import contrastive_squared
from cnn_jax.losses.memory import enqueue, init_memory
from cnn_jax.losses.triplet import triplet_batch_all
from tests.embedding_cases import euclidean, mean

SIZE = 7


def batches(num, b, e=3):
    """Batches of which some examples do not count; those hold NaN."""
    rng = np.random.default_rng(b)
    for _ in range(num):
        where = rng.random(b) < 0.7
        yield np.where(where[:, None], rng.normal(size=(b, e)), np.nan).astype(np.float32), rng.integers(0, 3, b), where


@pytest.mark.parametrize("b", [1, 3, 7, 20])  # 20 are more than fit at once
def test_the_memory_holds_the_last_that_counted(b):
    memory, expected, step = init_memory(SIZE, 3), deque(maxlen=SIZE), jax.jit(enqueue)
    for embeddings, labels, where in batches(12, b):
        memory = step(memory, jnp.array(embeddings), jnp.array(labels), jnp.array(where))
        expected.extend((*row, label) for row, label, counts in zip(embeddings, labels, where, strict=True) if counts)
        held = memory.references
        assert held.where.sum() == len(expected)
        rows = np.column_stack([held.embeddings, held.labels])
        oldest_first = np.roll(rows, -int(memory.position), axis=0)[SIZE - len(expected) :]
        np.testing.assert_array_equal(oldest_first, np.array(expected, np.float32).reshape(-1, 4))
        assert np.isfinite(held.embeddings).all()


def test_no_gradient_goes_through_the_memory():
    def through(x):
        memory = enqueue(init_memory(4, 2), x, jnp.array([0, 1]))
        return contrastive_squared(jnp.ones((2, 2)), jnp.array([0, 1]), references=memory.references).sum()

    assert (jax.jit(jax.grad(through))(jnp.array([[1.0, 2.0], [3.0, 5.0]])) == 0).all()


@pytest.mark.usefixtures("float64")
def test_a_batch_is_compared_with_itself_and_with_the_memory():
    (first, first_labels, filled), (x, labels, where) = batches(2, 6)
    first, x = first.astype(np.float64), x.astype(np.float64)
    memory = jax.jit(enqueue)(init_memory(9, 3, jnp.float64), jnp.array(first), jnp.array(first_labels), jnp.array(filled))
    loss_fn = jax.jit(partial(contrastive_squared, margin=2.0))
    losses = loss_fn(jnp.array(x), jnp.array(labels), where=jnp.array(where), references=memory.references)
    rows = np.vstack([x, first])
    d, tags, counts = euclidean(rows), [*labels, *first_labels], [*where, *filled]
    pairs = [(i, j) for i in range(6) for j in range(12) if i != j and counts[i] and counts[j]]
    drawn = [0.5 * d[i, j] ** 2 for i, j in pairs if tags[i] == tags[j]]
    pushed = [0.5 * max(0, 2.0 - d[i, j]) ** 2 for i, j in pairs if tags[i] != tags[j]]
    np.testing.assert_allclose(losses.sum() / where.sum(), mean(drawn) + mean(pushed), rtol=1e-9)


def test_an_empty_memory_changes_nothing():
    x, labels = jnp.array(np.random.default_rng(0).normal(size=(6, 3))), jnp.array([0, 0, 1, 1, 2, 2])
    loss_fn = jax.jit(partial(triplet_batch_all, margin=0.5))
    np.testing.assert_allclose(loss_fn(x, labels, references=init_memory(5, 3).references), loss_fn(x, labels), rtol=1e-5)


def test_what_does_not_fit_is_refused():
    memory = init_memory(4, 3)
    with pytest.raises(ValueError, match="embeddings have 2 features but the memory 3"):
        enqueue(memory, jnp.ones((2, 2)), jnp.array([0, 1]))
    with pytest.raises(ValueError, match="labels must be ints"):
        enqueue(memory, jnp.ones((2, 3)), jnp.array([0, 1, 2]))
    with pytest.raises(ValueError, match="size=0 must be a whole number of at least 1"):
        init_memory(0, 3)
