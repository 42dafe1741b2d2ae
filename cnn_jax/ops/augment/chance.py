"""What every augmentation needs: a key for each example, a probability, and options that are checked."""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, Shaped

from cnn_jax.ops.arguments import check_array, is_number, is_several, is_whole
from cnn_jax.ops.random import example_keys

Number = float | int  # a plain number, as a setting holds
Scalar = Number | Float[Array, ""]  # a number, plain or traced


def each(
    function: Callable[[jax.Array, jax.Array], jax.Array],
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    probability: float = 1.0,
    axis_name: str | None = None,
) -> Float[Array, "b _ _ c"]:
    """Returns function(key, image) of every image, each with its own key; with probability 1 − p the image as it was.

    Args:
      function: (key, image [h, w, c]) -> image.
      probability: of an image being changed, p.
      axis_name: the device axis, under pmap only.

    Raises:
      ValueError: the probability lies outside [0, 1], or the images are not [b, h, w, c] floats.

    >>> each(lambda key, image: 1 - image, jax.random.key(0), jnp.zeros((2, 1, 1, 1))).ravel().tolist()
    [1.0, 1.0]
    """
    check_between("probability", probability, 0, 1)
    probability = float(probability)
    check_images(images)
    keys = example_keys(key, len(images), axis_name=axis_name)
    if probability == 1:
        return jax.vmap(function)(keys, images)

    def one(key, image):
        chance_key, key = jax.random.split(key)
        return jnp.where(jax.random.bernoulli(chance_key, probability), function(key, image), image)

    return jax.vmap(one)(keys, images)


def uniform(key: PRNGKeyArray, interval: tuple[Number, ...]) -> Float[Array, ""]:
    """Returns one number from low to high.

    Args:
      interval: (low, high).

    >>> uniform(jax.random.key(0), (2.0, 2.0)).item()
    2.0
    """
    low, high = interval
    return jax.random.uniform(key, minval=low, maxval=high)


def check_images(images: Shaped[ArrayLike, "..."], layout: Literal["b h w c", "*b h w c", "h w c"] = "b h w c") -> None:
    """Returns nothing: refuses what is not floats of that layout; bytes are 256 levels, not [0, 1]. Also under jit and pmap.

    Raises:
      ValueError: names the type and the shape.

    >>> check_images(jnp.zeros((4, 8, 8, 3), jnp.uint8))
    Traceback (most recent call last):
    ValueError: images must be [b, h, w, c] floats in [0, 1], got uint8 (4, 8, 8, 3): divide by 255
    """
    name = "image" if layout == "h w c" else "images"
    check_array(name, images)
    dtype, shape = images.dtype, images.shape
    axes = layout.split()
    fits = len(shape) >= 3 if "*b" in axes else len(shape) == len(axes)
    if fits and 0 not in shape[-3:] and jnp.issubdtype(dtype, jnp.floating):
        return
    hint = ": divide by 255" if dtype == jnp.uint8 else ""
    raise ValueError(f"{name} must be [{', '.join(axes)}] floats in [0, 1], got {dtype} {shape}{hint}")


def check_between(name: str, value: Scalar, low: Number, high: Number = math.inf) -> None:
    """Returns nothing: refuses what is not a finite number in [low, high]. A traced number passes.

    Raises:
      ValueError: names the option, its value and the range.

    >>> check_between("probability", 1.5, 0, 1)
    Traceback (most recent call last):
    ValueError: probability=1.5 must be from 0 to 1
    """
    if not is_between(value, low, high):
        raise ValueError(f"{name}={value} must be {_range(low, high)}")


def check_whole(name: str, value: Number, low: int, high: Number = math.inf) -> None:
    """Returns nothing: refuses what is not a whole number in [low, high].

    Raises:
      ValueError: names the option, its value and the range.

    >>> check_whole("size", 2.5, 1)
    Traceback (most recent call last):
    ValueError: size=2.5 must be a whole number, at least 1 and finite
    """
    if not is_whole(value) or not low <= value <= high:
        raise ValueError(f"{name}={value} must be a whole number, {_range(low, high)}")


def check_interval(name: str, interval: tuple[Number, ...], low: Number, high: Number = math.inf) -> None:
    """Returns nothing: refuses what is not two numbers in order, inside [low, high].

    Raises:
      ValueError: names the option, its value and the range.

    >>> check_interval("scale", (1.2, 0.8), 0)
    Traceback (most recent call last):
    ValueError: scale=(1.2, 0.8) must be a pair (low, high), both at least 0 and finite
    """
    if not is_pair(interval) or not all(is_between(value, low, high) for value in interval) or not _ordered(*interval):
        raise ValueError(f"{name}={interval} must be a pair (low, high), both {_range(low, high)}")


def is_pair(value: object) -> bool:
    """Returns whether it is a sequence of two.

    >>> is_pair((1, 2)), is_pair(1.2)
    (True, False)
    """
    return is_several(value) and len(value) == 2


def is_between(value: object, low: Number, high: Number) -> bool:
    """Returns whether it is a finite number in [low, high]; a traced number is taken for one.

    >>> is_between(0.5, 0, 1), is_between("0.5", 0, 1)
    (True, False)
    """
    if not is_number(value):
        return False
    return isinstance(value, jax.core.Tracer) or (low <= float(value) <= high and math.isfinite(value))


def _ordered(low: Scalar, high: Scalar) -> bool:
    return isinstance(low, jax.core.Tracer) or isinstance(high, jax.core.Tracer) or float(low) <= float(high)


def _range(low, high) -> str:
    return f"at least {low} and finite" if high == math.inf else f"from {low} to {high}"
