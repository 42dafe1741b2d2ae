"""Every loss against a slow float64 NumPy oracle, value and gradient, on asymmetric data with all the awkward cases."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses.classification import softmax_cross_entropy
from cnn_jax.losses.contrastive import contrastive_squared
from cnn_jax.losses.ranking import margin_ranking
from cnn_jax.losses.reduction import masked_mean
from cnn_jax.losses.triplet import triplet_batch_all, triplet_batch_hard, triplet_semi_hard

pytestmark = pytest.mark.usefixtures("float64")


def distances(x, together=()):
    """All Euclidean distances, in a loop; pairs in `together` are held at 0, where the derivative is taken to be 0."""
    d = np.zeros((len(x), len(x)))
    for i, j in np.ndindex(d.shape):
        d[i, j] = 0 if (i, j) in together else np.sqrt(((x[i] - x[j]) ** 2).sum())
    return d


def cross_entropy_oracle(logits, labels, where, smoothing=0.0):
    total, count = 0.0, 0
    for row, label, counts in zip(logits, labels, where, strict=True):
        if not counts:
            continue
        k = len(row)
        p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        q = [(1 - smoothing) * (j == label) + smoothing / k for j in range(k)]
        total -= sum(q[j] * np.log(p[j]) for j in range(k))
        count += 1
    return total / max(count, 1)


def triplets(labels, where):
    n = len(labels)
    for a in range(n):
        for p in range(n):
            for q in range(n):
                if where[a] and where[p] and where[q] and a != p and labels[a] == labels[p] and labels[a] != labels[q]:
                    yield a, p, q


def batch_all_oracle(d, labels, where, margin=0.2):
    losses = [d[a, p] - d[a, n] + margin for a, p, n in triplets(labels, where)]
    active = [v for v in losses if v > 0]
    return sum(active) / max(len(active), 1)


def batch_hard_oracle(d, labels, where, margin=0.2):
    anchors = sorted({a for a, _, _ in triplets(labels, where)})
    losses = []
    for a in anchors:
        mine = [(p, n) for b, p, n in triplets(labels, where) if a == b]
        farthest = max(d[a, p] for p, _ in mine)
        nearest = min(d[a, n] for _, n in mine)
        losses.append(max(0.0, farthest - nearest + margin))
    return sum(losses) / max(len(losses), 1)


def semi_hard_oracle(d, labels, where, margin=0.2):
    losses = []
    for a, p in sorted({(a, p) for a, p, _ in triplets(labels, where)}):
        negatives = [d[a, n] for b, q, n in triplets(labels, where) if (b, q) == (a, p)]
        farther = [v for v in negatives if v > d[a, p]]
        losses.append(max(0.0, d[a, p] - (min(farther) if farther else max(negatives)) + margin))
    return sum(losses) / max(len(losses), 1)


def contrastive_oracle(d, labels, where, margin=1.0):
    positive, negative = [], []
    for i, j in np.ndindex(d.shape):
        if i == j or not (where[i] and where[j]):
            continue
        if labels[i] == labels[j]:
            positive.append(0.5 * d[i, j] ** 2)
        else:
            negative.append(0.5 * max(0.0, margin - d[i, j]) ** 2)
    return sum(positive) / max(len(positive), 1) + sum(negative) / max(len(negative), 1)


def ranking_oracle(scores, targets, where, margin=1.0):
    n = len(scores)
    pairs = [(i, j) for i in range(n) for j in range(n) if where[i] and where[j] and targets[i] > targets[j]]
    return sum(max(0.0, margin - (scores[i] - scores[j])) for i, j in pairs) / max(len(pairs), 1)


EMBEDDING_LOSSES = {
    "batch_all": (triplet_batch_all, batch_all_oracle, {"margin": 0.7}),
    "batch_hard": (triplet_batch_hard, batch_hard_oracle, {"margin": 0.7}),
    "semi_hard": (triplet_semi_hard, semi_hard_oracle, {"margin": 0.7}),
    "contrastive_squared": (contrastive_squared, contrastive_oracle, {"margin": 1.7}),
}
CASES = ["random", "masked", "one_class", "all_different", "coincident_mates", "coincident", "all_masked", "lone_labels"]


def make_case(case, seed):
    """Random asymmetric embeddings [9, 3] with unequal classes, and the mask of what counts."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(9, 3)) * np.array([0.3, 1.0, 2.0]) + np.array([5.0, -1.0, 0.5])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])[rng.permutation(9)]
    where = np.ones(9, bool)
    if case == "masked":
        where = rng.random(9) < 0.6
    elif case == "one_class":
        labels = np.zeros(9, int)
    elif case == "all_different":
        labels = np.arange(9)
    elif case == "coincident_mates":
        mates = np.flatnonzero(labels == 0)  # two, not more: at a tie of two the central difference is the mean, as jax has it
        x[mates[1]] = x[mates[0]]
    elif case == "coincident":
        x[3], x[5] = x[0], x[0]
    elif case == "all_masked":
        where = np.zeros(9, bool)
    elif case == "lone_labels":
        labels[:2] = [7, 8]
    return x, labels, where


def numeric_gradient(f, x, step=1e-6):
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        gradient[i] = (f(up) - f(down)) / (2 * step)
    return gradient


@cache
def value_and_gradient(name):
    """The mean loss and its gradient, compiled once a type for all cases."""
    loss_fn, _, kwargs = EMBEDDING_LOSSES[name]
    return jax.jit(jax.value_and_grad(lambda x, labels, where: masked_mean(loss_fn(x, labels, where=where, **kwargs), where)))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", EMBEDDING_LOSSES)
def test_embedding_loss_equals_its_oracle(name, case, seed):
    _, oracle, kwargs = EMBEDDING_LOSSES[name]
    x, labels, where = make_case(case, seed)

    together = {(i, j) for i, j in np.ndindex(9, 9) if (x[i] == x[j]).all()}

    def expected(x):
        return oracle(distances(x, together), labels, where, **kwargs)

    value, gradient = value_and_gradient(name)(jnp.array(x), jnp.array(labels), jnp.array(where))
    if (name, case) == ("semi_hard", "coincident"):
        # A positive and a negative at one point: whether the negative is the farther is a matter of the last bit, and the
        # choice of the next one jumps with it. Either is the loss; it and its gradient must be finite.
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        return
    np.testing.assert_allclose(value, expected(x), rtol=1e-9, atol=1e-12)
    # Which of two points at one place is "the nearest" is a matter of the last bit: their gradients are compared summed.
    at_one_place = np.array([[float((i, j) in together) for j in range(9)] for i in range(9)])
    np.testing.assert_allclose(at_one_place @ gradient, at_one_place @ numeric_gradient(expected, x), rtol=1e-5, atol=1e-7)
    with jax.enable_x64(False):  # as it trains
        value, gradient32 = value_and_gradient(name)(jnp.array(x, jnp.float32), jnp.array(labels), jnp.array(where))
    np.testing.assert_allclose(value, expected(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(at_one_place @ gradient32, at_one_place @ gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.13])
@pytest.mark.parametrize("masked", [False, True, "all"])
def test_cross_entropy_equals_its_oracle(smoothing, masked):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(6, 4)) * np.array([1.0, 5.0, 0.1, 30.0])
    labels = rng.integers(4, size=6)
    where = {False: np.ones(6, bool), True: rng.random(6) < 0.5, "all": np.zeros(6, bool)}[masked]

    def mean(logits):
        losses = softmax_cross_entropy(logits, jnp.array(labels), where=jnp.array(where), smoothing=smoothing)
        return masked_mean(losses, jnp.array(where))

    value, gradient = jax.jit(jax.value_and_grad(mean))(jnp.array(logits))
    np.testing.assert_allclose(value, cross_entropy_oracle(logits, labels, where, smoothing), rtol=1e-9, atol=1e-12)
    expected = numeric_gradient(lambda v: cross_entropy_oracle(v, labels, where, smoothing), logits)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


def test_cross_entropy_survives_huge_logits():
    losses = softmax_cross_entropy(jnp.array([[1e4, -1e4], [-1e4, 1e4]]), jnp.array([0, 0]))
    np.testing.assert_allclose(losses, [0.0, 2e4])


@pytest.mark.parametrize("masked", [False, True])
def test_margin_ranking_equals_its_oracle(masked):
    rng = np.random.default_rng(2)
    scores, targets = rng.normal(size=8) * 2, rng.integers(4, size=8)
    where = rng.random(8) < 0.6 if masked else np.ones(8, bool)

    def mean(s):
        return masked_mean(margin_ranking(s, jnp.array(targets), where=jnp.array(where), margin=0.8), jnp.array(where))

    value, gradient = jax.jit(jax.value_and_grad(mean))(jnp.array(scores))
    np.testing.assert_allclose(value, ranking_oracle(scores, targets, where, 0.8), rtol=1e-9)
    expected = numeric_gradient(lambda v: ranking_oracle(v, targets, where, 0.8), scores)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


def test_margin_ranking_without_pairs_is_zero():
    value, gradient = jax.jit(jax.value_and_grad(lambda s: margin_ranking(s, jnp.ones(3, int)).mean()))(jnp.arange(3.0))
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", [*EMBEDDING_LOSSES, "margin_ranking"])
def test_half_precision_is_computed_with_in_float32(name, dtype):
    x, labels, _ = make_case("random", 3)
    loss_fn, oracle, kwargs = EMBEDDING_LOSSES.get(name, (margin_ranking, ranking_oracle, {"margin": 1.0}))
    given = jnp.array(x[:, 0] if name == "margin_ranking" else x, dtype)
    losses = loss_fn(given, jnp.array(labels), **kwargs)
    assert losses.dtype == dtype
    seen = np.asarray(given, float)  # what rounding the inputs has changed is no fault of the loss
    expected = oracle(seen if name == "margin_ranking" else distances(seen), labels, np.ones(9, bool), **kwargs)
    np.testing.assert_allclose(losses.astype(float).mean(), expected, rtol=2e-2)


@pytest.mark.parametrize("loss_fn", [triplet_batch_all, triplet_batch_hard, triplet_semi_hard, contrastive_squared])
@pytest.mark.parametrize(
    ("x", "labels", "options", "message"),
    [
        ((8, 3), jnp.zeros(7, int), {}, r"embeddings \[8, 3\] but labels \[7\]: labels must be ints \[8\]"),
        ((2, 3), jnp.zeros(1, int), {}, r"embeddings \[2, 3\] but labels \[1\]"),
        ((2, 3), jnp.zeros((2, 1), int), {}, r"embeddings \[2, 3\] but labels \[2, 1\]"),
        ((2,), jnp.zeros(2, int), {}, r"embeddings \[2\] must be \[b, e\]"),
        ((2, 3), jnp.zeros(2), {}, r"labels \[2\] \(float\d\d\) must be ints \[2\]"),
        ((2, 3), jnp.zeros(2, int), {"margin": -0.1}, "margin=-0.1 must be finite and not negative"),
        ((2, 3), jnp.zeros(2, int), {"margin": float("nan")}, "margin=nan must be finite"),
        ((2, 3), jnp.zeros(2, int), {"margin": float("inf")}, "margin=inf must be finite"),
        ((2, 3), jnp.zeros(2, int), {"where": jnp.ones((2, 3), bool)}, r"where \[2, 3\] \(bool\) must be bool \[2\]"),
    ],
)
def test_a_batch_that_does_not_fit_is_named_also_under_jit(loss_fn, x, labels, options, message, unchecked):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda x, y: loss_fn(x, y, **options), jnp.zeros(x), labels)


@pytest.mark.parametrize(
    ("scores", "targets", "options", "message"),
    [
        (jnp.zeros(2), jnp.zeros(1, int), {}, r"scores \[2\] but targets \[1\]: targets must be \[2\]"),
        (jnp.zeros((2, 1)), jnp.zeros((2, 1)), {}, r"scores \[2, 1\] must be \[b\]"),
        (jnp.zeros(2, int), jnp.zeros(2, int), {}, r"scores \[2\] \(int\d\d\) must be floats"),
        (jnp.zeros(2), jnp.zeros(2, int), {"margin": -1.0}, "margin=-1.0 must be finite and not negative"),
    ],
)
def test_scores_that_do_not_fit_are_named(scores, targets, options, message, unchecked):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda s, t: margin_ranking(s, t, **options), scores, targets)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_a_distribution_may_be_rounded_and_what_does_not_count_be_none(dtype):
    q = jnp.array(np.random.default_rng(0).dirichlet(np.ones(10), size=8), dtype)
    assert (softmax_cross_entropy(jnp.zeros((8, 10)), q) > 0).all()
    assert (softmax_cross_entropy(jnp.zeros((8, 10)), q.at[7].set(0), where=jnp.arange(8) < 7)[:7] > 0).all()
