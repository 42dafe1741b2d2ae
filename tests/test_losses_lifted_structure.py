"""Lifted structure losses over a batch against loops."""

import math

import jax.numpy as jnp
import pytest

from cnn_jax.losses.lifted_structure import generalised_lifted_structure, lifted_structure
from tests.embedding_cases import assert_equals_batch_oracle, cosines, euclidean, mean
from tests.mined_cases import assert_equals_when_mined, negatives_of, over_pairs

pytestmark = pytest.mark.usefixtures("float64")


def matrix(x, distance):
    return euclidean(x) if distance == "euclidean" else 1 - cosines(x)


def lifted_oracle(x, positives, negatives, where, positive_margin=0.0, negative_margin=1.0, distance="euclidean"):
    d, losses = matrix(x, distance), []
    for a, p in positives:
        pushed = sum(math.exp(negative_margin - d[i, n]) for i in (a, p) for n in negatives_of(i, negatives))
        violation = math.log(pushed) + d[a, p] - positive_margin if pushed else -math.inf
        losses.append(max(0, violation) ** 2 / 2)
    return mean(losses)


def generalised_oracle(x, positives, negatives, where, positive_margin=0.0, negative_margin=1.0, distance="euclidean"):
    d, losses = matrix(x, distance), []
    for anchor in range(len(where)):
        drawn = sum(math.exp(d[a, p] - positive_margin) for a, p in set(positives) if a == anchor)
        pushed = sum(math.exp(negative_margin - d[a, n]) for a, n in set(negatives) if a == anchor)
        if drawn and pushed:
            losses.append(max(0, math.log(drawn) + math.log(pushed)))
    return mean(losses)


BOTH = [(lifted_structure, lifted_oracle), (generalised_lifted_structure, generalised_oracle)]
# Margins at which some violations are below zero, and some above.
OTHER = {"positive_margin": 1.3, "negative_margin": 0.2}


@pytest.mark.parametrize("options", [{}, OTHER, {"distance": "cosine"}])
@pytest.mark.parametrize(("loss_fn", "oracle"), BOTH)
def test_against_loops(loss_fn, oracle, options):
    assert_equals_batch_oracle(loss_fn, over_pairs(oracle), **options)


@pytest.mark.parametrize(("loss_fn", "oracle"), BOTH)
def test_mined(loss_fn, oracle):
    assert_equals_when_mined(loss_fn, oracle, **OTHER)


@pytest.mark.parametrize("name", ["positive_margin", "negative_margin"])
@pytest.mark.parametrize(("loss_fn", "oracle"), BOTH)
def test_what_is_refused(loss_fn, oracle, name, unchecked):
    with pytest.raises(ValueError, match=f"{name}=inf must be finite"):
        loss_fn(jnp.ones((3, 2)), jnp.array([0, 0, 1]), **{name: math.inf})
