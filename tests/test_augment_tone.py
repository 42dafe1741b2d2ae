"""Tones (invert, posterize, solarize, equalize, autocontrast) against Pillow, byte for byte."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import ImageOps

from cnn_jax.ops import augment
from tests.pictures import as_bytes, bytes_image, images, pillow, unit


def test_tones_equal_pillows():
    array = bytes_image(h=60, w=50)  # eleven pixels a level: equalize rounds
    picture, x = pillow(array), unit(array)

    def same(ours, theirs, tolerance=0):
        assert np.abs(as_bytes(ours) - np.asarray(theirs).reshape(array.shape)).max() <= tolerance

    posterize, solarize, equalize = map(jax.jit, (augment.posterize, augment.solarize, augment.equalize))
    same(augment.invert(x), ImageOps.invert(picture))
    for bits in (1, 3, 4, 8):
        same(posterize(x, float(bits)), ImageOps.posterize(picture, bits))
    for level in (0, 77, 128, 256):
        same(solarize(x, level / 255), ImageOps.solarize(picture, level))
    same(equalize(x), ImageOps.equalize(picture))
    same(jax.jit(augment.autocontrast)(x), ImageOps.autocontrast(picture), 1)  # Pillow cuts its table's decimals off
    np.testing.assert_array_equal(equalize(jnp.stack([x[::-1], x]))[1], equalize(x))


def test_flat_channels_and_tiny_images_stay():
    x = np.array(unit(bytes_image()))
    x[..., 0], x[..., 2] = 0.3, 1.0
    for y in (jax.jit(augment.equalize)(x), jax.jit(augment.autocontrast)(x)):
        np.testing.assert_array_equal(y[..., ::2], x[..., ::2])
        assert np.abs(y - x)[..., 1].max() > 0.05
    few = images(b=1, h=5, w=5)[0]
    np.testing.assert_array_equal(jax.jit(augment.equalize)(few), few)
    np.testing.assert_array_equal(jax.jit(augment.adjust_sharpness)(few[:2], 0.0), few[:2])
