"""Pictures for the tests of kernels and augmentation: random ones, smooth ones in bytes, to Pillow and back."""

import jax.numpy as jnp
import numpy as np
from PIL import Image
from scipy import ndimage


def picture(*shape):
    return np.random.default_rng(0).random(shape).astype(np.float32)


def images(b=8, h=9, w=10, c=3, seed=6):
    """Asymmetric, not touching 0 and 1."""
    return jnp.array(np.random.default_rng(seed).uniform(0.1, 0.8, (b, h, w, c)), jnp.float32)


def bytes_image(h=19, w=23, c=3, seed=0):
    """A smooth random picture in bytes, [h, w, c]."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(h, w, c)), (2, 2, 0))
    noise = (noise - noise.min()) / np.ptp(noise)
    return (20 + 190 * noise).astype(np.uint8)


def pillow(array):
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def unit(array):
    return jnp.array(array, jnp.float32) / 255


def as_bytes(result):
    return np.round(np.asarray(result) * 255).astype(int)


def rectangle(mask):
    """(top, left, bottom, right) of the True part, which must be a full rectangle."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    assert mask[box[0] : box[2], box[1] : box[3]].all()
    return box
