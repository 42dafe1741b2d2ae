"""Brightness, contrast, saturation, sharpness and hue against Pillow and colorsys; what jitter draws."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import ImageEnhance

from cnn_jax.ops import augment
from tests.compiled_augmentation import compiled
from tests.pictures import as_bytes, bytes_image, images, pillow, unit

NOTHING = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("adjust", "enhance"),
    [
        (augment.adjust_brightness, ImageEnhance.Brightness),
        (augment.adjust_contrast, ImageEnhance.Contrast),
        (augment.adjust_saturation, ImageEnhance.Color),
        (augment.adjust_sharpness, ImageEnhance.Sharpness),
    ],
)
def test_adjustments_equal_pillows(adjust, enhance, channels):
    array = bytes_image(c=channels)
    adjust = jax.jit(adjust)
    for factor in (0.0, 0.3, 1.0, 1.7):
        expected = np.asarray(enhance(pillow(array)).enhance(factor)).reshape(array.shape)
        # Pillow rounds the other image (mean, grey, smoothed) to bytes before it blends.
        assert np.abs(as_bytes(adjust(unit(array), factor)) - expected).max() <= 2
        batch = adjust(jnp.stack([unit(array), unit(array[::-1])]), factor)
        np.testing.assert_allclose(batch[1], adjust(unit(array[::-1]), factor), atol=1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("turns", [-0.5, -0.21, 0.0, 0.1, 1 / 3, 0.5])
def test_hue_equals_colorsys(turns):
    pixels = np.concatenate([np.random.default_rng(0).random((40, 3)), np.eye(3), 1 - np.eye(3), [[0.3] * 3, [0] * 3, [1] * 3]])
    expected = []
    hue = jax.jit(augment.adjust_hue)
    for rgb in pixels:
        h, s, v = colorsys.rgb_to_hsv(*rgb)
        expected.append(colorsys.hsv_to_rgb((h + turns) % 1, s, v))
    np.testing.assert_allclose(hue(jnp.array(pixels)[None], turns)[0], expected, atol=1e-12)


def test_jitter_ranges_are_torchvisions():
    @jax.jit
    def jittered(key, level, red):
        chosen = (level, {"brightness": 0.4}), (level, {"brightness": (0.2, 0.6)}), (red, {"hue": 0.1})
        return [augment.colour_jitter(key, x, **NOTHING | change) for x, change in chosen]

    level, red = jnp.full((500, 1, 1, 3), 0.5), jnp.broadcast_to(jnp.array([0.8, 0.2, 0.2]), (500, 1, 1, 3))
    bright, darker, turned = map(np.asarray, jittered(jax.random.key(0), level, red))
    assert 0.3 <= bright[..., 0].min() < 0.31
    assert 0.69 < bright[..., 0].max() <= 0.7
    assert 0.1 <= darker.min() < darker.max() <= 0.3
    hues = np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in turned[:, 0, 0].tolist()])
    hues = (hues + 0.5) % 1 - 0.5
    assert -0.101 < hues.min() < -0.09
    assert 0.09 < hues.max() < 0.101
    np.testing.assert_array_equal(augment.colour_jitter(jax.random.key(0), level, **NOTHING), level)


def test_jitter_draws_the_order():
    """Brightness ½ then contrast 2 is not contrast 2 then brightness ½."""
    x = images(b=1)
    jitter = compiled("colour_jitter", **NOTHING | {"brightness": (0.5, 0.5), "contrast": (2.0, 2.0)})

    @jax.jit
    def in_both_orders(x):
        dark_first = augment.adjust_contrast(augment.adjust_brightness(x, 0.5), 2.0)
        return dark_first, augment.adjust_brightness(augment.adjust_contrast(x, 2.0), 0.5)

    orders = in_both_orders(x)
    seen = [[np.allclose(jitter(jax.random.key(k), x), order, atol=1e-6) for order in orders] for k in range(12)]
    assert all(sum(row) == 1 for row in seen)
    assert 0 < sum(row[0] for row in seen) < 12


def test_grey_is_grey():
    x = np.asarray(images(b=400, h=2, w=2))
    y = np.asarray(compiled("random_grey", probability=0.3)(jax.random.key(0), x))
    plain = (y == y[..., :1]).all((1, 2, 3))
    assert abs(plain.mean() - 0.3) < 0.07
    np.testing.assert_allclose(y[plain], np.repeat((x[plain] @ [0.299, 0.587, 0.114])[..., None], 3, axis=-1), rtol=1e-5)
