"""Softer and sharper: Gaussian blur with a deviation that may be random, and sharpness as Pillow means it."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from cnn_jax.ops.augment.chance import Scalar, check_between, check_images, check_interval, check_whole, each, uniform
from cnn_jax.ops.augment.colour import blend
from cnn_jax.ops.padding import Border, pad_space
from cnn_jax.ops.precision import result_type


def gaussian_blur(
    image: Float[Array, "h w c"], sigma: Scalar, *, radius: int | None = None, border: Border = "reflect"
) -> Float[Array, "h w c"]:
    """Returns the image smoothed by a Gaussian of deviation `sigma` pixels, cut at `radius` and summing to one.

    Args:
      radius: of the kernel of 2·radius + 1 taps. Four deviations by default; where sigma is traced, it must be given.
      border: the values outside, of `ops.padding.pad_space`.

    Raises:
      ValueError: sigma or the radius is negative, the border unknown or too wide to be taken from the image.

    >>> dot = jnp.zeros((5, 5, 1)).at[2, 2].set(1.0)
    >>> [round(value, 3) for value in gaussian_blur(dot, 0.5)[2, :, 0].tolist()]
    [0.0, 0.084, 0.619, 0.084, 0.0]
    """
    check_images(image, "h w c")
    if not isinstance(sigma, jax.core.Tracer):
        check_between("sigma", sigma, 0)
    elif radius is None:
        raise ValueError("radius=None needs a sigma that is known when the function is traced: give the radius")
    reach = default_radius(float(sigma)) if radius is None else radius
    check_whole("radius", reach, 0)
    padded = pad_space(image[None], [(reach, reach)] * 2, border=border)[0]
    return smooth(padded, sigma, reach).astype(result_type(image))


def default_radius(sigma: float) -> int:
    """Returns four deviations in whole pixels, where scipy cuts too.

    Args:
      sigma: in pixels.

    >>> default_radius(1.0), default_radius(0.1)
    (4, 0)
    """
    return math.floor(4 * sigma + 0.5)


def smooth(image: Float[Array, "h w c"], sigma: Scalar, radius: int) -> Float[Array, "_ _ c"]:
    """Returns the places of the image that are `radius` from its border, smoothed along both axes, in at least float32.

    Args:
      sigma: deviation in pixels; so small a one as 0 changes nothing.
      radius: of the kernel of 2·radius + 1 taps, in pixels.

    Raises:
      ValueError: the image is not [h, w, c], smaller than the radius reaches, or an option is out of range.

    >>> smooth(jnp.ones((5, 4, 1)), 1.0, 1).shape
    (3, 2, 1)
    """
    check_images(image, "h w c")
    check_whole("radius", radius, 0)
    if min(image.shape[:2]) <= 2 * radius:
        raise ValueError(f"radius={radius} leaves nothing of an image of shape {image.shape}")
    check_between("sigma", sigma, 0)
    dtype = jnp.promote_types(image.dtype, jnp.float32)
    # So narrow a bell has one tap; at 0 it would be 0 / 0.
    sigma = jnp.maximum(jnp.asarray(sigma, dtype), 1e-3)
    weights = jnp.exp(-0.5 * jnp.square(jnp.arange(-radius, radius + 1, dtype=dtype) / sigma))
    weights = weights / weights.sum()
    # Shifted sums, not convolutions: under vmap every example has its own kernel, and grouped convolutions are slow on CPUs.
    height, width = image.shape[0] - 2 * radius, image.shape[1] - 2 * radius
    down = sum(weight * image[i : i + height] for i, weight in enumerate(weights))
    return sum(weight * down[:, i : i + width] for i, weight in enumerate(weights))


def random_blur(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    sigma: tuple[float, ...] = (0.1, 2.0),
    probability: float = 1.0,
    axis_name: str | None = None,
) -> Float[Array, "b h w c"]:
    """Returns the images, each smoothed by a Gaussian whose deviation in pixels is uniform in `sigma`.

    The borders are mirrored, again and again where the image is smaller than the kernel.

    Raises:
      ValueError: sigma is no pair in order of numbers that are not negative; else as `chance.each`.

    Reference: Chen et al., "A Simple Framework for Contrastive Learning", 2020, appendix A, with probability ½.

    >>> random_blur(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    check_interval("sigma", sigma, 0)
    radius = default_radius(sigma[1])

    def one(key, image):
        padded = jnp.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
        return smooth(padded, uniform(key, sigma), radius).astype(result_type(image))

    return each(one, key, images, probability=probability, axis_name=axis_name)


def adjust_sharpness(images: Float[Array, "*b h w c"], factor: Scalar) -> Float[Array, "*b h w c"]:
    """Returns factor · image + (1 − factor) · smoothed, clipped: 0 is smooth, 1 the image, 2 sharp.

    Smoothed is `soften`ed.

    Raises:
      ValueError: the images are not [*b, h, w, c] floats.

    Reference: Pillow's ImageEnhance.Sharpness, torchvision's `adjust_sharpness`.

    >>> dot = jnp.zeros((3, 3, 1)).at[1, 1].set(0.5)
    >>> adjust_sharpness(dot, 2.0)[1, 1].item() > 0.5
    True
    """
    check_between("factor", factor, 0)
    return blend(images, soften(images), factor)


def soften(images: Float[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """Returns the images under Pillow's filter [[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13; the outermost pixels stay.

    Raises:
      ValueError: the images are not [*b, h, w, c] floats.

    Reference: Pillow's ImageFilter.SMOOTH.

    >>> dot = jnp.zeros((3, 3, 1)).at[1, 1].set(1.0)
    >>> round(soften(dot)[1, 1].item() * 13, 4)
    5.0
    """
    check_images(images, "*b h w c")
    height, width = images.shape[-3:-1]
    if min(height, width) < 3:
        return images
    rows = sum(images[..., i : i + height - 2, :, :] for i in range(3))
    box = sum(rows[..., j : j + width - 2, :] for j in range(3))
    inner = images[..., 1:-1, 1:-1, :]
    return jnp.asarray(images).at[..., 1:-1, 1:-1, :].set((box + 4 * inner) / 13)


def random_sharpness(
    key: PRNGKeyArray, images: Float[Array, "b h w c"], *, factor: float = 2.0, probability: float = 0.5, axis_name: str | None = None
) -> Float[Array, "b h w c"]:
    """Returns the images, each with its sharpness times `factor` (0 smooth, above 1 sharper) with the given probability.

    Raises:
      ValueError: an option is out of its range, or the images are not [b, h, w, c] floats.

    Reference: torchvision's RandomAdjustSharpness.

    >>> random_sharpness(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    check_between("factor", factor, 0)
    return each(lambda key, image: adjust_sharpness(image, factor), key, images, probability=probability, axis_name=axis_name)
