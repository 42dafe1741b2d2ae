"""Losses over a list and NDCG against loops: graded targets, ties, masked rows, nothing relevant, nothing at all."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses.listwise import list_net, softmax_ranking
from cnn_jax.losses.ranking import lambda_rank, pairwise_logistic
from cnn_jax.losses.reduction import masked_mean
from cnn_jax.metrics.ranking import ndcg

pytestmark = pytest.mark.usefixtures("float64")

CASES = ["random", "masked", "wide", "equal_targets", "irrelevant", "one", "all_masked"]


def make_case(case):
    rng = np.random.default_rng(CASES.index(case))
    scores, targets, where = rng.normal(size=8) * 1.3 + 0.4, rng.integers(0, 4, size=8), np.ones(8, bool)
    if case == "masked":
        where = rng.random(8) < 0.6
    elif case == "wide":
        scores = scores * 400  # exp of it is beyond float64
    elif case in ("equal_targets", "irrelevant"):
        targets[:] = 2 if case == "equal_targets" else 0
    elif case == "one":
        where[1:] = False
    elif case == "all_masked":
        where[:] = False
    return scores, targets, where


def log_softmax(s):
    return s - s.max() - np.log(np.exp(s - s.max()).sum())


def softmax_oracle(s, y):
    return sum(-y[i] * log_softmax(s)[i] for i in range(len(s))) / y.sum() if y.sum() else 0.0


def list_net_oracle(s, y):
    return sum(-np.exp(log_softmax(1.0 * y)[i]) * log_softmax(s)[i] for i in range(len(s))) if len(s) else 0.0


def ordered_pairs(y):
    return [(i, j) for i in range(len(y)) for j in range(len(y)) if y[i] > y[j]]


def logistic_oracle(s, y):
    losses = [np.logaddexp(0, s[j] - s[i]) for i, j in ordered_pairs(y)]
    return sum(losses) / len(losses) if losses else 0.0


def dcg_in_order(gains, k):
    return sum(g / np.log2(2 + place) for place, g in enumerate(gains[:k]))


def lambda_oracle(s, y, k=None, ranked_by=None):
    """The change of NDCG by really changing places."""
    gains, total = 2.0**y - 1, 0.0
    order = sorted(range(len(y)), key=lambda i: -(s if ranked_by is None else ranked_by)[i])
    best = dcg_in_order(sorted(gains, reverse=True), k)
    for i, j in ordered_pairs(y):
        changed = [{i: j, j: i}.get(m, m) for m in order]
        total += abs(dcg_in_order(gains[order], k) - dcg_in_order(gains[changed], k)) / best * np.logaddexp(0, s[j] - s[i])
    return total


LOSSES = [
    (softmax_ranking, softmax_oracle, {}),
    (list_net, list_net_oracle, {}),
    (pairwise_logistic, logistic_oracle, {}),
    (lambda_rank, lambda_oracle, {}),
    (lambda_rank, lambda_oracle, {"k": 3}),
]


@pytest.mark.parametrize(("loss_fn", "oracle", "options"), LOSSES, ids=lambda v: getattr(v, "__name__", ""))
def test_losses_equal_loops(loss_fn, oracle, options):
    compiled = jax.jit(jax.value_and_grad(lambda s, y, where: masked_mean(loss_fn(s, y, where=where, **options), where)))
    for case in CASES:
        s, y, where = make_case(case)
        value, gradient = compiled(jnp.array(np.where(where, s, np.nan)), jnp.array(np.where(where, y, -5)), jnp.array(where))
        np.testing.assert_allclose(value, oracle(s[where], y[where], **options), rtol=1e-9, atol=1e-12, err_msg=case)
        assert (gradient[~where] == 0).all(), case
        fixed = {"ranked_by": s[where]} if loss_fn is lambda_rank else {}  # the weights are constants to the gradient
        for i in np.flatnonzero(where):
            steps = [s + sign * 1e-6 * (np.arange(8) == i) for sign in (1, -1)]
            up, down = (oracle(moved[where], y[where], **options, **fixed) for moved in steps)
            np.testing.assert_allclose(gradient[i], (up - down) / 2e-6, rtol=1e-5, atol=1e-6 if case == "wide" else 1e-8, err_msg=case)


@pytest.mark.parametrize("loss_fn", [softmax_ranking, list_net, pairwise_logistic, lambda_rank])
def test_lists_at_once_and_half_precision(loss_fn):
    loss_fn = jax.jit(loss_fn)
    s, y, _ = make_case("random")
    lists, targets = jnp.array(np.stack([s, s[::-1] * 0.7])), jnp.array(np.stack([y, y]))
    together = jax.vmap(loss_fn)(lists, targets)
    np.testing.assert_allclose(together, np.stack([loss_fn(*pair) for pair in zip(lists, targets, strict=True)]), rtol=1e-12)
    half = jnp.array(s, jnp.bfloat16)
    assert loss_fn(half, targets[0]).dtype == jnp.bfloat16
    np.testing.assert_allclose(loss_fn(half, targets[0]).astype(float), loss_fn(half.astype(float), targets[0]), rtol=1e-2)


@pytest.mark.parametrize("loss_fn", [softmax_ranking, lambda_rank])
def test_negative_relevance_is_refused_and_under_jit_nan(loss_fn):
    s, y = jnp.arange(3.0), jnp.array([0, -1, 2])
    with pytest.raises(ValueError, match=r"targets\[1\]=-1 is not allowed: targets must be not negative"):
        loss_fn(s, y)
    assert jnp.isnan(jax.jit(loss_fn)(s, y).sum())
    with pytest.raises(ValueError, match="targets must be not negative"):
        ndcg(s, y)


def ndcg_oracle(s, y, k):
    """The mean over all orders that the scores allow."""
    gains = 2.0**y - 1
    orders = [order for order in itertools.permutations(range(len(s))) if all(s[a] >= s[b] for a, b in itertools.pairwise(order))]
    best = dcg_in_order(sorted(gains, reverse=True), k)
    return np.mean([dcg_in_order(gains[list(order)], k) for order in orders]) / best if best else np.nan


@pytest.mark.parametrize("k", [None, 1, 3, 20])
def test_ndcg_equals_loops(k):
    measured = jax.jit(lambda s, y, where: ndcg(s, y, where=where, k=k))
    for case in CASES:
        s, y, where = (v[:6] for v in make_case(case))
        for scores in (s, np.round(s)):  # the latter with ties
            found = measured(jnp.array(np.where(where, scores, np.nan)), jnp.array(np.where(where, y, -5)), jnp.array(where)).result()
            np.testing.assert_allclose(found, ndcg_oracle(scores[where], y[where], k), rtol=1e-9, err_msg=case)


def test_ndcg_of_known_lists():
    """Best, worst, all equal, and a diverged network's."""
    y = jnp.array([3, 2, 0])
    assert ndcg(jnp.array([3.0, 2.0, 1.0]), y).result() == 1
    worst = (3 / np.log2(3) + 7 / 2) / (7 + 3 / np.log2(3))
    np.testing.assert_allclose(ndcg(jnp.array([1.0, 2.0, 3.0]), y).result(), worst)
    np.testing.assert_allclose(ndcg(jnp.zeros(3), y, k=1).result(), 10 / 3 / 7)
    assert np.isnan(ndcg(jnp.array([jnp.nan, 0.0, 1.0]), y).result())


@pytest.mark.usefixtures("unchecked")
def test_refusals():
    s, y = jnp.arange(3.0), jnp.arange(3)
    for loss_fn in (softmax_ranking, list_net, pairwise_logistic, lambda_rank):
        with pytest.raises(ValueError, match=r"scores \[3\] but targets \[2\]: targets must be \[3\]"):
            loss_fn(s, y[:2])
        with pytest.raises(ValueError, match=r"scores \[1, 3\] must be \[b\]"):
            loss_fn(s[None], y[None])
    with pytest.raises(ValueError, match=r"scores \[3\] and targets \[2\] must both be \[b\]"):
        ndcg(s, y[:2])
    for function in (lambda_rank, ndcg):
        with pytest.raises(ValueError, match="k=0 must be a whole number of at least 1"):
            function(s, y, k=0)
