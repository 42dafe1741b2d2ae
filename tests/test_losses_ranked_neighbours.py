"""Losses that rank or weigh an anchor's neighbours, against loops: margin loss, average precisions, ranked list, NCA."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses.average_precision import fast_ap, smooth_ap
from cnn_jax.losses.comparison import Comparison, compare
from cnn_jax.losses.margin_loss import margin_around, margin_loss
from cnn_jax.losses.nca import nca
from cnn_jax.losses.ranked_list import ranked_list
from tests.embedding_cases import assert_equals_batch_oracle, cosines, euclidean, make_case, mean
from tests.mined_cases import assert_equals_when_mined, over_pairs

pytestmark = pytest.mark.usefixtures("float64")


def neighbours(positives, negatives, where):
    """For each anchor that counts: (anchor, positives, negatives)."""
    for a in np.flatnonzero(where):
        yield a, [p for b, p in positives if a == b], [n for b, n in negatives if a == b]


def margin_oracle(x, all_positives, all_negatives, where, margin=0.2, beta=1.2):
    d, terms = euclidean(x), []
    for a, positives, negatives in neighbours(all_positives, all_negatives, where):
        boundary = beta[a] if np.ndim(beta) else beta
        for p, n in itertools.product(positives, negatives):
            terms += [max(0, d[a, p] - boundary + margin), max(0, boundary - d[a, n] + margin)]
    return mean([v for v in terms if v > 0])


def fast_ap_oracle(x, all_positives, all_negatives, where, num_bins=10):
    squares, losses = 2 - 2 * cosines(x), []
    for a, positives, negatives in neighbours(all_positives, all_negatives, where):
        total = nearer = all_nearer = 0
        for centre in np.arange(num_bins + 1) * 4 / num_bins:
            pulses = [sum(max(0, 1 - abs(squares[a, j] - centre) * num_bins / 4) for j in kind) for kind in (positives, negatives)]
            nearer, all_nearer = nearer + pulses[0], all_nearer + sum(pulses)
            total += pulses[0] * nearer / all_nearer if all_nearer else 0
        if positives:
            losses.append(1 - total / len(positives))
    return mean(losses)


def smooth_ap_oracle(x, all_positives, all_negatives, where, temperature=0.01):
    s, losses = cosines(x), []
    for a, positives, negatives in neighbours(all_positives, all_negatives, where):
        if not positives:
            continue
        positives = [a, *positives]

        def rank(place, among, a=a):  # a positive that is listed twice is two
            p = among[place]
            return 1 + sum(1 / (1 + np.exp(-(s[a, j] - s[a, p]) / temperature)) for k, j in enumerate(among) if k != place)

        losses.append(1 - mean([rank(k, positives) / rank(k, positives + negatives) for k in range(len(positives))]))
    return mean(losses)


def ranked_list_oracle(
    x, all_positives, all_negatives, where, margin=0.4, alpha=1.2, positive_temperature=0.0, negative_temperature=10.0, imbalance=0.5
):
    def weighed(violations, temperature):
        violations = np.array([v for v in violations if v > 0])
        weights = np.exp(temperature * violations)
        return (weights * violations).sum() / weights.sum() if len(violations) else 0

    d, losses = euclidean(x), []
    for a, positives, negatives in neighbours(all_positives, all_negatives, where):
        drawn = weighed([d[a, p] - (alpha - margin) for p in positives], positive_temperature)
        losses.append((1 - imbalance) * drawn + imbalance * weighed([alpha - d[a, n] for n in negatives], negative_temperature))
    return mean(losses)


def nca_oracle(x, all_positives, all_negatives, where, scale=1.0):
    d = euclidean(x) ** 2
    return mean(
        [
            -np.log(sum(np.exp(-scale * d[a, p]) for p in positives) / sum(np.exp(-scale * d[a, j]) for j in positives + negatives))
            for a, positives, negatives in neighbours(all_positives, all_negatives, where)
            if positives
        ]
    )


@pytest.mark.parametrize(
    ("loss_fn", "oracle", "options"),
    [
        (margin_loss, margin_oracle, {}),
        (margin_loss, margin_oracle, {"margin": 0.5, "beta": 1.6}),
        (fast_ap, fast_ap_oracle, {}),
        (fast_ap, fast_ap_oracle, {"num_bins": 7}),
        (smooth_ap, smooth_ap_oracle, {}),
        (smooth_ap, smooth_ap_oracle, {"temperature": 0.2}),
        (ranked_list, ranked_list_oracle, {}),
        (ranked_list, ranked_list_oracle, {"margin": 0.7, "alpha": 2.0, "positive_temperature": 3.0, "imbalance": 0.3}),
        (nca, nca_oracle, {}),
        (nca, nca_oracle, {"scale": 0.3}),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_against_loops(loss_fn, oracle, options):
    assert_equals_batch_oracle(loss_fn, over_pairs(oracle), **options)


@pytest.mark.parametrize(
    ("loss_fn", "oracle", "options"),
    [
        (margin_loss, margin_oracle, {"margin": 0.5, "beta": 1.6}),
        (fast_ap, fast_ap_oracle, {"num_bins": 7}),
        (smooth_ap, smooth_ap_oracle, {"temperature": 0.2}),
        (ranked_list, ranked_list_oracle, {"margin": 0.7, "alpha": 2.0, "positive_temperature": 3.0, "imbalance": 0.3}),
        (nca, nca_oracle, {"scale": 0.3}),
    ],
)
def test_mined(loss_fn, oracle, options):
    assert_equals_when_mined(loss_fn, oracle, **options)


@pytest.mark.parametrize("loss_fn", [margin_loss, fast_ap, partial(smooth_ap, temperature=0.1), ranked_list, nca])
def test_a_weight_is_a_repetition(loss_fn):
    """A reference that counts three times is three references."""
    x, labels, _ = make_case("random")
    x, labels = jnp.array(x), jnp.array(labels)
    often = 1 + np.arange(9) % 3
    again = np.repeat(np.arange(9), often - 1)

    def weighed(comparison: Comparison) -> Comparison:
        return comparison._replace(positives=comparison.positives * often[None], negatives=comparison.negatives * often[None])

    def repeated(comparison: Comparison) -> Comparison:
        longer = {name: getattr(comparison, name)[:, np.r_[:9, again]] for name in ("positives", "negatives")}
        return comparison._replace(references=comparison.references[np.r_[:9, again]], **longer)

    (value, gradient), (expected, slow) = (
        jax.jit(jax.value_and_grad(lambda x, miner=miner: loss_fn(x, labels, miner=miner).mean()))(x) for miner in (weighed, repeated)
    )
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    np.testing.assert_allclose(gradient, slow, rtol=1e-7, atol=1e-10)


def test_a_boundary_for_each_anchor():
    x, labels, where = make_case("random")
    beta = np.linspace(0.4, 1.9, 9)
    loss = lambda b: margin_around(compare(jnp.array(x), jnp.array(labels), None), b).mean()
    value, slopes = jax.jit(jax.value_and_grad(loss))(jnp.array(beta))
    np.testing.assert_allclose(value, over_pairs(margin_oracle)(x, labels, where, beta=beta), rtol=1e-9)
    for i, step in enumerate(np.eye(9) * 1e-6):
        up, down = (over_pairs(margin_oracle)(x, labels, where, beta=beta + s) for s in (step, -step))
        np.testing.assert_allclose(slopes[i], (up - down) / 2e-6, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("loss_fn", "options", "message"),
    [
        (margin_loss, {"margin": -0.1}, "margin=-0.1 must be finite and not negative"),
        (margin_loss, {"beta": float("nan")}, "beta=nan must be finite"),
        (fast_ap, {"num_bins": 0}, "num_bins=0 must be a whole number of at least 1"),
        (smooth_ap, {"temperature": 0.0}, "temperature=0.0 must be above 0 and finite"),
        (ranked_list, {"margin": 1.3}, "margin=1.3 must be from 0 to alpha=1.2"),
        (ranked_list, {"imbalance": 1.5}, "imbalance=1.5 must be from 0 to 1"),
        (ranked_list, {"negative_temperature": -1.0}, "negative_temperature=-1.0 must be finite and not negative"),
        (nca, {"scale": 0.0}, "scale=0.0 must be above 0 and finite"),
        (nca, {"distance": "cosin"}, "distance='cosin' is unknown"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_refusals(loss_fn, options, message):
    with pytest.raises(ValueError, match=message):
        loss_fn(jnp.ones((2, 3)), jnp.arange(2), **options)
