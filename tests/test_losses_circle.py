"""Circle loss over a batch against loops, with its weights held constant for the gradient."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses.circle import circle
from tests.embedding_cases import CASES, assert_equals_batch_oracle, cosines, make_case, mean
from tests.mined_cases import assert_equals_when_mined, mined_case, over_pairs

pytestmark = pytest.mark.usefixtures("float64")
BATCHES = [make_case(case)[0] for case in CASES] + [mined_case()[0]]


def oracle(x, positives, negatives, where, margin=0.4, scale=80.0):
    """Weights are those of the batch that x is a small step away from: so its differences are the loss's gradient."""
    near = min((batch for batch in BATCHES if batch.shape == x.shape), key=lambda batch: np.abs(batch - x).max())
    c, constant, losses = cosines(x), cosines(near), []
    for anchor in range(len(where)):
        pulls = [math.exp(-scale * max(0, 1 + margin - constant[a, p]) * (c[a, p] - 1 + margin)) for a, p in set(positives) if a == anchor]
        pushes = [math.exp(scale * max(0, constant[a, n] + margin) * (c[a, n] - margin)) for a, n in set(negatives) if a == anchor]
        if pulls and pushes:
            losses.append(math.log(1 + sum(pulls) * sum(pushes)))
    return mean(losses)


OTHER = {"margin": 0.25, "scale": 3.0}


@pytest.mark.parametrize("options", [{}, OTHER])
def test_against_loops(options):
    assert_equals_batch_oracle(circle, over_pairs(oracle), **options)


def test_mined():
    assert_equals_when_mined(circle, oracle, **OTHER)


def test_far_from_the_optimum_it_does_not_overflow():
    x, labels = jnp.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], jnp.float32), jnp.array([0, 0, 1])
    of_first = circle(x, labels, scale=256.0)[0]  # pulled by 256·2.4·1.6, pushed by 256·1.4·0.6
    np.testing.assert_allclose(of_first * 2 / 3, 256 * (2.4 * 1.6 + 1.4 * 0.6), rtol=1e-5)


@pytest.mark.parametrize("options", [{"margin": -0.1}, {"scale": 0.0}])
def test_what_is_refused(options, unchecked):
    with pytest.raises(ValueError, match=f"{next(iter(options))}=.* must be finite"):
        circle(jnp.ones((3, 2)), jnp.array([0, 0, 1]), **options)
