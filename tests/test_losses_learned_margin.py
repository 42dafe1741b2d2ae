"""The margin loss with learned boundaries against loops over triplets."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses.learned_margin import LearnedMargin
from cnn_jax.losses.margin_loss import margin_loss
from tests.embedding_cases import euclidean, make_case, triplets
from tests.learned_loss_cases import NUM_CLASSES, assert_equals_learned_oracle
from tests.mined_cases import assert_equals_when_mined, mined_case

pytestmark = pytest.mark.usefixtures("float64")


def of_triplets(d, listed, labels, beta, margin, regularisation):
    total, count = 0.0, 0
    for a, p, n in listed:
        own = beta[labels[a]] if len(beta) > 1 else beta[0]
        terms = [max(0, d[a, p] - own + margin), max(0, own - d[a, n] + margin)]
        total += sum(terms) + (regularisation * own if len(beta) > 1 else 0)
        count += sum(term > 0 for term in terms)
    once = regularisation * beta[0] if len(beta) == 1 and listed else 0.0
    return (total / count if count else 0.0) + once


def oracle(margin, regularisation):
    return lambda x, labels, where, beta: of_triplets(euclidean(x), triplets(labels, where), labels, beta, margin, regularisation)


@pytest.mark.parametrize(("margin", "regularisation"), [(0.2, 0.0), (0.5, 0.3)])
@pytest.mark.parametrize("betas", ["class", "one"])
def test_learned_margin(betas, margin, regularisation):
    beta = np.random.default_rng(4).uniform(0.7, 1.9, NUM_CLASSES if betas == "class" else 1)
    loss = LearnedMargin(NUM_CLASSES, betas=betas, margin=margin, regularisation=regularisation)
    assert_equals_learned_oracle(loss, "beta", beta, oracle(margin, regularisation), without_derivative=("zeros", "duplicates"))


@pytest.mark.parametrize("betas", ["class", "one"])
def test_mined(betas):
    beta, labels = np.random.default_rng(4).uniform(0.9, 2.5, 3 if betas == "class" else 1), mined_case()[1]

    def loss(x, labels, *, where, references, miner):
        module = LearnedMargin(3, betas=betas, margin=0.5, regularisation=0.3, miner=miner)
        return module.apply({"params": {"beta": jnp.array(beta)}}, x, labels, where=where, references=references)

    def mined_oracle(x, positives, negatives, where):
        listed = [(a, p, n) for a, p in positives for b, n in negatives if a == b]
        return of_triplets(euclidean(x), listed, labels, beta, margin=0.5, regularisation=0.3)

    assert_equals_when_mined(loss, mined_oracle)


@pytest.mark.parametrize("betas", ["class", "one"])
def test_it_starts_as_the_plain_loss(betas):
    x, labels, _ = make_case("random")
    loss = LearnedMargin(3, betas=betas, beta=0.9)
    values, variables = jax.jit(loss.init_with_output)(jax.random.key(0), jnp.array(x), jnp.array(labels))
    np.testing.assert_allclose(values, jax.jit(partial(margin_loss, beta=0.9))(jnp.array(x), jnp.array(labels)), rtol=1e-6)
    assert variables["params"]["beta"].shape == ((3,) if betas == "class" else (1,))


def test_where_no_pair_is_beyond_its_boundary_nothing_moves():
    """With a margin of 0 and a β between near and far every triplet is satisfied: ν alone does not count."""
    loss = LearnedMargin(2, beta=2.0, margin=0.0, regularisation=0.5)
    values, variables = jax.jit(loss.init_with_output)(jax.random.key(0), jnp.array([[0.0], [1.0], [9.0]]), jnp.array([0, 0, 1]))
    assert (values == 0).all()
    gradient = jax.jit(jax.grad(lambda v: loss.apply(v, jnp.array([[0.0], [1.0], [9.0]]), jnp.array([0, 0, 1])).sum()))(variables)
    assert (gradient["params"]["beta"] == 0).all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"betas": "each"}, "betas='each' is unknown"),
        ({"beta": float("nan")}, "beta=nan must be finite"),
        ({"margin": -1.0}, "margin=-1.0 must be finite and not negative"),
        ({"regularisation": -1.0}, "regularisation=-1.0 must be finite and not negative"),
        ({"distance": "cosin"}, "did you mean cosine"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LearnedMargin(3, **options).init(jax.random.key(0), jnp.ones((2, 2)), jnp.array([0, 1]))


def test_strange_labels():
    variables = LearnedMargin(2).init(jax.random.key(0), jnp.eye(3), jnp.array([0, 0, 1]))
    with pytest.raises(ValueError, match=r"labels\[2\]=2 is not allowed: labels must be from 0 to 1"):
        LearnedMargin(2).apply(variables, jnp.eye(3), jnp.array([0, 0, 2]))
    assert jnp.isnan(jax.jit(LearnedMargin(2).apply)(variables, jnp.eye(3), jnp.array([-1, -1, 1])).sum())
