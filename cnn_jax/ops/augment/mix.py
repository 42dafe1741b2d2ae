"""Two examples in one image: mixup and CutMix. These change the targets too, so they say with what and by how much.

The partner comes from the *global* batch, so under pmap the images are gathered; the numbers do not depend on the devices.
The loss of a mixed example is w · loss(label) + (1 − w) · loss(label of the partner).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from cnn_jax.ops.arguments import check_number
from cnn_jax.ops.augment.chance import check_between, check_images
from cnn_jax.ops.augment.noise import inside
from cnn_jax.ops.precision import result_type
from cnn_jax.ops.random import check_key, example_keys


class Mixed(NamedTuple):
    """Images [b, h, w, c]; for each the place in the global batch of what is mixed in [b]; the share of its own label [b]."""

    images: Float[Array, "b h w c"]
    partners: Int[Array, "b"]
    weights: Float[Array, "b"]


def mixup(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    alpha: float = 0.2,
    probability: float = 1.0,
    axis_name: str | None = None,
) -> Mixed:
    """Returns w · image + (1 − w) · partner, w drawn from Beta(alpha, alpha) for each example; partners are a permutation.

    Args:
      alpha: above 0; the larger, the nearer to ½ the weights.
      probability: of an example being mixed; others have weight 1.

    Raises:
      ValueError: alpha or the probability is out of its range.

    Reference: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2017.

    >>> mixed = mixup(jax.random.key(0), jnp.ones((2, 4, 4, 1)))
    >>> mixed.images.shape, mixed.weights.shape
    ((2, 4, 4, 1), (2,))
    """
    check_images(images)
    check_key(key)
    partner_key, weight_key, _ = jax.random.split(key, 3)
    partners, others = _partners(partner_key, images, axis_name)
    weights = _weights(weight_key, len(images), alpha, probability, axis_name)
    return Mixed(_averaged(images, others, weights), partners, weights)


def cutmix(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    alpha: float = 1.0,
    probability: float = 1.0,
    axis_name: str | None = None,
) -> Mixed:
    """Returns the images, each with a rectangle of its partner's in the same place; partners are a permutation.

    The rectangle has the image's shape and a share 1 − λ of its area, λ from Beta(alpha, alpha) for each example; its middle is at
    any pixel, so that it is cut off at the border. The weight is the share of pixels that were kept, exactly.

    Args:
      alpha: above 0; with 1 all shares are equally likely.
      probability: of an example being mixed; others have weight 1.

    Raises:
      ValueError: alpha or the probability is out of its range.

    Reference: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers", 2019.

    >>> mixed = cutmix(jax.random.key(0), jnp.ones((2, 4, 4, 1)))
    >>> mixed.images.shape, mixed.weights.shape
    ((2, 4, 4, 1), (2,))
    """
    check_images(images)
    check_key(key)
    partner_key, weight_key, place_key = jax.random.split(key, 3)
    partners, others = _partners(partner_key, images, axis_name)
    shares = _weights(weight_key, len(images), alpha, probability, axis_name)
    masks, weights = _rectangles(place_key, images.shape, shares, axis_name)
    return Mixed(jnp.where(masks, others, images), partners, weights)


def mixup_or_cutmix(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    mixup_alpha: float = 0.8,
    cutmix_alpha: float = 1.0,
    cutmix_share: float = 0.5,
    probability: float = 1.0,
    axis_name: str | None = None,
) -> Mixed:
    """Returns the images, each mixed by `cutmix` with probability `cutmix_share` and by `mixup` otherwise.

    The defaults are those with which DeiT, Swin and ConvNeXt were trained. timm draws once for the batch, this for each example.

    Raises:
      ValueError: an alpha or a probability is out of its range.

    Reference: Touvron et al., "Training data-efficient image transformers", 2020, table 9.

    >>> mixed = mixup_or_cutmix(jax.random.key(0), jnp.ones((2, 4, 4, 1)))
    >>> mixed.images.shape, mixed.weights.shape
    ((2, 4, 4, 1), (2,))
    """
    check_images(images)
    check_key(key)
    check_between("cutmix_share", cutmix_share, 0, 1)
    _check_alpha("mixup_alpha", mixup_alpha)
    _check_alpha("cutmix_alpha", cutmix_alpha)
    choice_key, chance_key, mix_key = jax.random.split(key, 3)
    b = len(images)
    cut = _chances(choice_key, b, cutmix_share, axis_name)
    mixed = _chances(chance_key, b, probability, axis_name)
    blended, pasted = (
        # One key: the partners of both are the same.
        mix(mix_key, images, alpha=alpha, axis_name=axis_name)
        for mix, alpha in ((mixup, mixup_alpha), (cutmix, cutmix_alpha))
    )
    weights = jnp.where(mixed, jnp.where(cut, pasted.weights, blended.weights), 1)
    chosen = jnp.where(_rows(cut), pasted.images, blended.images)
    return Mixed(jnp.where(_rows(mixed), chosen, images), blended.partners, weights)


def _partners(key, images, axis_name):
    """For each example here the place of its partner in the global batch, and its image."""
    everyone, first = jnp.asarray(images), 0
    if axis_name is not None:
        everyone = lax.all_gather(images, axis_name, tiled=True)
        first = lax.axis_index(axis_name) * len(images)
    order = jax.random.permutation(key, len(everyone))
    partners = lax.dynamic_slice_in_dim(order, first, len(images))
    return partners, everyone[partners]


def _weights(key, num: int, alpha: float, probability: float, axis_name) -> Float[Array, "b"]:
    """A draw from Beta(alpha, alpha) for each example, and 1 for those that are to stay."""
    check_between("probability", probability, 0, 1)
    _check_alpha("alpha", alpha)
    beta_key, chance_key = jax.random.split(key)
    weights = jax.vmap(lambda k: jax.random.beta(k, alpha, alpha))(example_keys(beta_key, num, axis_name=axis_name))
    return weights if probability == 1 else jnp.where(_chances(chance_key, num, probability, axis_name), weights, 1)


def _rectangles(key, shape, shares, axis_name) -> tuple[Bool[Array, "b h w 1"], Float[Array, "b"]]:
    """Masks of rectangles that keep about those shares of an image, and the shares that they keep exactly."""
    b, height, width, _ = shape

    def one(key, share):
        side = jnp.sqrt(1 - share)
        h, w = jnp.floor(height * side).astype(int), jnp.floor(width * side).astype(int)
        row, column = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
        top, left = row - h // 2, column - w // 2
        return inside((height, width), top, left, top + h, left + w)

    masks = jax.vmap(one)(example_keys(key, b, axis_name=axis_name), shares)
    return masks, 1 - masks.sum((1, 2, 3)) / (height * width)


def _averaged(images, others, weights):
    share = _rows(weights)
    return (share * images + (1 - share) * others).astype(result_type(images))


def _chances(key, num: int, probability: float, axis_name):
    check_between("probability", probability, 0, 1)
    return jax.vmap(lambda k: jax.random.bernoulli(k, float(probability)))(example_keys(key, num, axis_name=axis_name))


def _check_alpha(name: str, alpha: float) -> None:
    check_number(name, alpha, lambda v: 0 < v < float("inf"), "a number above 0")


def _rows(values):
    """A value for each example, to go with its image."""
    return values[:, None, None, None]
