"""Contrastive losses over a batch against loops."""

import numpy as np
import pytest

from cnn_jax.losses.contrastive import contrastive, contrastive_squared, snr_contrastive
from tests.embedding_cases import assert_equals_batch_oracle, euclidean, mean
from tests.mined_cases import assert_equals_when_mined, over_pairs

pytestmark = pytest.mark.usefixtures("float64")


def hinged(d, positives, negatives, positive_margin, negative_margin):
    drawn = [max(0, d[i, j] - positive_margin) for i, j in positives]
    pushed = [max(0, negative_margin - d[i, j]) for i, j in negatives]
    return mean([v for v in drawn if v > 0]) + mean([v for v in pushed if v > 0])


def contrastive_oracle(x, positives, negatives, where, positive_margin=0.0, negative_margin=1.0):
    return hinged(euclidean(x), positives, negatives, positive_margin, negative_margin)


def squared_oracle(x, positives, negatives, where, margin=1.0):
    d = euclidean(x)
    return mean([0.5 * d[i, j] ** 2 for i, j in positives]) + mean([0.5 * max(0, margin - d[i, j]) ** 2 for i, j in negatives])


def snr_oracle(x, positives, negatives, where, positive_margin=0.0, negative_margin=1.0, regularisation=0.1):
    d = np.array([[np.var(b - a) / np.var(a) if np.var(a) > 1e-20 else 0.0 for b in x] for a in x])
    penalty = mean([abs(row.sum()) for row, counts in zip(x[: len(where)], where, strict=True) if counts])
    return hinged(d, positives, negatives, positive_margin, negative_margin) + regularisation * penalty


@pytest.mark.parametrize("options", [{}, {"positive_margin": 0.6, "negative_margin": 1.7}])
def test_contrastive(options):
    assert_equals_batch_oracle(contrastive, over_pairs(contrastive_oracle), **options)


@pytest.mark.parametrize("margin", [1.0, 1.7])
def test_contrastive_squared(margin):
    assert_equals_batch_oracle(contrastive_squared, over_pairs(squared_oracle), margin=margin)


# Not with the margin of 1 that is its default: a zero vector is at exactly that distance, and rounding decides whether the pair is active.
@pytest.mark.parametrize("options", [{"negative_margin": 0.9}, {"positive_margin": 0.3, "negative_margin": 2.5, "regularisation": 0.7}])
def test_snr_contrastive(options):
    assert_equals_batch_oracle(snr_contrastive, over_pairs(snr_oracle), **options)


@pytest.mark.parametrize(
    ("loss_fn", "oracle", "options"),
    [
        (contrastive, contrastive_oracle, {"positive_margin": 0.6, "negative_margin": 2.7}),
        (contrastive_squared, squared_oracle, {"margin": 2.7}),
        (snr_contrastive, snr_oracle, {"positive_margin": 0.3, "negative_margin": 2.5}),
    ],
)
def test_mined(loss_fn, oracle, options):
    assert_equals_when_mined(loss_fn, oracle, **options)
