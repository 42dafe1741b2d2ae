"""Flips: only flips, and as many as are said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiled_augmentation import compiled
from tests.pictures import images


def test_flip_flips_some_and_only_flips():
    x = images(b=32)
    y = np.asarray(compiled("random_flip")(jax.random.key(0), x))
    flipped = [not np.array_equal(a, b) for a, b in zip(x, y, strict=True)]
    assert 5 < sum(flipped) < 27
    for f, a, b in zip(flipped, np.asarray(x), y, strict=True):
        np.testing.assert_array_equal(b, a[:, ::-1] if f else a)


@pytest.mark.parametrize(("name", "probability"), [("random_flip", None), ("random_vertical_flip", 0.5), ("random_vertical_flip", 0.2)])
def test_flips_are_as_frequent_as_said(name, probability):
    x = jnp.broadcast_to(jnp.arange(4.0).reshape(1, 2, 2, 1) / 4, (4000, 2, 2, 1))
    y = compiled(name, **({} if probability is None else {"probability": probability}))(jax.random.key(5), x)
    assert abs(float((y != x).any((1, 2, 3)).mean()) - (probability or 0.5)) < 0.03
