"""Losses on explicit pairs and triplets against oracles written from their formulas, and where distances have no derivative."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax.losses.explicit_pairs import contrastive_pair, cosine_embedding, hinge_embedding, margin_ranking_pair
from cnn_jax.losses.explicit_triplets import triplet_margin, triplet_margin_with_distance
from cnn_jax.losses.row_distances import row_cosines, row_distances
from tests.against_oracle import assert_equals_oracle, assert_survives

pytestmark = pytest.mark.usefixtures("float64")


def norm(x, y, p=2.0, epsilon=1e-6):
    differences = [abs(a - b + epsilon) for a, b in zip(x, y, strict=True)]
    return max(differences) if math.isinf(p) else sum(d**p for d in differences) ** (1 / p)


def cosine(x, y):
    dot = sum(a * b for a, b in zip(x, y, strict=True))
    return dot / math.sqrt((sum(a * a for a in x) + 1e-12) * (sum(b * b for b in y) + 1e-12))


def triplet_oracle(a, p_row, n, margin=1.0, p=2.0, swap=False):
    negative = norm(a, n, p)
    if swap:
        negative = min(negative, norm(p_row, n, p))
    return max(0.0, norm(a, p_row, p) - negative + margin)


margins = {"margin": st.sampled_from([0.2, 1.0])}
LOSSES = {
    "contrastive_pair": (contrastive_pair, lambda d, same, margin=1.0: 0.5 * (d**2 if same else max(0, margin - d) ** 2), margins, 1),
    "hinge_embedding": (hinge_embedding, lambda d, t, margin=1.0: d if t == 1 else max(0, margin - d), margins, 1),
    "cosine_embedding": (
        cosine_embedding, lambda x, y, t, margin=0.0: 1 - cosine(x, y) if t == 1 else max(0, cosine(x, y) - margin), margins, 2
    ),
    "margin_ranking_pair": (margin_ranking_pair, lambda a, b, order, margin=0.0: max(0, -order * (a - b) + margin), margins, 2),
    "triplet_margin": (
        triplet_margin, triplet_oracle,
        {**margins, "p": st.sampled_from([0.8, 1.0, 1.5, 2.0, 3.0, math.inf]), "swap": st.booleans()}, 3,
    ),
}


def arguments(name, seed):
    rng = np.random.default_rng(seed)
    if name in ("cosine_embedding", "triplet_margin"):
        rows = [rng.normal(size=(5, 3)) * np.array([0.3, 1.0, 2.0]) + 0.2 for _ in range(3)]
        return (*rows[:2], rng.choice([-1, 1], 5)) if name == "cosine_embedding" else tuple(rows)
    d = np.abs(rng.normal(size=5))
    if name == "contrastive_pair":
        return d, rng.random(5) < 0.5
    return (d, rng.choice([-1, 1], 5)) if name == "hinge_embedding" else (d, rng.normal(size=5), rng.choice([-1, 1], 5))


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_equals_its_oracle(name, data, seed):
    loss_fn, oracle, strategies, learned = LOSSES[name]
    options = {key: data.draw(strategy) for key, strategy in strategies.items()}
    assert_equals_oracle(loss_fn, oracle, arguments(name, seed), seed=seed, num_outputs=learned, **options)


@pytest.mark.parametrize("name", LOSSES)
def test_survives_other_types_and_empty_masks(name):
    loss_fn, _, _, learned = LOSSES[name]
    assert_survives(loss_fn, arguments(name, 3), num_outputs=learned)


@pytest.mark.parametrize("p", [0.5, 1.0, 1.5, 2.0, 7.0, math.inf])
@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
def test_distances_have_a_finite_gradient_everywhere(p, epsilon):
    """At coincident points, at equal coordinates, at ties of the largest, and where a power would leave float32."""
    x = jnp.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1e4, -1e4, 0.0], [1e-4, 0.0, 0.0]], jnp.float32)
    y = jnp.array([[1.0, 2.0, 3.0], [1.0, 0.0, 5.0], [-1e4, 1e4, 0.0], [0.0, 0.0, 0.0]], jnp.float32)
    values, gradients = jax.jit(jax.value_and_grad(lambda *a: row_distances(*a, p=p, epsilon=epsilon).sum(), argnums=(0, 1)))(x, y)
    expected = sum(norm(a, b, p, epsilon) for a, b in zip(np.asarray(x, float), np.asarray(y, float), strict=True))
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert all(np.isfinite(g).all() for g in gradients)
    if epsilon == 0:
        assert (gradients[0][0] == 0).all()
    np.testing.assert_allclose(gradients[0], -gradients[1])


def test_triplets_and_cosines_have_a_finite_gradient_at_coincident_and_zero_rows():
    zero, x = np.zeros(3), np.array([1.0, 2.0, 3.0])
    triplets = [(x, x, x), (zero, zero, zero), (zero, x, zero), (1e4 * x, -1e4 * x, x)]
    rows = [jnp.array(column, jnp.float32) for column in zip(*triplets, strict=True)]
    for swap in (False, True):
        gradients = jax.jit(jax.grad(lambda *a, s=swap: triplet_margin(*a, swap=s).sum(), argnums=(0, 1, 2)))(*rows)
        assert all(np.isfinite(g).all() for g in gradients)
    for target in (1, -1):
        targets = jnp.full(4, target)
        gradients = jax.jit(jax.grad(lambda *a, t=targets: cosine_embedding(*a, t).sum(), argnums=(0, 1)))(*rows[:2])
        assert all(np.isfinite(g).all() for g in gradients)
    np.testing.assert_allclose(row_cosines(*rows[:2]), [1, 0, 0, -1], rtol=1e-6)


def test_any_distance_will_do_also_one_without_a_derivative_where_rows_coincide():
    rng = np.random.default_rng(0)
    rows = [jnp.array(rng.normal(size=(5, 3))) for _ in range(3)]
    where = jnp.array([True, False, True, True, False])

    def loss(*rows, swap):
        euclidean = lambda x, y: jnp.sqrt(jnp.square(x - y).sum(1))
        return triplet_margin_with_distance(*rows, distance_fn=euclidean, where=where, swap=swap)

    for swap in (False, True):
        np.testing.assert_allclose(loss(*rows, swap=swap), triplet_margin(*rows, epsilon=0.0, where=where, swap=swap))
        gradients = jax.jit(jax.grad(lambda *a, s=swap: loss(*a, swap=s).sum(), argnums=(0, 1, 2)))(*rows)
        assert all(np.isfinite(g).all() for g in gradients)


def test_scores_of_any_shapes_that_broadcast_are_ranked():
    first, second = jnp.array([[1.0], [2.0]]), jnp.array([[0.0, 1.5, 3.0]])
    losses = margin_ranking_pair(first, second, jnp.ones((1, 1)), margin=0.5)
    assert losses.tolist() == [[0.0, 1.0, 2.5], [0.0, 0.0, 1.5]]
    assert margin_ranking_pair(first, second, 1, margin=0.5).tolist() == losses.tolist()
    where = jnp.array([[True, False, True], [True, True, True]])
    order = jnp.array([[1, 0, 1], [1, 1, 1]])  # what does not count may be neither
    assert margin_ranking_pair(second, second[:, :1], order, where=where).tolist() == [[0.0, 0.0, 0.0]] * 2


def test_what_is_neither_is_nan_under_jit():
    d, order = jnp.array([0.5, 0.5, 0.5]), jnp.array([1, 0, -1])
    assert jnp.isnan(jax.jit(hinge_embedding)(d, order)).tolist() == [False, True, False]
    assert jnp.isnan(jax.jit(margin_ranking_pair)(d, d, order)).tolist() == [False, True, False]
    assert jnp.isnan(jax.jit(cosine_embedding)(d[:, None], d[:, None], order)).tolist() == [False, True, False]


X = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: contrastive_pair(x[:, 0], jnp.array([1, 0])), r"same \[2\] \(int64\) must be bool: True for a pair of one class"),
        (lambda x: contrastive_pair(x[:, 0], jnp.array([True])), r"distances \[2\] but same \[1\]"),
        (lambda x: contrastive_pair(x[:, 0] - 1, jnp.array([True, False])), r"distances\[0\]=-1.0 is not allowed: .* not negative"),
        (lambda x: contrastive_pair(x[:, 0], jnp.array([True, False]), margin=float("nan")), "margin=nan must be finite"),
        (lambda x: cosine_embedding(x[0], x[0], jnp.array([1, 1, 1])), r"first \[3\] must be \[b, e\]"),
        (lambda x: triplet_margin(x[0], x[0], x[0]), r"anchors \[3\] must be \[b, e\]"),
        (
            lambda x: margin_ranking_pair(x[0], x[0, :2], jnp.ones(2)),
            r"first \[3\], second \[2\] and order \[2\] must have shapes that broadcast",
        ),
        (lambda x: hinge_embedding(x[:, 0], jnp.array([1, 0])), r"targets\[1\]=0 is not allowed: targets must be 1 or -1"),
        (lambda x: hinge_embedding(x[:, 0], jnp.array([1])), r"distances \[2\] but targets \[1\]"),
        (lambda x: cosine_embedding(x, x, jnp.array([1, 2])), r"targets\[1\]=2 is not allowed"),
        (lambda x: cosine_embedding(x, x[:, :2], jnp.array([1, 1])), r"first \[2, 3\] but second \[2, 2\]"),
        (lambda x: cosine_embedding(x, x, jnp.array([1, 1, 1])), r"targets \[3\]: targets must be \[2\]"),
        (lambda x: cosine_embedding(x, x, jnp.array([1, 1]), margin=2.0), "margin=2.0 must be from -1 to 1"),
        (lambda x: margin_ranking_pair(x[0], x[0], jnp.array([1, 0, -1])), r"order\[1\]=0 is not allowed: order must be 1 or -1"),
        (lambda x: triplet_margin(x, x[:1], x), r"anchors \[2, 3\] but positives \[1, 3\]"),
        (lambda x: triplet_margin(x, x, x, margin=0.0), "margin=0.0 must be positive"),
        (lambda x: triplet_margin(x, x, x, p=0.0), "p=0.0 must be positive, or inf"),
        (lambda x: row_distances(x, x[:1]), r"x \[2, 3\] but y \[1, 3\]"),
    ],
)
def test_errors_name_what_is_wrong(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call(jnp.array(X))
