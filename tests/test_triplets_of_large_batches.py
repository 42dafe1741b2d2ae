"""Triplet losses at b = 300, where the sums over positives change their way: against all b³ triplets, written out class by class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses import triplet_sums
from cnn_jax.losses.reduction import masked_mean
from cnn_jax.losses.triplet import triplet_batch_all, triplet_semi_hard

pytestmark = pytest.mark.usefixtures("float64")

B = 300
# The size of one of two classes: gone through one by one, and sorted.
SIZES = {"passes": 150, "sorted": 250}


def batch(size):
    """Embeddings [300, 4] of two classes of `size` and 300 − `size` that overlap, mixed; which count; garbage where they do not."""
    draw = np.random.default_rng(size)
    labels = draw.permutation(np.repeat([0, 1], [size, B - size]))
    x = draw.normal(size=(B, 4)) * np.linspace(0.4, 1.3, 4) + 0.6 * labels[:, None]
    x[[7, 201]] = x[[6, 200]]
    return x, labels, draw.random(B) < 0.97


def apart(x):
    return np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))


def both_kinds(labels, where):
    """Of each anchor that counts: (anchor, indices of its positives, of its negatives)."""
    for a in np.flatnonzero(where):
        same = labels == labels[a]
        yield a, np.flatnonzero(same & where & (np.arange(B) != a)), np.flatnonzero(~same & where)


def all_oracle(x, labels, where, margin):
    """Each anchor's sum, scaled."""
    d, sums, active = apart(x), np.zeros(B), 0
    for a, positives, negatives in both_kinds(labels, where):
        losses = np.maximum(d[a, positives][:, None] - d[a, negatives][None] + margin, 0)
        sums[a], active = losses.sum(), active + (losses > 0).sum()
    return sums * where.sum() / active


def semi_hard_oracle(x, labels, where, margin):
    d, sums, terms = apart(x), np.zeros(B), 0
    for a, positives, negatives in both_kinds(labels, where):
        d_p, d_n = d[a, positives], d[a, negatives]
        farther = np.where(d_n[None] > d_p[:, None], d_n[None], np.inf).min(1)
        sums[a] = np.maximum(d_p - np.where(np.isfinite(farther), farther, d_n.max()) + margin, 0).sum()
        terms += len(positives)
    return sums * where.sum() / terms


def plain_mean(x, labels, where, margin, semi_hard):
    """Differentiable, with arrays of all triplets of one class' anchors."""
    total = count = 0
    for kind in (0, 1):
        mine, others = (x[where & (labels == kind)], x[where & (labels != kind)])
        d_p, d_n = (jnp.sqrt(jnp.square(mine[:, None] - rows[None]).sum(-1) + 1e-300) for rows in (mine, others))
        itself = jnp.eye(len(mine), dtype=bool)
        gap = d_n[:, None, :] - d_p[:, :, None]  # [anchors, positives, negatives]
        if semi_hard:
            farther = jnp.where(gap > 0, gap, jnp.inf).min(2)
            losses = jnp.maximum(margin - jnp.where(jnp.isfinite(farther), farther, gap.max(2)), 0)
            losses, counted = jnp.where(itself, 0, losses), ~itself
        else:
            losses = jnp.where(itself[:, :, None], 0, jnp.maximum(margin - gap, 0))
            counted = losses > 0
        total, count = total + losses.sum(), count + counted.sum()
    return total / count


def value_and_gradient(loss_fn, x, labels, where, margin):
    def mean(x, labels, where):
        values = loss_fn(x, labels, where=where, margin=margin)
        return masked_mean(values, where), values

    hidden = np.where(where[:, None], x, np.nan)
    (_, values), gradient = jax.jit(jax.value_and_grad(mean, has_aux=True))(jnp.array(hidden), jnp.array(labels), jnp.array(where))
    return values, gradient


@pytest.mark.parametrize("semi_hard", [False, True])
@pytest.mark.parametrize("way", SIZES)
def test_all_triplets_of_300_examples(way, semi_hard):
    x, labels, where = batch(SIZES[way])
    most = max(np.bincount(labels[where])) - 1
    assert (most > triplet_sums.MOST_PASSES) == (way == "sorted")
    assert triplet_sums.ROWS < B
    loss_fn, oracle = (triplet_semi_hard, semi_hard_oracle) if semi_hard else (triplet_batch_all, all_oracle)
    values, gradient = found = value_and_gradient(loss_fn, x, labels, where, 0.3)
    np.testing.assert_allclose(values, oracle(x, labels, where, 0.3), rtol=1e-9, atol=1e-12)
    expected = jax.jit(jax.grad(lambda x: plain_mean(x, labels, where, 0.3, semi_hard)))(jnp.array(x))
    if semi_hard:  # of two negatives that coincide either may be the nearest
        gradient, expected = (np.add.reduceat(g, np.setdiff1d(np.arange(B), [7, 201])) for g in (gradient, expected))
    np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-11)
    with jax.enable_x64(False):
        single, slopes = value_and_gradient(loss_fn, x.astype(np.float32), labels, where, 0.3)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, values, rtol=1e-4, atol=1e-5)
    assert np.abs(slopes - found[1]).max() < 1e-3 * np.abs(found[1]).max()


def test_both_ways_are_the_same_at_300_examples(monkeypatch):
    x, labels, where = batch(250)
    found = []
    for most in (B, 0):
        monkeypatch.setattr(triplet_sums, "MOST_PASSES", most)
        found.append(value_and_gradient(triplet_batch_all, x, labels, where, 0.3))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-13)


def test_sorted_rows_of_several_blocks_are_weighted():
    """600 rows are two whole blocks and a part: each row's sums are its own, a triplet counting as often as both its pairs do."""
    draw = np.random.default_rng(4)
    d = draw.gamma(4.0, 0.3, size=(600, 230))
    d[:, 100:] += 0.3
    positives, negatives = np.zeros(d.shape), np.zeros(d.shape)
    positives[:, :215], negatives[:, 215:] = draw.integers(0, 3, (600, 215)), draw.integers(0, 3, (600, 15))
    positives[3] = 0
    positives[0, :215] = 1  # beyond the switch
    factors = draw.normal(size=600)

    def weighted(d, p, n):
        sums, counts = triplet_sums.hinge_sums(d, p, n, 0.2)
        return (sums * factors).sum(), (sums, counts)

    (_, found), gradient = jax.jit(jax.value_and_grad(weighted, has_aux=True))(*map(jnp.array, (d, positives, negatives)))
    losses = d[:, :215, None] - d[:, None, 215:] + 0.2
    often = positives[:, :215, None] * negatives[:, None, 215:]
    active = often * (losses > 0)
    np.testing.assert_allclose(found, [(active * losses).sum((1, 2)), active.sum((1, 2))], rtol=1e-9, atol=1e-12)
    slopes = np.concatenate([active.sum(2), -active.sum(1)], axis=1) * factors[:, None]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("most", "expected"), [(200, "passes"), (201, "sorted")])
def test_the_way_changes_with_the_most_positives_of_any_anchor(most, expected, monkeypatch):
    """Each way is made to answer with its own number."""

    def answer(number):
        return lambda margin, d, p, n: (jnp.full(len(d), number), jnp.zeros(len(d)), jnp.zeros_like(d))

    monkeypatch.setattr(triplet_sums, "_by_passes", answer(1.0))
    monkeypatch.setattr(triplet_sums, "_by_rows", lambda row_fn, *arrays: answer(2.0)(None, *arrays))
    positives = np.zeros((3, B), bool)
    positives[1, 50 : 50 + most] = True
    sums, _ = triplet_sums.hinge_sums(jnp.ones((3, B)), jnp.array(positives), jnp.array(~positives), 0.2)
    assert sums[0] == {"passes": 1.0, "sorted": 2.0}[expected]
