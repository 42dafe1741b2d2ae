"""VICReg of two views, and of the examples of a label, against loops over features."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses.vicreg import vicreg, vicreg_by_label
from tests.embedding_cases import assert_equals_batch_oracle, mean
from tests.mined_cases import assert_equals_when_mined, over_pairs

pytestmark = pytest.mark.usefixtures("float64")

MIX = np.random.default_rng(8).normal(size=(4, 4)) * 0.4


def second_view(x):
    return 0.8 * x + x[:, ::-1] @ MIX


def spread(z, variance, covariance, epsilon):
    n, e = z.shape
    if n < 2:
        return 0.0
    total = 0.0
    for j in range(e):
        total += variance * max(0, 1 - np.sqrt(np.var(z[:, j], ddof=1) + epsilon)) / e / 2
        for k in range(e):
            if j != k:
                total += covariance * (((z[:, j] - z[:, j].mean()) * (z[:, k] - z[:, k].mean())).sum() / (n - 1)) ** 2 / e
    return total


def views_oracle(x, labels, where, invariance=25.0, variance=25.0, covariance=1.0, epsilon=1e-4):
    first, second = x[where], second_view(x)[where]
    agreement = mean([np.square(a - b).mean() for a, b in zip(first, second, strict=True)])
    return invariance * agreement + sum(spread(z, variance, covariance, epsilon) for z in (first, second))


def label_oracle(x, positives, negatives, where, invariance=25.0, variance=25.0, covariance=1.0, epsilon=1e-4):
    agreement = mean([np.square(x[i] - x[j]).mean() for i, j in positives])
    return invariance * agreement + 2 * spread(x[: len(where)][where], variance, covariance, epsilon)


def of_views(x, labels, *, where=None, **options):
    return vicreg(x, second_view(x).astype(x.dtype), where=where, **options)


OPTIONS = [{}, {"invariance": 2.0, "variance": 5.0, "covariance": 3.0, "epsilon": 0.2}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("loss_fn", "oracle"), [(of_views, views_oracle), (vicreg_by_label, over_pairs(label_oracle))])
def test_against_loops(loss_fn, oracle, options):
    assert_equals_batch_oracle(loss_fn, oracle, without_derivative=[], **options)


def test_views_among_others_by_label():
    """The spread stays that of the batch."""
    assert_equals_when_mined(vicreg_by_label, label_oracle, **OPTIONS[1])


@pytest.mark.parametrize("num", [0, 1])
def test_fewer_than_two_have_no_spread(num):
    x, where = jnp.arange(6.0).reshape(3, 2), jnp.arange(3) < num
    assert vicreg(x, x, where=where).tolist() == [0, 0, 0]
    assert vicreg_by_label(x, jnp.zeros(3, int), where=where).tolist() == [0, 0, 0]


@pytest.mark.usefixtures("unchecked")
def test_refusals():
    x = jnp.ones((2, 3))
    with pytest.raises(ValueError, match=r"first \[2, 3\] but second \[2, 2\]"):
        vicreg(x, x[:, :2])
    for name in OPTIONS[1]:
        with pytest.raises(ValueError, match=f"{name}=-1.0 must be finite and not negative"):
            vicreg(x, x, **{name: -1.0})
        with pytest.raises(ValueError, match=f"{name}=-1.0 must be finite and not negative"):
            vicreg_by_label(x, jnp.arange(2), **{name: -1.0})
