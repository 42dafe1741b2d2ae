"""Shifts and crops against slices of the padded picture."""

import itertools

import jax
import numpy as np
import pytest

from tests.compiled_augmentation import compiled
from tests.pictures import images


def test_shift_equals_a_padded_crop():
    x = np.asarray(images(b=16, h=5, w=4))
    y = np.asarray(compiled("random_shift", pixels=2)(jax.random.key(1), x))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    seen = set()
    for a, b in zip(padded, y, strict=True):
        places = [(r, c) for r in range(5) for c in range(5) if np.array_equal(a[r : r + 5, c : c + 4], b)]
        assert places
        seen.add(places[0])
    assert len(seen) > 5


@pytest.mark.parametrize(("border", "mode"), [("zeros", "constant"), ("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
def test_random_crop_cuts_every_part_of_the_padded_image(border, mode):
    x = np.broadcast_to(np.asarray(images(b=1, h=5, w=4)), (200, 5, 4, 3))
    y = np.asarray(compiled("random_crop", size=(4, 5), padding=1, border=border)(jax.random.key(1), x))
    padded = np.pad(x[0], ((1, 1), (1, 1), (0, 0)), mode=mode)
    parts = [padded[r : r + 4, c : c + 5] for r, c in itertools.product(range(4), range(2))]
    counts = np.array([[np.array_equal(part, crop) for part in parts] for crop in y])
    assert (counts.sum(1) == 1).all()
    assert (counts.sum(0) > 8).all()  # 25 are expected of each


def test_center_crop_leaves_the_odd_pixel_below_and_right():
    x = images(b=2, h=8, w=9)
    np.testing.assert_array_equal(compiled("center_crop", size=(5, 4))(jax.random.key(0), x), x[:, 1:6, 2:6])
