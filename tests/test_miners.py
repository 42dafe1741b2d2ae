"""Miners against loops over pairs and triplets: which are chosen, and how often; and what losses make of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses import miners
from cnn_jax.losses.comparison import References, compare
from cnn_jax.losses.contrastive import contrastive
from cnn_jax.losses.triplet import triplet_batch_all
from cnn_jax.registry import MINERS
from tests.embedding_cases import CASES, assert_equals_batch_oracle, cosines, euclidean, make_case, mean, pairs, triplets

pytestmark = pytest.mark.usefixtures("float64")


def counts(positives, negatives):
    """Of lists of pairs, or of (anchor, other, how often): two matrices."""
    both = np.zeros((2, 9, 9))
    for matrix, listed in zip(both, (positives, negatives), strict=True):
        for a, other, *often in listed:
            matrix[a, other] += often[0] if often else 1
    return both


def of_each(anchor, listed):
    return [other for a, other in listed if a == anchor]


def hard_oracle(x, labels, where):
    d, (positives, negatives), chosen = euclidean(x), pairs(labels, where), ([], [])
    for a in range(9):
        mine, others = of_each(a, positives), of_each(a, negatives)
        if mine and others:
            chosen[0].append((a, max(mine, key=lambda p: d[a, p])))
            chosen[1].append((a, min(others, key=lambda n: d[a, n])))
    return counts(*chosen)


def easy_oracle(x, labels, where, negatives="semi_hard"):
    d, (positives, others), chosen = euclidean(x), pairs(labels, where), ([], [])
    for a in range(9):
        for p in sorted(of_each(a, positives), key=lambda p: d[a, p])[:1]:
            for n in sorted((n for n in of_each(a, others) if negatives == "hard" or d[a, n] > d[a, p]), key=lambda n: d[a, n])[:1]:
                chosen[0].append((a, p))
                chosen[1].append((a, n))
    return counts(*chosen)


def semi_hard_oracle(x, labels, where, margin=0.2):
    d, (positives, negatives), chosen = euclidean(x), pairs(labels, where), ([], [])
    for a, p in positives:
        band = [n for n in of_each(a, negatives) if 0 < d[a, n] - d[a, p] <= margin]
        for n in sorted(band, key=lambda n: d[a, n])[:1]:
            chosen[0].append((a, p))
            chosen[1].append((a, n))
    return counts(*chosen)


def multi_similarity_oracle(x, labels, where, epsilon=0.1):
    s, (positives, negatives) = cosines(x), pairs(labels, where)
    near = [(a, p) for a, p in positives if any(s[a, p] < s[a, n] + epsilon for n in of_each(a, negatives))]
    return counts(near, [(a, n) for a, n in negatives if any(s[a, n] > s[a, p] - epsilon for p in of_each(a, positives))])


def pair_margin_oracle(x, labels, where, positive_margin=0.2, negative_margin=0.8):
    d, (positives, negatives) = euclidean(x), pairs(labels, where)
    return counts([p for p in positives if d[p] > positive_margin], [n for n in negatives if d[n] < negative_margin])


def distance_weighted_oracle(x, labels, where, cutoff=0.5, nonzero_loss_cutoff=1.4):
    norms = np.sqrt((x**2).sum(1))
    d, (positives, negatives) = euclidean(x / np.where(norms > 0, norms, 1)[:, None]), pairs(labels, where)
    chosen, e = ([], []), x.shape[1]
    for a in range(9):
        mine = of_each(a, positives)
        near = [(n, max(d[a, n], cutoff)) for n in of_each(a, negatives) if d[a, n] < nonzero_loss_cutoff]
        inverse = [(n, 1 / (v ** (e - 2) * (1 - v * v / 4) ** ((e - 3) / 2))) for n, v in near]
        chosen[0].extend((a, p) for p in mine if near)
        chosen[1].extend((a, n, len(mine) * w / sum(w for _, w in inverse)) for n, w in inverse)
    return counts(*chosen)


def angular_oracle(x, labels, where, angle=20.0):
    wide = []
    for a, p, n in triplets(labels, where):
        side, height = np.sqrt(((x[a] - x[p]) ** 2).sum()), np.sqrt(((x[n] - (x[a] + x[p]) / 2) ** 2).sum())
        if np.degrees(np.arctan2(side, 2 * height)) > angle:
            wide.append((a, p, n))
    return counts([(a, p) for a, p, _ in wide], [(a, n) for a, _, n in wide])


ORACLES = [
    ("batch_hard", hard_oracle, {}),
    ("easy_positive", easy_oracle, {}),
    ("easy_positive", easy_oracle, {"negatives": "hard"}),
    ("semi_hard", semi_hard_oracle, {"margin": 0.2}),
    ("semi_hard", semi_hard_oracle, {"margin": 0.8}),
    ("multi_similarity", multi_similarity_oracle, {}),
    ("multi_similarity", multi_similarity_oracle, {"epsilon": -0.3}),
    ("pair_margin", pair_margin_oracle, {}),
    ("pair_margin", pair_margin_oracle, {"positive_margin": 1.4, "negative_margin": 1.9}),
    ("distance_weighted", distance_weighted_oracle, {}),
    ("distance_weighted", distance_weighted_oracle, {"cutoff": 0.8, "nonzero_loss_cutoff": 1.2}),
    ("angular", angular_oracle, {"angle": 20.0}),
    ("angular", angular_oracle, {"angle": 50.0}),
]


@pytest.mark.parametrize(("name", "oracle", "options"), ORACLES, ids=lambda v: v if isinstance(v, str) else "")
def test_chosen_pairs(name, oracle, options):
    @jax.jit
    def mined(x, labels, where):
        return compare(x, labels, where, miner=partial(MINERS[name], **options))

    found = np.zeros(2)
    for case in CASES:
        x, labels, where = make_case(case)
        result = mined(jnp.array(np.where(where[:, None], x, np.nan)), jnp.array(labels), jnp.array(where))
        expected = oracle(x, labels, where, **options)
        np.testing.assert_allclose(np.stack([result.positives, result.negatives]).astype(float), expected, rtol=1e-9, err_msg=case)
        found += expected.sum((1, 2)) > 0
    assert (found >= 3).all(), "the cases are too easy"


@pytest.mark.parametrize("name", MINERS)
def test_weights_have_no_gradient(name):
    x, labels, _ = make_case("random")

    def weighed(x):
        mined = MINERS[name](compare(x, jnp.array(labels), None))
        return sum((w * jnp.arange(81.0).reshape(9, 9)).sum() for w in (mined.positives, mined.negatives))

    assert (jax.jit(jax.grad(weighed))(jnp.array(x)) == 0).all()


@pytest.mark.parametrize("name", MINERS)
def test_references_are_mined_like_the_batch(name):
    """Seven anchors against the nine examples: the first seven rows of what the whole batch chooses."""
    x, labels, _ = make_case("another")
    x, labels = jnp.array(x), jnp.array(labels)
    expected = jax.jit(partial(compare, where=None, miner=MINERS[name]))(x, labels)
    rest = References(x[7:], labels[7:], jnp.ones(2, bool))
    mined = jax.jit(partial(compare, where=None, miner=MINERS[name]))(x[:7], labels[:7], references=rest)
    np.testing.assert_allclose(mined.positives.astype(float), expected.positives[:7].astype(float), rtol=1e-9)
    np.testing.assert_allclose(mined.negatives.astype(float), expected.negatives[:7].astype(float), rtol=1e-9)


def mined_contrastive(x, labels, where, oracle):
    d, terms = euclidean(x), []
    for weights, losses in zip(oracle(x, labels, where), (d, np.maximum(1 - d, 0)), strict=True):
        total = (weights * (losses > 0)).sum()
        terms.append((weights * losses).sum() / total if total else 0)
    return sum(terms)


def mined_triplets(x, labels, where, oracle):
    d, (positives, negatives), losses = euclidean(x), oracle(x, labels, where), []
    for a, p, n in triplets(labels, where):
        losses.extend([max(0, d[a, p] - d[a, n] + 0.4)] * int(positives[a, p] * negatives[a, n]))
    return mean([v for v in losses if v > 0])


@pytest.mark.parametrize(("name", "oracle"), [("angular", angular_oracle), ("distance_weighted", distance_weighted_oracle)])
def test_contrastive_of_mined_pairs(name, oracle):
    """A step of the finite differences must not change the choice, and the weights, which depend on the distances, are constants."""
    x, labels, where = make_case("random")
    fixed = oracle(x, labels, where)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: contrastive(x, jnp.array(labels), miner=MINERS[name]).mean()))(jnp.array(x))
    np.testing.assert_allclose(value, mined_contrastive(x, labels, where, lambda *_: fixed), rtol=1e-9)
    for direction in np.random.default_rng(0).normal(size=(4, *x.shape)):
        up, down = (mined_contrastive(x + step * direction, labels, where, lambda *_: fixed) for step in (1e-6, -1e-6))
        np.testing.assert_allclose((gradient * direction).sum(), (up - down) / 2e-6, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("name", "oracle"), [("batch_hard", hard_oracle), ("semi_hard", partial(semi_hard_oracle, margin=0.8))])
def test_triplets_of_mined_pairs(name, oracle):
    miner = partial(MINERS[name], margin=0.8) if name == "semi_hard" else MINERS[name]
    loss_fn = partial(triplet_batch_all, margin=0.4, miner=miner)
    assert_equals_batch_oracle(loss_fn, partial(mined_triplets, oracle=oracle))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("batch_hard", {"distance": "cosin"}, "distance='cosin' is unknown"),
        ("easy_positive", {"negatives": "easy"}, "negatives='easy' is unknown"),
        ("semi_hard", {"margin": -1.0}, "margin=-1.0 must be finite and not negative"),
        ("multi_similarity", {"epsilon": float("nan")}, "epsilon=nan must be finite"),
        ("pair_margin", {"negative_margin": -1.0}, "negative_margin=-1.0 must be"),
        ("distance_weighted", {"cutoff": 1.5}, "cutoff=1.5 must be above 0 and below nonzero_loss_cutoff=1.4"),
        ("distance_weighted", {"nonzero_loss_cutoff": 2.5}, "nonzero_loss_cutoff=2.5 must be above 0 and at most 2"),
        ("angular", {"angle": 90}, "angle=90 must be from 0 to below 90 degrees"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_refusals(name, options, message):
    comparison = compare(jnp.ones((2, 3)), jnp.arange(2), None)
    with pytest.raises(ValueError, match=message):
        getattr(miners, name)(comparison, **options)
