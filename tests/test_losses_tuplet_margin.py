"""Tuplet margin loss over a batch against loops."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses.tuplet_margin import tuplet_margin
from tests.embedding_cases import assert_equals_batch_oracle, mean
from tests.mined_cases import assert_equals_when_mined, negatives_of, over_pairs

pytestmark = pytest.mark.usefixtures("float64")


def angle(u, v):
    """From the sum and the difference of unit vectors: exact for parallel ones, and 90° to a zero vector."""
    u, v = (w / np.linalg.norm(w) if w.any() else w for w in (u, v))
    return 2 * math.atan2(np.linalg.norm(u - v), np.linalg.norm(u + v)) if u.any() or v.any() else math.pi / 2


def oracle(x, positives, negatives, where, margin=5.73, scale=64.0):
    losses = []
    for a, p in positives:
        slackened = math.cos(angle(x[a], x[p]) - math.radians(margin))
        losses.append(math.log(1 + sum(math.exp(scale * (math.cos(angle(x[a], x[n])) - slackened)) for n in negatives_of(a, negatives))))
    return mean(losses)


OTHER = {"margin": 31.0, "scale": 3.0}


@pytest.mark.parametrize("options", [{}, OTHER])
def test_against_loops(options):
    assert_equals_batch_oracle(tuplet_margin, over_pairs(oracle), **options)


def test_mined():
    assert_equals_when_mined(tuplet_margin, oracle, **OTHER)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_pairs_without_an_angles_derivative_are_not_thrown(dtype):
    """Scaled copies and opposites of many coordinates, whose cosines round to beside ±1."""
    first = np.random.default_rng(0).normal(size=(6, 64))
    x, labels = jnp.array(np.concatenate([first, 3 * first, -first]), dtype), jnp.tile(jnp.arange(6), 3)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: tuplet_margin(x, labels).mean()))(x)
    assert jnp.isfinite(value)
    assert jnp.abs(gradient).max() < 64  # the scale; 1/√ε times it would be thousands


@pytest.mark.parametrize(("options", "message"), [({"margin": 91.0}, "margin=91.0 must be from 0 to 90"), ({"scale": 0.0}, "scale=0.0")])
def test_what_is_refused(options, message, unchecked):
    with pytest.raises(ValueError, match=message):
        tuplet_margin(jnp.ones((3, 2)), jnp.array([0, 0, 1]), **options)
