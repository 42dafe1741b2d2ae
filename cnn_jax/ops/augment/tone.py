"""Changes of each value for itself or by an image's histogram: invert, solarize, posterize, equalize, autocontrast."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from cnn_jax.ops.augment.chance import Scalar, check_between, check_images, check_whole, each
from cnn_jax.ops.precision import result_type


def invert(images: Float[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """Returns 1 − image.

    Raises:
      ValueError: the images are not [*b, h, w, c] floats.

    >>> invert(jnp.full((1, 1, 1), 0.25)).item()
    0.75
    """
    check_images(images, "*b h w c")
    return 1 - images


def solarize(images: Float[Array, "*b h w c"], threshold: Scalar) -> Float[Array, "*b h w c"]:
    """Returns the images with values at or above the threshold inverted.

    Raises:
      ValueError: the images are not [*b, h, w, c] floats.

    Reference: Pillow's ImageOps.solarize.

    >>> solarize(jnp.array([[[0.25], [0.75]]]), 0.5).ravel().tolist()
    [0.25, 0.25]
    """
    check_images(images, "*b h w c")
    check_between("threshold", threshold, 0, 1)
    return jnp.where(images >= threshold, 1 - images, images)


def posterize(images: Float[Array, "*b h w c"], bits: Scalar) -> Float[Array, "*b h w c"]:
    """Returns the images as bytes whose last 8 − bits bits are cleared, in [0, 1] again.

    Raises:
      ValueError: bits, if known when the function is traced, is not from 0 to 8.

    Reference: Pillow's ImageOps.posterize.

    >>> (posterize(jnp.array([[[200 / 255]]]), 2) * 255).round().item()
    192.0
    """
    check_images(images, "*b h w c")
    check_between("bits", bits, 0, 8)
    step = 2 ** (8 - jnp.asarray(bits, jnp.float32))
    return (jnp.floor(_levels(images) / step) * step / 255).astype(result_type(images))


def equalize(images: Float[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """Returns the images with each channel's histogram over 256 levels made as even as a table of levels can: Pillow's.

    With n(v) pixels at level v and step = (pixels − n(highest level)) // 255, v becomes (Σ_{u<v} n(u) + step // 2) // step; a
    channel whose step is 0 (fewer than 255 pixels, or all but one level) stays.

    Raises:
      ValueError: the images are not [*b, h, w, c] floats.

    Reference: Pillow's ImageOps.equalize.

    >>> ramp = jnp.repeat(jnp.linspace(0, 0.5, 128), 8).reshape(32, 32, 1)
    >>> equalize(ramp).max().round(3).item()
    1.0
    """
    check_images(images, "*b h w c")
    height, width, channels = images.shape[-3:]
    levels = _levels(images).astype(jnp.int32)

    def one(level):
        place = level + 256 * jnp.arange(channels)[None, None]  # a table for each channel, one after the other
        counts = jnp.zeros(256 * channels, jnp.int32).at[place].add(1).reshape(channels, 256)
        highest = jnp.take_along_axis(counts, level.max((0, 1))[:, None], axis=1)
        step = (height * width - highest) // 255
        below = jnp.cumsum(counts, axis=1) - counts
        table = jnp.clip((below + step // 2) // jnp.maximum(step, 1), 0, 255)
        return table.ravel()[place], step[None, None, :, 0]

    even, step = jax.vmap(one)(levels.reshape(-1, height, width, channels))
    even, step = even.reshape(images.shape), step.reshape(*images.shape[:-3], 1, 1, channels)
    return jnp.where(step == 0, images, (even / 255).astype(result_type(images)))


def autocontrast(images: Float[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """Returns (image − low) / (high − low) for each channel of each image: its darkest becomes 0, its brightest 1.

    A channel of one value stays.

    Raises:
      ValueError: the images are not [*b, h, w, c] floats.

    Reference: Pillow's ImageOps.autocontrast.

    >>> autocontrast(jnp.array([[[0.25], [0.5], [0.75]]])).ravel().tolist()
    [0.0, 0.5, 1.0]
    """
    check_images(images, "*b h w c")
    low, high = images.min((-3, -2), keepdims=True), images.max((-3, -2), keepdims=True)
    flat = high == low
    return jnp.where(flat, images, (images - low) / jnp.where(flat, 1, high - low))


def random_invert(
    key: PRNGKeyArray, images: Float[Array, "b h w c"], *, probability: float = 0.5, axis_name: str | None = None
) -> Float[Array, "b h w c"]:
    """Returns the images, each inverted with the given probability.

    Raises:
      ValueError: the probability lies outside [0, 1], or the images are not [b, h, w, c] floats.

    Reference: torchvision's RandomInvert.

    >>> random_invert(jax.random.key(0), jnp.ones((1, 1, 1, 1)), probability=1.0).item()
    0.0
    """
    return each(lambda key, image: invert(image), key, images, probability=probability, axis_name=axis_name)


def random_solarize(
    key: PRNGKeyArray, images: Float[Array, "b h w c"], *, threshold: float = 0.5, probability: float = 0.5, axis_name: str | None = None
) -> Float[Array, "b h w c"]:
    """Returns the images, each with values at or above the threshold inverted with the given probability.

    Raises:
      ValueError: the threshold lies outside [0, 1]; else as `chance.each`.

    Reference: torchvision's RandomSolarize.

    >>> random_solarize(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    check_between("threshold", threshold, 0, 1)
    return each(lambda key, image: solarize(image, threshold), key, images, probability=probability, axis_name=axis_name)


def random_posterize(
    key: PRNGKeyArray, images: Float[Array, "b h w c"], *, bits: int = 4, probability: float = 0.5, axis_name: str | None = None
) -> Float[Array, "b h w c"]:
    """Returns the images, each with so many bits a channel, of eight, with the given probability.

    Raises:
      ValueError: bits is no whole number from 0 to 8; else as `chance.each`.

    Reference: torchvision's RandomPosterize.

    >>> random_posterize(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    check_whole("bits", bits, 0, 8)
    return each(lambda key, image: posterize(image, bits), key, images, probability=probability, axis_name=axis_name)


def random_equalize(
    key: PRNGKeyArray, images: Float[Array, "b h w c"], *, probability: float = 0.5, axis_name: str | None = None
) -> Float[Array, "b h w c"]:
    """Returns the images, each with its histogram made even (`equalize`) with the given probability.

    Raises:
      ValueError: the probability lies outside [0, 1], or the images are not [b, h, w, c] floats.

    Reference: torchvision's RandomEqualize.

    >>> random_equalize(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    return each(lambda key, image: equalize(image), key, images, probability=probability, axis_name=axis_name)


def random_autocontrast(
    key: PRNGKeyArray, images: Float[Array, "b h w c"], *, probability: float = 0.5, axis_name: str | None = None
) -> Float[Array, "b h w c"]:
    """Returns the images, each stretched to the full range (`autocontrast`) with the given probability.

    Raises:
      ValueError: the probability lies outside [0, 1], or the images are not [b, h, w, c] floats.

    Reference: torchvision's RandomAutocontrast.

    >>> random_autocontrast(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    return each(lambda key, image: autocontrast(image), key, images, probability=probability, axis_name=axis_name)


def _levels(images):
    """The images as whole numbers from 0 to 255, in float32: bfloat16 could not hold them after the product."""
    return jnp.clip(jnp.round(images.astype(jnp.float32) * 255), 0, 255)
