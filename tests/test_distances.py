"""Distances between rows: each against loops, value and gradient; copies, constant rows and zeros; in blocks of rows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.ops.distance import (
    DISTANCES,
    by_rows,
    cosine_similarities,
    dot_products,
    euclidean_distances,
    lp_distances,
    snr_distances,
    squared_distances,
    unit_length,
)  # fmt: skip

ORACLES = {
    "euclidean": (euclidean_distances, lambda a, b: sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) ** 0.5),
    "squared": (squared_distances, lambda a, b: sum((p - q) ** 2 for p, q in zip(a, b, strict=True))),
    "l1": (partial(lp_distances, p=1.0), lambda a, b: sum(abs(p - q) for p, q in zip(a, b, strict=True))),
    "l1.5": (partial(lp_distances, p=1.5), lambda a, b: sum(abs(p - q) ** 1.5 for p, q in zip(a, b, strict=True)) ** (1 / 1.5)),
    "l4": (partial(lp_distances, p=4.0), lambda a, b: sum(abs(p - q) ** 4 for p, q in zip(a, b, strict=True)) ** 0.25),
    "dot": (dot_products, lambda a, b: sum(p * q for p, q in zip(a, b, strict=True))),
    "cosine": (cosine_similarities, lambda a, b: sum(p * q for p, q in zip(a, b, strict=True)) / (length(a) * length(b))),
    "snr": (snr_distances, lambda a, b: variance([q - p for p, q in zip(a, b, strict=True)]) / variance(a)),
}


def length(a):
    return sum(v * v for v in a) ** 0.5


def variance(a):
    return sum((v - sum(a) / len(a)) ** 2 for v in a) / len(a)


def slope(function, x, step=1e-6):
    """The gradient of a function of NumPy's by central differences."""
    result = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        for sign in (1, -1):
            moved = x.copy()
            moved[at] += sign * step
            result[at] += sign * function(moved) / (2 * step)
    return result


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("blocked", [False, True])
def test_each_equals_loops_value_and_gradient(name, blocked):
    function, oracle = ORACLES[name]
    function = by_rows(function, block=2) if blocked and name not in ("euclidean", "squared") else function
    rng = np.random.default_rng(7)
    x, y, weights = rng.normal(size=(5, 3)) + 0.4, 2 * rng.normal(size=(4, 3)), rng.normal(size=(5, 4))

    def loops(x, y):
        return np.array([[oracle(a, b) for b in y] for a in x])

    np.testing.assert_allclose(function(jnp.array(x), jnp.array(y)), loops(x, y), rtol=1e-9)
    gradients = jax.jit(jax.grad(lambda x, y: (function(x, y) * weights).sum(), argnums=(0, 1)))(jnp.array(x), jnp.array(y))
    np.testing.assert_allclose(gradients[0], slope(lambda x: (loops(x, y) * weights).sum(), x), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(gradients[1], slope(lambda y: (loops(x, y) * weights).sum(), y), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("e", [2, 32, 256, 1024])
def test_copies_are_at_zero_whatever_their_length(e):
    x = np.random.default_rng(e).normal(size=(64, e))
    x = jnp.array(x / np.linalg.norm(x, axis=1, keepdims=True), jnp.float32)
    twice = euclidean_distances(x, jnp.concatenate([x, x]))
    assert (jnp.diag(twice) == 0).all()
    assert (jnp.diag(twice, 64) == 0).all()
    near = x + 3e-3 * jnp.roll(x, 1, axis=0) / jnp.linalg.norm(x[0])
    np.testing.assert_allclose(jnp.diag(euclidean_distances(x, near)), 3e-3, rtol=0.3)  # what is near is not a copy


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("constant", [0.1, 1e4, -3.3, 0.0])
def test_a_row_that_does_not_vary_has_no_signal(dtype, constant):
    with jax.enable_x64(dtype == jnp.float64):
        x = jnp.array(np.random.default_rng(0).normal(size=(4, 7)), dtype).at[jnp.array([1, 3])].set(constant)
        value, pull = jax.vjp(lambda x: snr_distances(x, x), x)
        assert (value[jnp.array([1, 3])] == 0).all()
        assert (value[0, 1:] > 0).all()
        (gradient,) = pull(jnp.ones_like(value))
        assert jnp.abs(gradient).max() < 1e3


@pytest.mark.parametrize("name", DISTANCES)
def test_every_distance_by_name_is_smaller_for_what_is_alike_and_has_a_finite_gradient(name):
    x = jnp.array([[1.0, 2.0, -1.0], [1.0, 2.0, -1.0], [-3.0, 0.5, 2.0], [0.0, 0.0, 0.0]])
    function = DISTANCES[name]
    assert function(x, x)[0, 1] < function(x, x)[0, 2]
    assert jnp.isfinite(jax.jit(jax.grad(lambda x: function(x, x).sum()))(x)).all()


@pytest.mark.usefixtures("float64")
def test_distances_far_from_the_origin_equal_a_loop():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(5, 3)) + 100, rng.normal(size=(7, 3)) + 100
    expected = np.array([[((a - b) ** 2).sum() for b in y] for a in x])
    np.testing.assert_allclose(squared_distances(jnp.array(x), jnp.array(y)), expected, rtol=1e-9)
    np.testing.assert_allclose(euclidean_distances(jnp.array(x), jnp.array(y)), np.sqrt(expected), rtol=1e-9)


def test_distance_gradients_are_finite_where_points_coincide():
    x = jnp.array([[1.0, 2.0], [1.0, 2.0], [0.0, 1.0]])
    assert np.isfinite(jax.jit(jax.grad(lambda x: euclidean_distances(x, x).sum()))(x)).all()
    assert np.isfinite(jax.jit(jax.grad(lambda x: unit_length(x).sum()))(jnp.zeros((2, 3)))).all()
