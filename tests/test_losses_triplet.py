"""Triplet losses over a batch against loops over all triplets: every kind, the swap, the smooth form; few positives and many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses import triplet_sums
from cnn_jax.losses.comparison import pair_masks
from cnn_jax.losses.triplet import triplet_batch_all, triplet_batch_hard, triplet_margin_loss, triplet_semi_hard
from tests.embedding_cases import CASES, assert_equals_batch_oracle, euclidean, make_case, mean
from tests.mined_cases import assert_equals_when_compared_with_others, assert_equals_when_mined, over_pairs

pytestmark = pytest.mark.usefixtures("float64")


def triplets(positives, negatives):
    """All (anchor, positive, negative), as often as both its pairs are listed."""
    return [(a, p, n) for a, p in positives for b, n in negatives if a == b]


def chosen(d, positives, negatives, kind, mining_margin):
    for a, p, n in triplets(positives, negatives):
        gap = d[a, n] - d[a, p]
        violating = gap <= mining_margin
        kinds = {"all": True, "violating": violating, "hard": violating and gap <= 0, "semi_hard": violating and gap > 0}
        if (kinds | {"easy": not violating})[kind]:
            yield a, p, n


def margin_oracle(x, positives, negatives, where, margin=0.05, triplets="all", mining_margin=0.2, swap=False, smooth=False):
    d, losses = euclidean(x), []
    for a, p, n in chosen(d, positives, negatives, triplets, mining_margin):
        violation = d[a, p] - (min(d[a, n], d[p, n]) if swap else d[a, n]) + margin
        losses.append(np.log1p(np.exp(violation)) if smooth else max(0, violation))
    return mean([v for v in losses if v > 0])


def hard_oracle(x, positives, negatives, where, margin=0.2, smooth=False):
    d, losses = euclidean(x), []
    for anchor in sorted({a for a, _, _ in triplets(positives, negatives)}):
        mine = [(p, n) for a, p, n in triplets(positives, negatives) if a == anchor]
        violation = max(d[anchor, p] for p, _ in mine) - min(d[anchor, n] for _, n in mine) + margin
        losses.append(np.log1p(np.exp(violation)) if smooth else max(0, violation))
    return mean(losses)


def semi_hard_oracle(x, positives, negatives, where, margin=0.2):
    d, losses = euclidean(x), []
    for a, p in sorted({(a, p) for a, p, _ in triplets(positives, negatives)}):
        to_negatives = [d[a, n] for b, n in negatives if b == a]
        farther = [v for v in to_negatives if v > d[a, p]]
        losses.append(max(0, d[a, p] - (min(farther) if farther else max(to_negatives)) + margin))
    return mean(losses)


@pytest.mark.parametrize("margin", [0.05, 0.7])
def test_batch_all(margin):
    assert_equals_batch_oracle(triplet_batch_all, over_pairs(margin_oracle), margin=margin)


def test_batch_all_with_many_positives(monkeypatch):
    """By sorted rows and prefix sums, which large batches of few classes take."""
    monkeypatch.setattr(triplet_sums, "MOST_PASSES", 0)
    assert_equals_batch_oracle(triplet_batch_all, over_pairs(margin_oracle), margin=0.7)


@pytest.mark.parametrize("kind", ["all", "violating", "hard", "semi_hard", "easy"])
def test_each_kind_of_triplet(kind):
    assert_equals_batch_oracle(triplet_margin_loss, over_pairs(margin_oracle), triplets=kind, margin=0.4, mining_margin=0.3)


@pytest.mark.parametrize("options", [{"swap": True}, {"smooth": True}, {"swap": True, "smooth": True, "triplets": "violating"}])
def test_swap_and_smooth(options):
    assert_equals_batch_oracle(triplet_margin_loss, over_pairs(margin_oracle), margin=0.4, **options)


@pytest.mark.parametrize("smooth", [False, True])
def test_batch_hard(smooth):
    assert_equals_batch_oracle(triplet_batch_hard, over_pairs(hard_oracle), margin=0.7, smooth=smooth)


def test_semi_hard():
    assert_equals_batch_oracle(triplet_semi_hard, over_pairs(semi_hard_oracle), margin=0.7)


@pytest.mark.parametrize("most_passes", [triplet_sums.MOST_PASSES, 0])
def test_batch_all_mined(most_passes, monkeypatch):
    monkeypatch.setattr(triplet_sums, "MOST_PASSES", most_passes)
    assert_equals_when_mined(triplet_batch_all, margin_oracle, margin=0.7)


@pytest.mark.parametrize("options", [{"triplets": "semi_hard"}, {"swap": True}, {"swap": True, "smooth": True}])
def test_kinds_and_swap_mined(options):
    assert_equals_when_mined(triplet_margin_loss, margin_oracle, margin=0.4, **options)


@pytest.mark.parametrize(("loss_fn", "oracle"), [(triplet_batch_hard, hard_oracle), (triplet_semi_hard, semi_hard_oracle)])
def test_hard_and_semi_hard_compared_with_others(loss_fn, oracle):
    assert_equals_when_compared_with_others(loss_fn, oracle, margin=0.7)


def test_passes_and_sorted_rows_agree_weighted(monkeypatch):
    """Weights as a miner gives them: a triplet counts as often as both its pairs do."""
    gradients = []
    for most in (1000, 0):
        monkeypatch.setattr(triplet_sums, "MOST_PASSES", most)
        sums = jax.jit(lambda d, p, n: triplet_sums.hinge_sums(d, positives=p, negatives=n, margin=0.7))
        gradient = jax.jit(jax.grad(lambda d, p, n, sums=sums: (sums(d, p, n)[0] * jnp.arange(9.0)).sum()))
        for case in CASES:
            x, labels, where = make_case(case)
            draw = np.random.default_rng(3)
            pair = [m * draw.integers(0, 3, m.shape) for m in pair_masks(jnp.array(labels), jnp.array(where))]
            d, (positives, negatives) = euclidean(x), np.asarray(pair)
            counted = positives[:, :, None] * negatives[:, None, :]
            losses = d[:, :, None] - d[:, None, :] + 0.7
            expected = [(counted * np.maximum(losses, 0)).sum((1, 2)), (counted * (losses > 0)).sum((1, 2))]
            np.testing.assert_allclose(sums(d, *pair), expected, rtol=1e-9, atol=1e-12, err_msg=case)
            gradients.append(gradient(d, *pair))
    np.testing.assert_allclose(gradients[: len(CASES)], gradients[len(CASES) :], rtol=1e-9)
