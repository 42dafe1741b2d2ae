"""Angular loss over a batch against loops."""

import math

import jax
import jax.numpy as jnp
import pytest

from cnn_jax.losses.angular import angular
from tests.embedding_cases import assert_equals_batch_oracle, cosines, make_case, mean
from tests.mined_cases import assert_equals_when_mined, negatives_of, over_pairs

pytestmark = pytest.mark.usefixtures("float64")


def oracle(x, positives, negatives, where, angle=40.0):
    c, t2, losses = cosines(x), math.tan(math.radians(angle)) ** 2, []
    for a, p in positives:
        terms = [4 * t2 * (c[a, n] + c[p, n]) - 2 * (1 + t2) * c[a, p] for n in negatives_of(a, negatives)]
        losses.append(math.log(1 + sum(math.exp(f) for f in terms)))
    return mean(losses)


@pytest.mark.parametrize("angle", [40.0, 55.0])
def test_against_loops(angle):
    assert_equals_batch_oracle(angular, over_pairs(oracle), angle=angle)


def test_mined():
    assert_equals_when_mined(angular, oracle)


def test_wide_angles_do_not_overflow():
    x, labels, _ = make_case("random")
    value, gradient = jax.jit(jax.value_and_grad(lambda x: angular(x, jnp.array(labels), angle=89.0).mean()))(jnp.array(x, jnp.float32))
    assert value > 100
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("angle", [0.0, 90.0])
def test_what_is_refused(angle, unchecked):
    with pytest.raises(ValueError, match=f"angle={angle} must be above 0 and below 90"):
        angular(jnp.ones((3, 2)), jnp.array([0, 0, 1]), angle=angle)
