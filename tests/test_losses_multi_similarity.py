"""Multi-similarity loss over a batch against loops."""

import math

import jax.numpy as jnp
import pytest

from cnn_jax.losses.multi_similarity import multi_similarity
from tests.embedding_cases import assert_equals_batch_oracle, cosines, mean
from tests.mined_cases import assert_equals_when_mined, over_pairs

pytestmark = pytest.mark.usefixtures("float64")


def oracle(x, positives, negatives, where, alpha=2.0, beta=50.0, base=0.5):
    c, losses = cosines(x), []
    for anchor in range(len(where)):
        if where[anchor]:
            drawn = sum(math.exp(-alpha * (c[a, p] - base)) for a, p in set(positives) if a == anchor)
            pushed = sum(math.exp(beta * (c[a, n] - base)) for a, n in set(negatives) if a == anchor)
            losses.append(math.log(1 + drawn) / alpha + math.log(1 + pushed) / beta)
    return mean(losses)


OTHER = {"alpha": 1.3, "beta": 4.0, "base": -0.2}


@pytest.mark.parametrize("options", [{}, OTHER])
def test_against_loops(options):
    assert_equals_batch_oracle(multi_similarity, over_pairs(oracle), **options)


def test_mined():
    assert_equals_when_mined(multi_similarity, oracle, **OTHER)


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"beta": -1.0}, {"base": math.nan}])
def test_what_is_refused(options, unchecked):
    with pytest.raises(ValueError, match=f"{next(iter(options))}=.* must be finite"):
        multi_similarity(jnp.ones((3, 2)), jnp.array([0, 0, 1]), **options)
