"""RandAugment's operations against Pillow's, and how often each is drawn."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from cnn_jax.ops import augment
from cnn_jax.ops.augment.randaugment import OPERATIONS, Amounts, operate
from tests.compiled_augmentation import compiled
from tests.pictures import as_bytes, bytes_image, pillow, unit


def pillow_operation(name, picture, strength, sign, amounts):
    """The operation as the reference implementations of RandAugment do it with Pillow."""
    lean, change = sign * strength * amounts.shear, 1 + sign * strength * amounts.change
    x, y = (math.trunc(sign * strength * most) for most in amounts.translate)
    affine = partial(picture.transform, picture.size, Image.Transform.AFFINE)
    return {
        "identity": lambda: picture,
        "shear_x": lambda: affine((1, lean, 0, 0, 1, 0)),
        "shear_y": lambda: affine((1, 0, 0, lean, 1, 0)),
        "translate_x": lambda: affine((1, 0, -x, 0, 1, 0)),
        "translate_y": lambda: affine((1, 0, 0, 0, 1, -y)),
        "rotate": lambda: picture.rotate(sign * strength * amounts.degrees),
        "brightness": lambda: ImageEnhance.Brightness(picture).enhance(change),
        "colour": lambda: ImageEnhance.Color(picture).enhance(change),
        "contrast": lambda: ImageEnhance.Contrast(picture).enhance(change),
        "sharpness": lambda: ImageEnhance.Sharpness(picture).enhance(change),
        "posterize": lambda: ImageOps.posterize(picture, 8 - round(strength * amounts.bits)),
        "solarize": lambda: ImageOps.solarize(picture, 255 * (1 - strength)),
        "autocontrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
    }[name]()


@pytest.mark.parametrize("channels", [1, 3])
def test_operations_equal_pillows(channels):
    array = bytes_image(h=29, w=23, c=channels)
    amounts = Amounts(shear=0.31, translate=(10.3, 13.1), degrees=30.0, change=0.9, bits=4)
    operated = jax.jit(lambda index, strength, sign: operate(unit(array), index, strength, sign, amounts))
    for i, name in enumerate(OPERATIONS):
        for strength, sign in ((0.29, 1.0), (0.83, -1.0)):
            expected = np.asarray(pillow_operation(name, pillow(array), strength, sign, amounts)).reshape(array.shape)
            ours = as_bytes(operated(jnp.array(i), jnp.array(strength), jnp.array(sign)))
            exact = name in ("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "posterize", "solarize", "equalize")
            far = np.abs(ours - expected) > (0 if exact else 2)
            assert far.mean() < 0.01, name  # a place half-way between two pixels may be rounded either way


def test_rand_augment_draws_all_operations_and_signs_alike():
    """Each result is that of one operation with one sign, at half of torchvision's ranges; which, is read off it."""
    image, num = unit(bytes_image(h=17, w=19)), 1400  # of fewer pixels than levels, equalize would be the identity
    amounts = Amounts(shear=0.3, translate=(150 / 331 * 19, 150 / 331 * 17), degrees=30.0, change=0.9, bits=4)
    one = jax.jit(lambda index, sign: operate(image, index, jnp.array(0.5), sign, amounts))
    candidates = [[np.asarray(one(jnp.array(i), jnp.array(sign))) for sign in (-1.0, 1.0)] for i in range(len(OPERATIONS))]
    y = np.asarray(compiled("rand_augment", num_ops=1, magnitude=15.0)(jax.random.key(0), jnp.broadcast_to(image, (num, *image.shape))))
    same = np.array([[np.abs(y - candidate).mean((1, 2, 3)) < 1e-4 for candidate in both] for both in candidates])
    same = same.transpose(2, 0, 1)  # [image, operation, sign]
    np.testing.assert_array_equal(same.any(2).sum(1), 1)
    counts = same.any(2).sum(0)
    assert (np.abs(counts - 100) < 40).all(), dict(zip(OPERATIONS, counts, strict=True))  # four standard deviations
    without_sign = {"identity", "posterize", "solarize", "autocontrast", "equalize"}
    for name, (fewer, more), count in zip(OPERATIONS, same.sum(0), counts, strict=True):
        if name in without_sign:
            assert fewer == more == count, name
        else:
            assert fewer + more == count, name
            assert min(fewer, more) > 25, name


def test_rand_augment_does_each_operation_with_its_probability():
    """Untouched is what nothing was done to, or thrice the identity: at magnitude 30 each of the others changes this picture."""
    x = jnp.broadcast_to(unit(bytes_image(h=20, w=20))[None], (1400, 20, 20, 3))
    y = compiled("rand_augment", num_ops=3, magnitude=30.0, probability=0.5)(jax.random.key(0), x)
    untouched = np.asarray(jnp.abs(y - x).max((1, 2, 3)) <= 1e-3)
    assert abs(untouched.mean() - ((1 + 1 / 14) / 2) ** 3) < 0.05
    np.testing.assert_array_equal(augment.rand_augment(jax.random.key(0), x[:2], num_ops=0), x[:2])


def test_trivial_augment_does_one_operation():
    """Left alone: identity, magnitude 0, and what a picture of one level at 0.4 cannot show."""
    x = jnp.full((700, 33, 33, 1), 0.4)
    y = np.asarray(compiled("trivial_augment")(jax.random.key(0), x))[..., 0]
    levels = y[:, 16, 16]
    assert 0.05 < (np.abs(levels - 0.4) > 0.01).mean() < 0.5
    assert levels.min() < 0.1  # brightness down to 0.01
    assert levels.max() > 0.7  # and up to 1.99 times
