"""Noise, and parts that are covered: random erasing, Cutout."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from cnn_jax.ops.arguments import check_number, check_word
from cnn_jax.ops.augment.chance import check_between, check_images, check_interval, check_whole, each


def random_noise(
    key: PRNGKeyArray, images: Float[Array, "b h w c"], *, deviation: float = 0.1, probability: float = 1.0, axis_name: str | None = None
) -> Float[Array, "b h w c"]:
    """Returns the images with Gaussian noise of that standard deviation added to every value, clipped to [0, 1].

    Raises:
      ValueError: the deviation is negative or not finite; else as `chance.each`.

    Reference: torchvision's GaussianNoise.

    >>> random_noise(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    check_between("deviation", deviation, 0)

    def one(key, image):
        return jnp.clip(image + deviation * jax.random.normal(key, image.shape), 0, 1).astype(image.dtype)

    return each(one, key, images, probability=probability, axis_name=axis_name)


def random_erase(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    area: tuple[float, ...] = (0.02, 0.33),
    aspect: tuple[float, ...] = (0.3, 3.3),
    value: Literal["constant", "noise"] = "constant",
    fill: float = 0.0,
    probability: float = 0.5,
    axis_name: str | None = None,
) -> Float[Array, "b h w c"]:
    """Returns the images, each with one rectangle erased with the given probability; torchvision's RandomErasing.

    The rectangle's share of the area is uniform in `area`, its height : width log-uniform in `aspect`, its place uniform; the
    first of ten draws whose sides are shorter than the image's is taken, and nothing is erased if there is none.

    Args:
      value: "constant" erases with `fill`, "noise" with uniform noise in [0, 1].

    Raises:
      ValueError: a range is out of order or not within what is possible.

    Reference: Zhong et al., "Random Erasing Data Augmentation", 2017.

    >>> random_erase(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    check_images(images)
    check_interval("area", area, 0, 1)
    check_interval("aspect", aspect, 1e-6)
    check_word("value", value, ("constant", "noise"))
    check_number("fill", fill, math.isfinite, "finite")
    height, width = images.shape[1:3]

    def one(key, image):
        area_key, aspect_key, row_key, column_key, noise_key = jax.random.split(key, 5)
        areas = jax.random.uniform(area_key, (10,), minval=area[0], maxval=area[1]) * (height * width)
        aspects = jnp.exp(jax.random.uniform(aspect_key, (10,), minval=math.log(aspect[0]), maxval=math.log(aspect[1])))
        rows, columns = (jnp.round(jnp.sqrt(a)).astype(int) for a in (areas * aspects, areas / aspects))
        fits = (rows < height) & (columns < width)
        first = jnp.argmax(fits)
        h, w = jnp.where(fits[first], rows[first], 0), jnp.where(fits[first], columns[first], 0)
        top = jax.random.randint(row_key, (), 0, height - h + 1)
        left = jax.random.randint(column_key, (), 0, width - w + 1)
        paint = jax.random.uniform(noise_key, image.shape).astype(image.dtype) if value == "noise" else jnp.asarray(fill, image.dtype)
        return jnp.where(inside((height, width), top, left, top + h, left + w), paint, image)

    return each(one, key, images, probability=probability, axis_name=axis_name)


def cutout(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    size: int = 16,
    fill: float = 0.0,
    probability: float = 1.0,
    axis_name: str | None = None,
) -> Float[Array, "b h w c"]:
    """Returns the images, each with a square of size × size covered, its middle at any pixel, so that it may reach over the border.

    Args:
      size: in pixels; 16 was best on CIFAR-10, 8 on CIFAR-100, 20 on SVHN, all of 32×32 pixels.

    Raises:
      ValueError: size is no whole number of at least 1; else as `chance.each`.

    Reference: DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.

    >>> cutout(jax.random.key(0), jnp.ones((2, 8, 8, 3)), size=4).shape
    (2, 8, 8, 3)
    """
    check_images(images)
    check_whole("size", size, 1)
    check_number("fill", fill, math.isfinite, "finite")
    height, width = images.shape[1:3]

    def one(key, image):
        top, left = jax.random.randint(key, (2,), 0, jnp.array([height, width])) - size // 2
        return jnp.where(inside((height, width), top, left, top + size, left + size), jnp.asarray(fill, image.dtype), image)

    return each(one, key, images, probability=probability, axis_name=axis_name)


def inside(shape: tuple[int, int], top, left, bottom, right) -> jax.Array:
    """Returns a mask [h, w, 1] of the pixels in rows top to bottom − 1 and columns left to right − 1.

    Args:
      shape: (h, w).
      top, left, bottom, right: whole numbers, which may be traced, and lie outside.

    >>> inside((2, 3), 0, 1, 1, 3)[..., 0].tolist()
    [[False, True, True], [False, False, False]]
    """
    rows, columns = jnp.arange(shape[0])[:, None, None], jnp.arange(shape[1])[None, :, None]
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
