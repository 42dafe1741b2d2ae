"""Convolution, pooling, normalisation and distances against loops, in float64, value and gradient."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.ops.augment import random_flip, random_resized_crop, random_shift
from cnn_jax.ops.distance import euclidean_distances, squared_distances, unit_length
from cnn_jax.ops.pool import average_pool, global_average_pool, max_pool


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("window", "stride", "padding"), [(2, None, 0), (3, 2, 1), (3, 1, 0)])
def test_pooling_equals_a_loop(window, stride, padding):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 7, 6, 3)) - 5  # all negative: a padded zero must not win a maximum
    step = stride or window
    for ours, reduce, fill in ((max_pool, np.max, -np.inf), (average_pool, np.mean, 0.0)):
        padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=fill)
        h, w = ((padded.shape[i] - window) // step + 1 for i in (1, 2))
        expected = np.zeros((2, h, w, 3))
        for i, j in itertools.product(range(h), range(w)):
            expected[:, i, j] = reduce(padded[:, i * step : i * step + window, j * step : j * step + window], axis=(1, 2))
        np.testing.assert_allclose(ours(jnp.array(x), window, stride=stride, padding=padding), expected, rtol=1e-12)
    np.testing.assert_allclose(global_average_pool(jnp.array(x)), x.mean((1, 2)), rtol=1e-12)


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


def images(b=6, h=5, w=4):
    return jnp.array(np.random.default_rng(6).random((b, h, w, 3)), jnp.float32)


def test_flip_flips_some_and_only_flips():
    x = images(b=32)
    y = np.asarray(random_flip(jax.random.key(0), x))
    flipped = [not np.array_equal(a, b) for a, b in zip(x, y, strict=True)]
    assert 5 < sum(flipped) < 27
    for f, a, b in zip(flipped, np.asarray(x), y, strict=True):
        np.testing.assert_array_equal(b, a[:, ::-1] if f else a)


def test_shift_equals_a_padded_crop():
    x = np.asarray(images(b=16))
    y = np.asarray(random_shift(jax.random.key(1), jnp.array(x), pixels=2))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    seen = set()
    for a, b in zip(padded, y, strict=True):
        places = [(r, c) for r in range(5) for c in range(5) if np.array_equal(a[r : r + 5, c : c + 4], b)]
        assert places
        seen.add(places[0])
    assert len(seen) > 5


def test_resized_crop_of_a_ramp_is_a_ramp_inside_it():
    """Cropping and resizing a linear ramp gives a linear ramp whose ends lie inside the picture's."""
    ramp = jnp.broadcast_to(jnp.linspace(0, 1, 32)[None, None, :, None], (8, 32, 32, 1))
    y = np.asarray(random_resized_crop(jax.random.key(2), ramp, size=16, min_area=0.3))
    assert y.shape == (8, 16, 16, 1)
    inner = y[:, 4:12, 3:13, 0]
    np.testing.assert_allclose(np.diff(inner, 2, axis=2), 0, atol=0.01)  # the anti-aliasing filter ripples a little
    assert (np.diff(inner, axis=2) > 0).all()
    assert y.min() >= 0
    assert y.max() <= 1 + 1e-6


@pytest.mark.parametrize("augment", [random_flip, random_shift, lambda k, x, **kw: random_resized_crop(k, x, size=4, **kw)])
def test_augmentation_is_the_same_on_any_number_of_devices(augment):
    x, key = images(b=8), jax.random.key(3)
    whole = augment(key, x)
    mapped = jax.pmap(lambda part: augment(key, part, axis_name="data"), "data")(x.reshape(4, 2, 5, 4, 3))
    np.testing.assert_allclose(np.asarray(mapped).reshape(whole.shape), whole, rtol=1e-5, atol=1e-6)
