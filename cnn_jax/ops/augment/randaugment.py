"""RandAugment and TrivialAugment: a few of fourteen operations, drawn for each example, as one program.

A switch under vmap would run all fourteen and choose. Here the five geometric ones are one matrix and one resampling, and the
four that move towards another image or away from it are one blend.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from cnn_jax.ops.augment.blur import soften
from cnn_jax.ops.augment.chance import check_between, check_images, check_whole, each
from cnn_jax.ops.augment.colour import blend, grey, mean_grey
from cnn_jax.ops.augment.tone import autocontrast, equalize, posterize, solarize
from cnn_jax.ops.augment.warp import Fill, Interpolation, affine_matrix, affine_warp
from cnn_jax.ops.random import check_key

# The paper's, in torchvision's order.
OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness",
    "colour", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)
# Magnitudes are counted from 0 to 30, in the paper and in torchvision's 31 bins.
_MOST = 30


class Amounts(NamedTuple):
    """What an operation does at full magnitude: a tangent, pixels along x and y, degrees, a change of a factor, bits taken."""

    shear: float
    translate: tuple[float, float]
    degrees: float
    change: float
    bits: int


def rand_augment(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    num_ops: int = 2,
    magnitude: float = 9.0,
    deviation: float = 0.0,
    interpolation: Interpolation = "nearest",
    fill: Fill = 0.0,
    probability: float = 1.0,
    axis_name: str | None = None,
) -> Float[Array, "b h w c"]:
    """Returns the images, each after `num_ops` operations drawn with replacement from OPERATIONS, all at one magnitude.

    Ranges at magnitude 30 are torchvision's: shear 0.3, translation 150/331 of the side, rotation 30°, factors 1 ± 0.9, 4 bits fewer,
    solarize from 0; the sign is drawn. timm's "rand-m9-mstd0.5-inc1" is nearest to deviation 0.5 and probability 0.5; it has invert
    and solarize-add too, and no identity.

    Args:
      magnitude: from 0 to 30.
      deviation: standard deviation of the magnitude, drawn for each operation and clipped to its range; timm's mstd.
      interpolation, fill: those of `warp.affine_warp`; torchvision's default is "nearest" too.
      probability: of each operation being done; timm's is 0.5.

    Raises:
      ValueError: an option is out of its range; the channels are neither one nor three.

    Reference: Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space", 2019.

    >>> rand_augment(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    check_images(images)
    check_key(key)
    check_whole("num_ops", num_ops, 0)
    check_between("probability", probability, 0, 1)
    check_between("magnitude", magnitude, 0, _MOST)
    check_between("deviation", deviation, 0)
    height, width = images.shape[1:3]
    amounts = Amounts(shear=0.3, translate=(150 / 331 * width, 150 / 331 * height), degrees=30.0, change=0.9, bits=4)

    def one(key, image):
        index_key, sign_key, magnitude_key = jax.random.split(key, 3)
        index, sign = jax.random.randint(index_key, (), 0, len(OPERATIONS)), jax.random.rademacher(sign_key, (), float)
        drawn = magnitude + deviation * jax.random.normal(magnitude_key)
        return operate(image, index, jnp.clip(drawn / _MOST, 0, 1), sign, amounts, interpolation=interpolation, fill=fill)

    def step(images, op_key):
        return each(one, op_key, images, probability=probability, axis_name=axis_name), None

    # A loop, unrolled, would be fused across operations: each pixel would be computed anew for each that reads it.
    return lax.scan(step, images, jax.random.split(key, num_ops))[0]


def trivial_augment(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    interpolation: Interpolation = "nearest",
    fill: Fill = 0.0,
    axis_name: str | None = None,
) -> Float[Array, "b h w c"]:
    """Returns the images, each after one of OPERATIONS at a magnitude drawn from the whole numbers 0 to 30: nothing to tune.

    Ranges at magnitude 30 are the "wide" ones: shear 0.99, translation 32 pixels, rotation 135°, factors 1 ± 0.99, 6 bits fewer,
    solarize from 0; the sign is drawn.

    Raises:
      ValueError: the channels are neither one nor three.

    Reference: Müller & Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", 2021.

    >>> trivial_augment(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    amounts = Amounts(shear=0.99, translate=(32.0, 32.0), degrees=135.0, change=0.99, bits=6)

    def one(key, image):
        index_key, sign_key, magnitude_key = jax.random.split(key, 3)
        index, sign = jax.random.randint(index_key, (), 0, len(OPERATIONS)), jax.random.rademacher(sign_key, (), float)
        strength = jax.random.randint(magnitude_key, (), 0, _MOST + 1) / _MOST
        return operate(image, index, strength, sign, amounts, interpolation=interpolation, fill=fill)

    return each(one, key, images, axis_name=axis_name)


def operate(
    image: Float[Array, "h w c"],
    index: Int[Array, ""],
    strength: Float[Array, ""],
    sign: Float[Array, ""],
    amounts: Amounts,
    *,
    interpolation: Interpolation = "nearest",
    fill: Fill = 0.0,
) -> Float[Array, "h w c"]:
    """Returns the image after OPERATIONS[index] at `strength` of the amounts, 0 to 1, with that sign (1 or −1) where it has one.

    As Pillow does, shears hold the upper left corner in place; as torchvision does, translations are by whole pixels.

    Raises:
      ValueError: the channels are neither one nor three, or the interpolation is unknown.

    >>> amounts = Amounts(0.3, (4.0, 4.0), 30.0, 0.9, 4)
    >>> image = jnp.array([1.0, 0.5]).reshape(1, 2, 1)
    >>> operate(image, jnp.array(3), jnp.array(0.25), jnp.array(1.0), amounts).ravel().tolist()
    [0.0, 1.0]
    """

    def drawn(*names):
        return jnp.isin(index, jnp.array([OPERATIONS.index(name) for name in names]))

    def amount(name, most):
        return jnp.where(drawn(name), sign * strength * most, 0)

    height, width = image.shape[:2]
    lean_x, lean_y = amount("shear_x", amounts.shear), amount("shear_y", amounts.shear)
    # Leaning about the upper left corner is leaning about the middle and then shifting.
    shift = (
        jnp.trunc(amount("translate_x", amounts.translate[0])) - lean_x * height / 2,
        jnp.trunc(amount("translate_y", amounts.translate[1])) - lean_y * width / 2,
    )
    shear = [jnp.rad2deg(jnp.arctan(lean)) for lean in (lean_x, lean_y)]
    matrix = affine_matrix(degrees=amount("rotate", amounts.degrees), shear=shear, shift=shift)
    others = {
        "brightness": jnp.zeros_like(image),
        "colour": grey(image),
        "contrast": mean_grey(image),
        "sharpness": soften(image),
    }
    other = jnp.select([drawn(name) for name in others], list(others.values()), image)
    results = {
        ("shear_x", "shear_y", "translate_x", "translate_y", "rotate"): affine_warp(image, matrix, interpolation=interpolation, fill=fill),
        tuple(others): blend(image, other, 1 + sign * strength * amounts.change),
        ("posterize",): posterize(image, 8 - jnp.round(strength * amounts.bits)),
        ("solarize",): solarize(image, 1 - strength),
        ("autocontrast",): autocontrast(image),
        ("equalize",): equalize(image),
    }
    return jnp.select([drawn(*names) for names in results], list(results.values()), image)
