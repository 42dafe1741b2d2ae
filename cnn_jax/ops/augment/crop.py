"""Parts of an image: crops, shifts, and crops that are resized."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from cnn_jax.ops.arguments import check_number, is_several, is_whole
from cnn_jax.ops.augment.chance import check_images, check_whole, each
from cnn_jax.ops.padding import Border, pad_space
from cnn_jax.ops.random import example_keys


def random_shift(
    key: PRNGKeyArray, images: Float[Array, "b h w c"], *, pixels: int = 4, axis_name: str | None = None
) -> Float[Array, "b h w c"]:
    """Returns the images, each moved by up to `pixels` down or up and right or left, black where nothing was.

    The same as padding with zeros and cropping at random, the usual CIFAR augmentation (He et al. 2015, section 4.2).

    Raises:
      ValueError: pixels is negative or more than the images' shorter side.

    >>> random_shift(jax.random.key(0), jnp.ones((2, 4, 4, 1)), pixels=1).shape
    (2, 4, 4, 1)
    """
    check_images(images)
    check_whole("pixels", pixels, 0, min(images.shape[1:3]))
    padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))

    def one(key, image):
        row, column = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
        return lax.dynamic_slice(image, (row, column, 0), images.shape[1:])

    return jax.vmap(one)(example_keys(key, len(images), axis_name=axis_name), padded)


def random_crop(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    size: int | tuple[int, ...],
    padding: int = 0,
    border: Border = "zeros",
    axis_name: str | None = None,
) -> Float[Array, "b _ _ c"]:
    """Returns a random part of size × size (or height × width) of each image, all places equally likely.

    Args:
      padding: so many pixels are first added on every side, …
      border: … black ("zeros"), mirrored ("reflect"), the outermost again ("replicate") or from the other side ("circular").

    Raises:
      ValueError: the part is larger than the padded image, or the padding negative.

    Reference: torchvision's RandomCrop.

    >>> random_crop(jax.random.key(0), jnp.ones((2, 4, 4, 1)), size=3).shape
    (2, 3, 3, 1)
    """
    check_images(images)
    check_whole("padding", padding, 0)
    height, width = _part(size, images.shape[1] + 2 * padding, images.shape[2] + 2 * padding)
    padded = pad_space(images, [(padding, padding)] * 2, border=border)
    free = jnp.array([padded.shape[1] - height, padded.shape[2] - width])

    def one(key, image):
        row, column = jax.random.randint(key, (2,), 0, free + 1)
        return lax.dynamic_slice(image, (row, column, 0), (height, width, images.shape[3]))

    return each(one, key, padded, axis_name=axis_name)


def center_crop(
    key: PRNGKeyArray, images: Float[Array, "b h w c"], *, size: int | tuple[int, ...], axis_name: str | None = None
) -> Float[Array, "b _ _ c"]:
    """Returns the central size × size (or height × width) of each image; an odd pixel more stays off below and right.

    Nothing is random: the key is that of every augmentation, and not used.

    Raises:
      ValueError: the part is larger than the image.

    >>> center_crop(jax.random.key(0), jnp.arange(5.0).reshape(1, 1, 5, 1), size=(1, 3)).ravel().tolist()
    [1.0, 2.0, 3.0]
    """
    del key, axis_name
    check_images(images)
    height, width = _part(size, *images.shape[1:3])
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return images[:, top : top + height, left : left + width]


def random_resized_crop(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    size: int,
    min_area: float = 0.08,
    max_aspect: float = 4 / 3,
    axis_name: str | None = None,
) -> Float[Array, "b size size c"]:
    """Returns a random part of each image, resized to size × size with anti-aliased bilinear interpolation.

    The part covers min_area to 1 of the image's area, with width : height from 1/max_aspect to max_aspect, both uniform
    (the aspect in its logarithm); a side is cut to the image where it would be longer.

    Args:
      size: of a side of the result, in pixels.
      min_area: above 0, at most 1.
      max_aspect: at least 1 and finite.

    Raises:
      ValueError: an option is out of its range, or the images are not [b, h, w, c] floats.

    Reference: Szegedy et al., "Going deeper with convolutions", 2014, section 6.

    >>> random_resized_crop(jax.random.key(0), jnp.ones((2, 8, 8, 1)), size=4).shape
    (2, 4, 4, 1)
    """
    check_images(images)
    check_whole("size", size, 1)
    check_number("min_area", min_area, lambda v: 0 < v <= 1, "in (0, 1]")
    check_number("max_aspect", max_aspect, lambda v: 1 <= v < math.inf, "at least 1 and finite")
    height, width, channels = images.shape[1:]

    def one(key, image):
        area_key, aspect_key, place_key = jax.random.split(key, 3)
        area = jax.random.uniform(area_key, minval=min_area, maxval=1.0) * (height * width)
        aspect = jnp.exp(jax.random.uniform(aspect_key, minval=-1.0, maxval=1.0) * jnp.log(max_aspect))
        sides = jnp.minimum(jnp.stack([jnp.sqrt(area / aspect), jnp.sqrt(area * aspect)]), jnp.array([height, width]))
        start = jax.random.uniform(place_key, (2,)) * (jnp.array([height, width]) - sides)
        scale = size / sides
        return jax.image.scale_and_translate(image, (size, size, channels), (0, 1), scale, -start * scale, "linear")

    return jax.vmap(one)(example_keys(key, len(images), axis_name=axis_name), images)


def _part(size: int | tuple[int, ...], height: int, width: int) -> tuple[int, int]:
    """Height and width of a crop that fits."""
    sides = tuple(size) if is_several(size) else (size, size)
    fits = len(sides) == 2 and all(is_whole(side) and 1 <= side <= most for side, most in zip(sides, (height, width), strict=True))
    if not fits:
        raise ValueError(f"size={size!r} must be one whole number or two, from 1 to the image's {height}×{width} (padding included)")
    return sides
