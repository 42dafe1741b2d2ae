"""What every augmentation needs: a key for each example, a probability, and options that are checked."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from cnn_jax.ops.random import example_keys

Number = float | int
Scalar = Number | Float[Array, ""]


def each(
    function: Callable[[jax.Array, jax.Array], jax.Array],
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    probability: float = 1.0,
    axis_name: str | None = None,
) -> Float[Array, "b _ _ c"]:
    """Returns function(key, image) of every image, each with its own key; with probability 1 − p the image as it was.

    >>> each(lambda key, image: 1 - image, jax.random.key(0), jnp.zeros((2, 1, 1, 1))).ravel().tolist()
    [1.0, 1.0]
    """
    check_between("probability", probability, 0, 1)
    keys = example_keys(key, len(images), axis_name=axis_name)
    if probability == 1:
        return jax.vmap(function)(keys, images)

    def one(key, image):
        chance_key, key = jax.random.split(key)
        return jnp.where(jax.random.bernoulli(chance_key, probability), function(key, image), image)

    return jax.vmap(one)(keys, images)


def uniform(key: PRNGKeyArray, interval: tuple[Number, ...]) -> Float[Array, ""]:
    """Returns one number from low to high.

    >>> uniform(jax.random.key(0), (2.0, 2.0)).item()
    2.0
    """
    low, high = interval
    return jax.random.uniform(key, minval=low, maxval=high)


def check_between(name: str, value: Number, low: Number, high: Number = float("inf")) -> None:
    """Returns nothing: refuses a number outside [low, high].

    Raises:
      ValueError: names the option, its value and the range.

    >>> check_between("probability", 1.5, 0, 1)
    Traceback (most recent call last):
    ValueError: probability=1.5 must be from 0 to 1
    """
    if not low <= value <= high:
        raise ValueError(f"{name}={value} must be {f'at least {low}' if high == float('inf') else f'from {low} to {high}'}")


def check_interval(name: str, interval: tuple[Number, ...], low: Number, high: Number = float("inf")) -> None:
    """Returns nothing: refuses what is not two numbers in order, inside [low, high].

    Raises:
      ValueError: names the option, its value and the range.

    >>> check_interval("scale", (1.2, 0.8), 0)
    Traceback (most recent call last):
    ValueError: scale=(1.2, 0.8) must be two numbers, the smaller first, of at least 0
    """
    if len(interval) != 2 or not low <= interval[0] <= interval[1] <= high:
        inside = f"of at least {low}" if high == float("inf") else f"from {low} to {high}"
        raise ValueError(f"{name}={interval} must be two numbers, the smaller first, {inside}")
