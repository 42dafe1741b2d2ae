"""Brightness, contrast, saturation and hue, with torchvision's meaning of the factors; images in [0, 1], clipped to it."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from cnn_jax.ops.arguments import check_array, check_number, is_number
from cnn_jax.ops.augment.chance import Scalar, check_between, check_images, check_interval, each, is_pair, uniform
from cnn_jax.ops.precision import result_type
from cnn_jax.ops.random import check_key

# How bright red, green and blue look: ITU-R BT.601, as in Pillow.
_LUMA = (0.299, 0.587, 0.114)


def blend(images: Float[Array, "*b h w c"], others: Float[Array, "..."], factor: Scalar) -> Float[Array, "*b h w c"]:
    """Returns factor · image + (1 − factor) · other, clipped to [0, 1], in the image's dtype: above 1 it moves away from the other.

    Args:
      others: of a shape that broadcasts to the images'.
      factor: 0 gives the others, 1 the images.

    Raises:
      ValueError: the images are not [*b, h, w, c] floats.

    Reference: Pillow's Image.blend.

    >>> blend(jnp.full((1, 1, 1), 0.5), jnp.zeros((1, 1, 1)), 1.5).item()
    0.75
    """
    check_images(images, "*b h w c")
    check_array("others", others)
    check_number("factor", factor, math.isfinite, "finite")
    if others.ndim > images.ndim or any(n not in (1, m) for n, m in zip(others.shape[::-1], images.shape[::-1], strict=False)):
        raise ValueError(f"others {others.shape} must have the shape of the images, {images.shape}, or one that broadcasts to it")
    return jnp.clip(factor * images + (1 - factor) * others, 0, 1).astype(result_type(images))


def grey(images: Float[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """Returns 0.299 red + 0.587 green + 0.114 blue in all three channels; an image of one channel as it is.

    Raises:
      ValueError: the channels are neither one nor three.

    >>> [round(value, 3) for value in grey(jnp.array([[[1.0, 0.0, 0.0]]])).ravel().tolist()]
    [0.299, 0.299, 0.299]
    """
    _check_channels(images)
    if images.shape[-1] == 1:
        return images
    luma = sum(weight * images[..., i : i + 1].astype(jnp.float32) for i, weight in enumerate(_LUMA))
    return jnp.broadcast_to(luma, images.shape).astype(result_type(images))


def mean_grey(images: Float[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """Returns each image's mean in all its pixels: of its `grey` values where it has three channels, else of all values.

    Raises:
      ValueError: the images are not [*b, h, w, c] floats.

    >>> mean_grey(jnp.array([[[0.25], [0.75]]])).ravel().tolist()
    [0.5, 0.5]
    """
    check_images(images, "*b h w c")
    luma = grey(images) if images.shape[-1] == 3 else images
    return jnp.broadcast_to(luma.mean((-3, -2, -1), keepdims=True), images.shape)


def adjust_brightness(images: Float[Array, "*b h w c"], factor: Scalar) -> Float[Array, "*b h w c"]:
    """Returns factor · image, clipped: 0 is black, 1 the image.

    Raises:
      ValueError: the images are not [*b, h, w, c] floats.

    >>> adjust_brightness(jnp.full((1, 1, 1), 0.25), 2.0).item()
    0.5
    """
    check_images(images, "*b h w c")
    check_between("factor", factor, 0)
    return blend(images, jnp.zeros_like(images), factor)


def adjust_contrast(images: Float[Array, "*b h w c"], factor: Scalar) -> Float[Array, "*b h w c"]:
    """Returns factor · image + (1 − factor) · mean, clipped: 0 is even grey, 1 the image.

    The mean is `mean_grey`.

    Raises:
      ValueError: the images are not [*b, h, w, c] floats.

    >>> adjust_contrast(jnp.array([[[0.25], [0.75]]]), 2.0).ravel().tolist()
    [0.0, 1.0]
    """
    check_between("factor", factor, 0)
    return blend(images, mean_grey(images), factor)


def adjust_saturation(images: Float[Array, "*b h w c"], factor: Scalar) -> Float[Array, "*b h w c"]:
    """Returns factor · image + (1 − factor) · `grey`, clipped: 0 is grey, 1 the image.

    Raises:
      ValueError: the channels are neither one nor three.

    >>> adjust_saturation(jnp.array([[[0.5, 0.25, 0.5]]]), 1.0).ravel().tolist()
    [0.5, 0.25, 0.5]
    """
    check_between("factor", factor, 0)
    return blend(images, grey(images), factor)


def adjust_hue(images: Float[Array, "*b h w c"], turns: Scalar) -> Float[Array, "*b h w c"]:
    """Returns the images with every hue moved on by so many turns of the colour circle; value and saturation stay (HSV).

    Args:
      turns: ⅓ makes red green; −½ and ½ both give the complement.

    Raises:
      ValueError: the channels are neither one (which have no hue) nor three.

    >>> adjust_hue(jnp.array([[[1.0, 0.0, 0.0]]]), 1 / 3).ravel().round(5).tolist()
    [0.0, 1.0, 0.0]
    """
    _check_channels(images)
    check_number("turns", turns, math.isfinite, "finite")
    if images.shape[-1] == 1:
        return images
    x = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    red, green, blue = x[..., 0], x[..., 1], x[..., 2]
    value = x.max(-1)
    chroma = value - x.min(-1)
    safe = jnp.where(chroma > 0, chroma, 1)
    # In sixths of the circle.
    hue = jnp.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4)
    hue = jnp.where(value == red, (green - blue) / safe, hue) + 6 * turns

    def channel(offset):
        place = hue + offset
        place = place - 6 * jnp.floor(place / 6)  # in [0, 6]; several times faster on a CPU than %
        return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)

    return jnp.clip(jnp.stack([channel(5), channel(3), channel(1)], axis=-1), 0, 1).astype(result_type(images))


def colour_jitter(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    brightness: float | tuple[float, ...] = 0.4,
    contrast: float | tuple[float, ...] = 0.4,
    saturation: float | tuple[float, ...] = 0.4,
    hue: float | tuple[float, ...] = 0.1,
    probability: float = 1.0,
    axis_name: str | None = None,
) -> Float[Array, "b h w c"]:
    """Returns the images, each with random brightness, contrast, saturation and hue, in an order drawn once for the batch.

    A number v stands for factors uniform in [max(0, 1 − v), 1 + v], a pair for those in between; of `hue` in [−v, v] turns,
    at most ½. 0 leaves a quality alone. torchvision draws the order for each image; here one order needs one pass, not four.

    Raises:
      ValueError: a range that is out of order or negative; saturation or hue asked of channels that are neither one nor three.

    Reference: torchvision's ColorJitter; Howard, "Some Improvements on Deep CNN Based Image Classification", 2013.

    >>> colour_jitter(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    check_images(images)
    check_key(key)
    check_between("probability", probability, 0, 1)
    named = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    ranges = [_factors(name, value) for name, value in named.items()]
    turns = tuple(hue) if is_pair(hue) else (-float(hue), float(hue)) if is_number(hue) else hue
    check_interval("hue", turns, -0.5, 0.5)
    ranges.append(turns)
    adjusts = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
    wanted = [(adjust, r) for adjust, r, idle in zip(adjusts, ranges, ((1, 1),) * 3 + ((0, 0),), strict=True) if tuple(r) != idle]
    order_key, key = jax.random.split(key)
    order = jax.random.permutation(order_key, len(wanted))

    def one(key, image):
        amounts = [uniform(k, r) for k, (_, r) in zip(jax.random.split(key, len(wanted)), wanted, strict=True)]
        branches = [partial(_adjusted, adjust, amount) for (adjust, _), amount in zip(wanted, amounts, strict=True)]
        # The order is one for all examples, so that vmap keeps the switch and one branch is run at a time.
        for place in order:
            image = lax.switch(place, branches, image)
        return image

    return each(one, key, images, probability=probability, axis_name=axis_name) if wanted else images


def random_grey(
    key: PRNGKeyArray, images: Float[Array, "b h w c"], *, probability: float = 0.1, axis_name: str | None = None
) -> Float[Array, "b h w c"]:
    """Returns the images, each without colour (`grey`) with the given probability.

    Raises:
      ValueError: the channels are neither one nor three; else as `chance.each`.

    Reference: torchvision's RandomGrayscale.

    >>> random_grey(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    return each(lambda key, image: grey(image), key, images, probability=probability, axis_name=axis_name)


def _adjusted(adjust, amount, image):
    return adjust(image, amount)


def _factors(name: str, value: float | tuple[float, ...]) -> tuple[float, ...]:
    """The interval that a setting of `colour_jitter` stands for."""
    if is_number(value):
        check_between(name, value, 0)
        return max(0.0, 1.0 - float(value)), 1.0 + float(value)
    check_interval(name, value, 0)
    return tuple(value)


def _check_channels(images) -> None:
    check_images(images, "*b h w c")
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"images of shape {images.shape} have {images.shape[-1]} channels: colour is defined for 1 (grey) or 3 (RGB)")
