"""Convolution, normalisation and distances against loops, in float64, value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.ops.distance import euclidean_distances, squared_distances, unit_length


@pytest.mark.usefixtures("float64")
def test_distances_equal_a_loop():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(5, 3)) + 100, rng.normal(size=(7, 3)) + 100
    expected = np.array([[((a - b) ** 2).sum() for b in y] for a in x])
    np.testing.assert_allclose(squared_distances(jnp.array(x), jnp.array(y)), expected, rtol=1e-9)
    np.testing.assert_allclose(euclidean_distances(jnp.array(x), jnp.array(y)), np.sqrt(expected), rtol=1e-9)


def test_distance_gradients_are_finite_where_points_coincide():
    x = jnp.array([[1.0, 2.0], [1.0, 2.0], [0.0, 1.0]])
    assert np.isfinite(jax.grad(lambda x: euclidean_distances(x, x).sum())(x)).all()
    assert np.isfinite(jax.grad(lambda x: unit_length(x).sum())(jnp.zeros((2, 3)))).all()
