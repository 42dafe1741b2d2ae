"""Mirroring."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from cnn_jax.ops.augment.chance import check_images, each
from cnn_jax.ops.random import example_keys


def random_flip(key: PRNGKeyArray, images: Float[Array, "b h w c"], *, axis_name: str | None = None) -> Float[Array, "b h w c"]:
    """Returns the images, each mirrored left to right with probability ½.

    Raises:
      ValueError: the images are not [b, h, w, c] floats.

    Reference: Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", 2012, section 4.1.

    >>> random_flip(jax.random.key(0), jnp.ones((2, 4, 4, 1))).shape
    (2, 4, 4, 1)
    """
    check_images(images)

    def one(key, image):
        return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)

    return jax.vmap(one)(example_keys(key, len(images), axis_name=axis_name), images)


def random_vertical_flip(
    key: PRNGKeyArray, images: Float[Array, "b h w c"], *, probability: float = 0.5, axis_name: str | None = None
) -> Float[Array, "b h w c"]:
    """Returns the images, each turned upside down with the given probability.

    Raises:
      ValueError: the probability lies outside [0, 1], or the images are not [b, h, w, c] floats.

    Reference: torchvision's RandomVerticalFlip.

    >>> image = jnp.array([1.0, 2.0]).reshape(1, 2, 1, 1)
    >>> random_vertical_flip(jax.random.key(0), image, probability=1.0).ravel().tolist()
    [2.0, 1.0]
    """
    return each(lambda key, image: image[::-1], key, images, probability=probability, axis_name=axis_name)
