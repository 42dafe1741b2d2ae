"""Resized crops: boxes are read off images of coordinates; their distribution, and every value against sampling them in loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest

from tests.compiled_augmentation import compiled

LARGE = 24  # larger than the images: interpolation between two pixels, which leaves coordinates what they are


def coordinates(num, height, width):
    """Images of three channels: the row, the column, and noise that is the same in each."""
    noise = np.random.default_rng(0).random((height, width))
    rows, columns = np.mgrid[:height, :width]
    return np.broadcast_to(np.stack([rows, columns, noise], -1).astype(np.float32), (num, height, width, 3))


def boxes(y):
    """Starts [num, 2] and sides [num, 2], in pixels from the upper left corner, as the inner part of the enlarged coordinates shows."""
    first, last = LARGE // 3, LARGE - LARGE // 3
    rows, columns = y[:, :, LARGE // 2, 0], y[:, LARGE // 2, :, 1]
    at = np.stack([rows, columns], 1).astype(np.float64)  # the place seen at i is start + (i + 1/2) · side / LARGE − 1/2
    step = (at[:, :, last] - at[:, :, first]) / (last - first)
    return at[:, :, first] + 0.5 - (first + 0.5) * step, step * LARGE


def drawn(num, height, width, **options):
    crop = compiled("random_resized_crop", size=LARGE, **options)
    y = np.concatenate([np.asarray(crop(jax.random.key(seed), coordinates(num // 2, height, width))) for seed in (1, 2)])
    starts, sides = boxes(y)
    assert len(np.unique(sides.prod(1).round(4))) > 0.95 * num  # each example and each key has its own
    whole = np.array([height, width])
    assert (starts > -1e-3).all()
    assert (starts + sides < whole + 1e-3).all()
    return starts, sides, whole


def uniform(values, low, high):
    """Within the bounds, near to both, and evenly between them."""
    assert values.min() > low - 1e-3
    assert values.max() < high + 1e-3
    assert values.min() < low + 0.02 * (high - low)
    assert values.max() > high - 0.02 * (high - low)
    assert kstest((values - low) / (high - low), "uniform").pvalue > 0.01


def test_area_aspect_and_both_places_are_uniform_and_independent():
    """Of 16 × 12 pixels, what covers less than half is never cut to the image: there all four draws can be read off the box."""
    starts, sides, whole = drawn(2000, 16, 12, min_area=0.1, max_aspect=1.5)
    area, aspect = sides.prod(1) / whole.prod(), np.log(sides[:, 1] / sides[:, 0]) / np.log(1.5)
    assert area.min() > 0.1 - 1e-3
    assert area.max() > 0.95
    small = area < 0.5
    assert abs(small.mean() - 0.4 / 0.9) < 0.045
    place = starts[small] / (whole - sides[small])
    uniform(area[small], 0.1, 0.5)
    for values, low in ((aspect[small], -1), (place[:, 0], 0), (place[:, 1], 0)):
        uniform(values, low, 1)
    between = np.corrcoef([area[small], aspect[small], *place.T])
    assert np.abs(between[~np.eye(4, dtype=bool)]).max() < 0.12  # 900 boxes: the standard deviation is 0.033


def test_sides_that_would_be_longer_are_cut_to_the_image():
    starts, sides, whole = drawn(2000, 16, 12, min_area=0.1, max_aspect=1.5)
    for axis in (0, 1):
        full = sides[:, axis] > whole[axis] - 1e-3
        assert 0.005 < full.mean() < 0.5
        np.testing.assert_allclose(starts[full, axis], 0, atol=2e-3)
    uncut = (sides < whole - 1e-2).all(1)
    assert np.abs(np.log(sides[uncut, 1] / sides[uncut, 0])).max() < np.log(1.5) + 1e-3


def test_squares_of_all_sizes_up_to_the_image():
    _, sides, whole = drawn(1000, 11, 11, min_area=0.3, max_aspect=1.0)
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], rtol=1e-3)
    uniform(sides.prod(1) / whole.prod(), 0.3, 1.0)


def sampled(image, start, side, size):
    """Each result is an average around its place in the box: of two neighbours where enlarged, of a pixel's whole width where reduced.

    Weights fall off linearly with the distance, to nothing at a result's spacing or one pixel, whichever is more, along each axis.
    """
    weights = []
    for n, a, s in zip(image.shape, start, side, strict=True):
        rows = np.zeros((size, n))
        for i in range(size):
            place = a + (i + 0.5) * s / size - 0.5
            for j in range(n):
                rows[i, j] = max(0, 1 - abs(j - place) / max(s / size, 1))
        weights.append(rows / rows.sum(1, keepdims=True))
    return weights[0] @ image @ weights[1].T


@pytest.mark.parametrize("size", [LARGE, 9, 3])
def test_values_are_those_of_the_box_interpolated(size):
    """A key gives the same boxes whatever the size; enlarged, both ways at once, and reduced."""
    x = coordinates(200, 16, 12)
    options = {"min_area": 0.1, "max_aspect": 1.5}
    starts, sides = boxes(np.asarray(compiled("random_resized_crop", size=LARGE, **options)(jax.random.key(3), x)))
    y = np.asarray(compiled("random_resized_crop", size=size, **options)(jax.random.key(3), jnp.array(x)))
    assert y.shape == (200, size, size, 3)
    for image, crop, start, side in zip(x[:40].astype(np.float64), y, starts, sides, strict=False):
        for c in range(3):
            np.testing.assert_allclose(crop[..., c], sampled(image[..., c], start, side, size), atol=2e-3)
