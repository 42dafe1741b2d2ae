"""Rows scaled to unit length, in all of a type's range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.ops.distance import unit_length


@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [
        (jnp.float16, [300.0, 3e4, 1e-3, 1.0]),
        (jnp.bfloat16, [1e-4, 1e15, 1e30, 1.0]),
        (jnp.float32, [1e-10, 1.0, 1e17, 1e20, 1e38]),
    ],
)
def test_unit_length_in_all_of_a_types_range(dtype, sizes):
    direction, other = np.array([1.0, -2.0, 2.0]), np.array([1.0, 3.0, -1.0])
    x = jnp.array([direction * s for s in sizes], dtype)
    seen = np.asarray(x, np.float64)
    lengths = np.array([[np.sqrt(sum(v * v for v in row))] for row in seen])
    value, pull = jax.vjp(unit_length, x)
    assert value.dtype == dtype
    tolerance = 1e-6 if dtype == jnp.float32 else 1e-2
    np.testing.assert_allclose(np.asarray(value, np.float64), seen / lengths, rtol=tolerance)
    (gradient,) = pull(jnp.array([other] * len(sizes), dtype))
    unit = seen / lengths
    expected = (other - unit * (unit * other).sum(1, keepdims=True)) / lengths
    assert np.isfinite(np.asarray(gradient, np.float64)).all()
    within = (lengths[:, 0] < 1e17) & (lengths[:, 0] > 1e-3)  # where the gradient itself is a number of the type
    np.testing.assert_allclose(np.asarray(gradient, np.float64)[within], expected[within], rtol=tolerance, atol=1e-7)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_unit_length_of_zero_is_zero(dtype):
    value, pull = jax.vjp(unit_length, jnp.zeros((2, 3), dtype))
    assert (value == 0).all()
    assert jnp.isfinite(pull(jnp.ones((2, 3), dtype))[0]).all()


def test_unit_length_of_ordinary_numbers_is_x_over_its_norm_to_the_bit():
    x = jnp.array(np.random.default_rng(0).normal(size=(16, 33)), jnp.float32)
    assert (unit_length(x) == x / jnp.sqrt(jnp.square(x).sum(-1, keepdims=True))).all()
