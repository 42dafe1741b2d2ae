"""The weighted log-sum-exp against loops, and where nothing counts."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses.log_sum_exp import log_sum_exp
from tests.against_oracle import numeric_gradient

pytestmark = pytest.mark.usefixtures("float64")


def oracle(values, weights):
    total = sum(w * math.exp(v) for v, w in zip(values, weights, strict=True) if w)
    return math.log(total) if total else -math.inf


@pytest.mark.parametrize("weights", [[[1, 0, 2.5, 1], [0, 0, 3, 0]], [[True, False, True, True], [False, False, False, True]]])
def test_weighted(weights):
    values = np.random.default_rng(3).normal(size=(2, 4)) * 3
    weights = np.array(weights)
    np.testing.assert_allclose(log_sum_exp(jnp.array(values), jnp.array(weights)), [*map(oracle, values, weights)], rtol=1e-12)
    gradient = jax.jit(jax.grad(lambda v: (log_sum_exp(v, jnp.array(weights)) * jnp.array([0.3, -1.7])).sum()))(jnp.array(values))
    for row, w, factor, found in zip(values, weights, [0.3, -1.7], gradient, strict=True):
        np.testing.assert_allclose(found, factor * numeric_gradient(lambda v, w=w: oracle(v, w), row), rtol=1e-6, atol=1e-9)


def test_what_does_not_count_is_not_read():
    values, weights = jnp.array([[jnp.nan, 1.0, jnp.inf]]), jnp.array([[0, 2, 0]])
    np.testing.assert_allclose(log_sum_exp(values, weights), [1 + math.log(2)])
    gradient = jax.jit(jax.grad(lambda v: log_sum_exp(v, weights).sum()))(values)
    np.testing.assert_allclose(gradient, [[0, 1, 0]])


@pytest.mark.parametrize("values", [[3.0, -2.0], [-np.inf, -np.inf], [np.nan, np.inf]])
def test_of_nothing(values):
    values, none = jnp.array(values), jnp.zeros(2, bool)
    assert log_sum_exp(values, none) == -jnp.inf
    assert (jax.jit(jax.grad(log_sum_exp))(values, none) == 0).all()
    assert (jax.jit(jax.grad(lambda v: jax.nn.softplus(log_sum_exp(v, none))))(values) == 0).all()
    assert log_sum_exp(jnp.zeros((3, 0)), jnp.zeros((3, 0))).tolist() == [-np.inf] * 3


def test_large_values_do_not_overflow_and_those_that_are_not_numbers_show():
    far = jnp.array([5000.0, 5000.0, -5000.0])
    np.testing.assert_allclose(log_sum_exp(far, jnp.ones(3)), 5000 + math.log(2))
    np.testing.assert_allclose(jax.jit(jax.grad(log_sum_exp))(far, jnp.ones(3)), [0.5, 0.5, 0])
    assert jnp.isnan(log_sum_exp(jnp.array([1.0, jnp.nan]), jnp.ones(2)))
    assert log_sum_exp(jnp.array([1.0, jnp.inf]), jnp.ones(2)) == jnp.inf


def test_differing_shapes_are_refused(unchecked):
    with pytest.raises(ValueError, match=r"weights \[2\]"):
        log_sum_exp(jnp.zeros(3), jnp.zeros(2))
