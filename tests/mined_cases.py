"""Losses that are stated over lists of pairs: oracles of a whole batch made of them, and batches with references and a miner."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.losses.comparison import References
from cnn_jax.losses.reduction import masked_mean
from tests.embedding_cases import pairs


def over_pairs(oracle):
    """oracle(x, positives, negatives, where, **options), of lists of (anchor, other), as one of (x, labels, where, **options)."""
    return lambda x, labels, where, **options: oracle(x, *pairs(labels, where), where, **options)


def negatives_of(anchor, negatives):
    return [n for a, n in negatives if a == anchor]


def mined_case(b=7, n=5, seed=5):
    """b anchors, n references more, and how often each pair counts: 0, 1 or 2 times, an anchor without and one with all."""
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(b + n, 4)) + 0.3, rng.integers(3, size=b + n)
    where = np.arange(b + n) != 2
    where[b + 1] = False
    counts = rng.choice([0, 1, 2], size=(b, b + n))
    counts[1], counts[4] = 0, 1
    return x, labels, where, counts


def assert_equals_when_mined(loss_fn, oracle, **options):
    """Value and gradient with further references, and a miner that drops pairs and repeats others. Needs float64."""
    counts = mined_case()[3]

    def miner(comparison):
        return comparison._replace(positives=comparison.positives * counts, negatives=comparison.negatives * counts)

    _assert_equals_with_references(partial(loss_fn, miner=miner), oracle, counts, **options)


def assert_equals_when_compared_with_others(loss_fn, oracle, **options):
    """Value and gradient with further references. Needs float64."""
    _assert_equals_with_references(loss_fn, oracle, np.ones_like(mined_case()[3]), **options)


def _assert_equals_with_references(loss_fn, oracle, counts, **options):
    x, labels, where, _ = mined_case()
    b = len(counts)
    positives, negatives = ([(i, j) for i, j in listed if i < b for _ in range(counts[i, j])] for listed in pairs(labels, where))
    garbage = np.where(where[:, None], x, np.nan)

    def batch_mean(anchors):
        references = References(jnp.array(garbage[b:]), jnp.array(labels[b:]), jnp.array(where[b:]))
        batch = jnp.array(labels[:b]), jnp.array(where[:b])
        losses = loss_fn(anchors, batch[0], where=batch[1], references=references, **options)
        return masked_mean(losses, batch[1])

    value, gradient = jax.jit(jax.value_and_grad(batch_mean))(jnp.array(garbage[:b]))
    expected = oracle(x, positives, negatives, where[:b], **options)
    assert expected > 0
    np.testing.assert_allclose(value, expected, rtol=1e-8)
    for direction in np.random.default_rng(0).normal(size=(4, *gradient.shape)):
        step = np.pad(1e-6 * direction, [(0, len(x) - b), (0, 0)])
        up, down = (oracle(moved, positives, negatives, where[:b], **options) for moved in (x + step, x - step))
        np.testing.assert_allclose((gradient * direction).sum(), (up - down) / 2e-6, rtol=1e-5, atol=1e-7)
