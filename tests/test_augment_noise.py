"""Noise, erased rectangles and cutout: their deviation, area, aspect and places."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.ops import augment
from tests.compiled_augmentation import compiled
from tests.pictures import images, rectangle


def test_noise_has_the_deviation_that_is_said():
    x = jnp.full((4, 40, 40, 3), 0.5)
    difference = np.asarray(compiled("random_noise", deviation=0.05)(jax.random.key(0), x) - x)
    assert abs(difference.std() - 0.05) < 0.001
    assert abs(difference.mean()) < 0.001
    assert np.abs(np.corrcoef(difference.reshape(4, -1)) - np.eye(4)).max() < 0.06


def test_erased_rectangles_have_the_area_and_aspect_that_are_said():
    h, w = 60, 50
    y = np.asarray(compiled("random_erase")(jax.random.key(0), jnp.ones((600, h, w, 1))))[..., 0]
    erased = [rectangle(image == 0) for image in y if (image == 0).any()]
    assert abs(len(erased) / 600 - 0.5) < 0.06
    top, left, bottom, right = np.array(erased).T
    areas, aspects = (bottom - top) * (right - left) / (h * w), (bottom - top) / (right - left)
    assert 0.015 < areas.min() < 0.04
    assert 0.29 < areas.max() < 0.35
    assert 0.27 < aspects.min() < 0.4
    assert 2.6 < aspects.max() < 3.7
    assert top.min() == 0
    assert left.min() == 0
    assert bottom.max() == h
    assert right.max() == w


def test_erasing_with_noise_or_a_value():
    x = images(b=16, h=12, w=12)

    @jax.jit
    def erased(key, x):
        chosen = {"value": "noise"}, {"fill": 0.95}, {"area": (1.0, 1.0)}
        return [augment.random_erase(key, x, probability=1.0, **options) for options in chosen]

    noisy, filled, tried = map(np.asarray, erased(jax.random.key(0), x))
    covered = filled == np.float32(0.95)
    assert covered.any((1, 2, 3)).all()
    np.testing.assert_array_equal(noisy[~covered], np.asarray(x)[~covered])
    assert len(np.unique(noisy[covered])) > 0.9 * covered.sum()
    np.testing.assert_array_equal(tried, x)  # no side is shorter than the image's


@pytest.mark.parametrize("size", [3, 4])
def test_cutout_covers_a_square_about_any_pixel(size):
    h, w = 7, 9
    y = np.asarray(compiled("cutout", size=size)(jax.random.key(0), jnp.ones((2000, h, w, 1))))[..., 0]
    boxes = {rectangle(image == 0) for image in y}
    lows = [(r - size // 2, c - size // 2) for r, c in itertools.product(range(h), range(w))]
    assert boxes == {(max(r, 0), max(c, 0), min(r + size, h), min(c + size, w)) for r, c in lows}
