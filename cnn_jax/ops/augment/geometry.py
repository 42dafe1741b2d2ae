"""Random rotation, scale, shear, perspective and elastic deformation; the resampling is `warp`'s."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from cnn_jax.ops.arguments import check_number
from cnn_jax.ops.augment.blur import default_radius, smooth
from cnn_jax.ops.augment.chance import check_between, check_images, check_interval, each, is_between, is_pair, uniform
from cnn_jax.ops.augment.warp import Fill, Interpolation, affine_matrix, affine_warp, displace, perspective_matrix, perspective_warp
from cnn_jax.ops.padding import Border


def random_affine(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    degrees: float = 15.0,
    translate: tuple[float, ...] = (0.1, 0.1),
    scale: tuple[float, ...] = (0.8, 1.2),
    shear: tuple[float, ...] = (10.0, 0.0),
    interpolation: Interpolation = "bilinear",
    border: Border = "zeros",
    fill: Fill = 0.0,
    probability: float = 1.0,
    axis_name: str | None = None,
) -> Float[Array, "b h w c"]:
    """Returns the images, each scaled, sheared, rotated and shifted at random about its middle, in one resampling.

    Each amount is uniform in its range, as in torchvision's RandomAffine.

    Args:
      degrees: the largest rotation to either side.
      translate: the largest shift to either side along (x, y), as a share of the width and the height.
      scale: smallest and largest; above 1 magnifies.
      shear: the largest angle to either side along (x, y), in degrees below 90.
      interpolation, border, fill: those of `warp.affine_warp`.

    Raises:
      ValueError: an option is out of its range.

    >>> random_affine(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    check_images(images)
    check_between("degrees", degrees, 0)
    check_interval("scale", scale, 1e-6)
    for name, pair, most in (("translate", translate, 1), ("shear", shear, 89)):
        if not is_pair(pair) or not all(is_between(value, 0, most) for value in pair):
            raise ValueError(f"{name}={pair} must be a pair (along x, along y), both from 0 to {most}")
    height, width = images.shape[1:3]

    def one(key, image):
        turn, x, y, size, lean_x, lean_y = (
            uniform(k, interval)
            for k, interval in zip(
                jax.random.split(key, 6),
                [*((-most, most) for most in (degrees, translate[0] * width, translate[1] * height)), scale, *((-s, s) for s in shear)],
                strict=True,
            )
        )
        matrix = affine_matrix(degrees=turn, scale=size, shear=(lean_x, lean_y), shift=(x, y))
        return affine_warp(image, matrix, interpolation=interpolation, border=border, fill=fill)

    return each(one, key, images, probability=probability, axis_name=axis_name)


def random_rotation(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    degrees: float = 15.0,
    interpolation: Interpolation = "bilinear",
    border: Border = "zeros",
    fill: Fill = 0.0,
    probability: float = 1.0,
    axis_name: str | None = None,
) -> Float[Array, "b h w c"]:
    """Returns the images, each turned about its middle by an angle uniform in [−degrees, degrees].

    The other arguments are those of `warp.affine_warp`.

    Raises:
      ValueError: as `random_affine`.

    >>> random_rotation(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    return random_affine(
        key, images, degrees=degrees, translate=(0.0, 0.0), scale=(1.0, 1.0), shear=(0.0, 0.0),
        interpolation=interpolation, border=border, fill=fill, probability=probability, axis_name=axis_name,
    )


def random_scale(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    scale: tuple[float, ...] = (0.8, 1.2),
    interpolation: Interpolation = "bilinear",
    border: Border = "zeros",
    fill: Fill = 0.0,
    probability: float = 1.0,
    axis_name: str | None = None,
) -> Float[Array, "b h w c"]:
    """Returns the images, each magnified (above 1) or made smaller about its middle by a factor uniform in `scale`; sizes stay.

    The other arguments are those of `warp.affine_warp`.

    Raises:
      ValueError: as `random_affine`.

    >>> random_scale(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    return random_affine(
        key, images, degrees=0.0, translate=(0.0, 0.0), scale=scale, shear=(0.0, 0.0),
        interpolation=interpolation, border=border, fill=fill, probability=probability, axis_name=axis_name,
    )


def random_shear(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    shear: tuple[float, ...] = (10.0, 10.0),
    interpolation: Interpolation = "bilinear",
    border: Border = "zeros",
    fill: Fill = 0.0,
    probability: float = 1.0,
    axis_name: str | None = None,
) -> Float[Array, "b h w c"]:
    """Returns the images, each leaning along x and along y by angles uniform in [−s, s], s the two of `shear` in degrees.

    The other arguments are those of `warp.affine_warp`.

    Raises:
      ValueError: as `random_affine`.

    >>> random_shear(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    return random_affine(
        key, images, degrees=0.0, translate=(0.0, 0.0), scale=(1.0, 1.0), shear=shear,
        interpolation=interpolation, border=border, fill=fill, probability=probability, axis_name=axis_name,
    )


def random_perspective(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    distortion: float = 0.5,
    interpolation: Interpolation = "bilinear",
    border: Border = "zeros",
    fill: Fill = 0.0,
    probability: float = 0.5,
    axis_name: str | None = None,
) -> Float[Array, "b h w c"]:
    """Returns the images, each seen from a random side with the given probability; torchvision's RandomPerspective.

    Each corner moves inwards by up to distortion · half the side along both axes, uniformly, and the image with it.

    Args:
      distortion: at least 0 and less than 1, where the corners could meet.
      interpolation, border, fill: those of `warp.affine_warp`.

    Raises:
      ValueError: the distortion is out of its range, or an image has a side of one pixel.

    >>> random_perspective(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    check_images(images)
    height, width = images.shape[1:3]
    check_number("distortion", distortion, lambda v: 0 <= v < 1, "at least 0 and less than 1")
    if min(height, width) < 2:
        raise ValueError(f"images of shape {images.shape} have no perspective: at least 2 rows and columns are needed")
    half = jnp.array([(height - 1) / 2, (width - 1) / 2])
    corners = jnp.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]]) * half[None]

    def one(key, image):
        inwards = 1 - distortion * jax.random.uniform(key, (4, 2))
        matrix = perspective_matrix(corners * inwards, height=height, width=width)
        return perspective_warp(image, matrix, interpolation=interpolation, border=border, fill=fill)

    return each(one, key, images, probability=probability, axis_name=axis_name)


def random_elastic(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    *,
    alpha: float = 34.0,
    sigma: float = 4.0,
    interpolation: Interpolation = "bilinear",
    border: Border = "reflect",
    fill: Fill = 0.0,
    probability: float = 1.0,
    axis_name: str | None = None,
) -> Float[Array, "b h w c"]:
    """Returns the images, each pixel from a place moved by alpha · G_sigma ∗ u, with u uniform in [−1, 1], a field for each axis.

    The displacements' standard deviation is about 0.16 · alpha / sigma pixels, and they vary over about sigma pixels. The noise
    reaches beyond the border, so that the field is of the same strength everywhere.

    Args:
      alpha, sigma: strength and smoothness in pixels; the defaults are for handwriting of 28×28 pixels.
      interpolation, border, fill: those of `warp.affine_warp`.

    Raises:
      ValueError: alpha or sigma is negative.

    Reference: Simard, Steinkraus & Platt, "Best Practices for Convolutional Neural Networks", 2003.

    >>> random_elastic(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    check_images(images)
    check_between("alpha", alpha, 0)
    check_between("sigma", sigma, 0)
    height, width = images.shape[1:3]
    radius = default_radius(sigma)

    def one(key, image):
        noise = jax.random.uniform(key, (height + 2 * radius, width + 2 * radius, 2), minval=-1.0, maxval=1.0)
        return displace(image, alpha * smooth(noise, sigma, radius), interpolation=interpolation, border=border, fill=fill)

    return each(one, key, images, probability=probability, axis_name=axis_name)
