"""An image seen through a change of coordinates: affine, perspective, or a field of displacements. Nothing here is random.

Positions are (row, column) of pixel centres, measured from the middle of the image ((h − 1) / 2, (w − 1) / 2), rows downwards.
A matrix says where each *output* pixel comes from, so the identity returns the image exactly. Angles are in degrees,
counter-clockwise as seen. Resampling is jax.scipy.ndimage.map_coordinates': bilinear values fade into the fill over one pixel.
"""

import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float

from cnn_jax.ops.arguments import check_array, check_number, check_word, is_number, is_several
from cnn_jax.ops.augment.chance import Scalar, check_between, check_images, check_whole, is_between
from cnn_jax.ops.padding import Border
from cnn_jax.ops.precision import as_floats

Interpolation = Literal["bilinear", "nearest"]  # how values between pixels are read
Fill = float | tuple[float, ...]  # what lies beyond the border: one value, or one a channel

_ORDERS = {"nearest": 0, "bilinear": 1}
_BORDERS = {"zeros": "constant", "replicate": "nearest", "reflect": "mirror", "circular": "wrap"}
# Farther away than any image, near enough for float32 to tell neighbours apart: keeps indices finite at a horizon.
_FAR = 1e6


def affine_matrix(
    *,
    degrees: Scalar = 0.0,
    scale: Scalar = 1.0,
    shear: Sequence[Scalar] = (0.0, 0.0),
    shift: Sequence[Scalar] = (0.0, 0.0),
) -> Float[Array, "2 3"]:
    """Returns the matrix for `affine_warp` that scales, then shears, then rotates, then shifts an image: torchvision's order.

    Args:
      degrees: of rotation, counter-clockwise; exact at multiples of 90.
      scale: above 1 magnifies.
      shear: (along x, along y) in degrees: how far an upright line leans to the right, and a level one to the top.
      shift: (right, down) in pixels.

    Raises:
      ValueError: shear or shift is no pair; the scale, if known when the function is traced, is not positive and finite.

    >>> affine_matrix(degrees=90.0).tolist()
    [[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]
    """
    for name, pair in (("shear", shear), ("shift", shift)):
        if not is_several(pair) or len(pair) != 2 or not all(is_between(value, -math.inf, math.inf) for value in pair):
            raise ValueError(f"{name}={pair} must be a pair of numbers (along x, along y)")
    check_number("degrees", degrees, math.isfinite, "finite")
    check_between("scale", scale, 1e-6)
    cos, sin = _cos_sin(degrees)
    lean_x, lean_y = (jnp.tan(jnp.deg2rad(angle)) for angle in shear)
    # The inverse, one factor after the other, written out: products of 2×2 matrices would be rounded on accelerators.
    rows = (cos - lean_y * sin, sin + lean_y * cos)
    columns = (lean_x * rows[0] - sin, lean_x * rows[1] + cos)
    right, down = shift
    inverse = [[rows[0] / scale, rows[1] / scale], [columns[0] / scale, columns[1] / scale]]
    return jnp.stack([jnp.stack([r, c, -(r * down + c * right)]) for r, c in inverse]) + 0.0  # no −0


def perspective_matrix(corners: Float[Array, "4 2"], *, height: int, width: int) -> Float[Array, "3 3"]:
    """Returns the matrix for `perspective_warp` that moves the image's corner pixels to the given positions.

    Args:
      corners: (row, column) from the middle of the image, for top left, top right, bottom right, bottom left; a convex shape.

    Raises:
      ValueError: the corners, if known when the function is traced, are no convex shape: two meet, three lie on one line, or sides cross.

    Reference: Heckbert, "Fundamentals of Texture Mapping and Image Warping", 1989, section 2.2.3.

    >>> square = jnp.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    >>> perspective_matrix(2 * square, height=3, width=3).tolist()
    [[0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """
    corners = _floats("corners", corners, (4, 2))
    _check_corners(corners)
    check_whole("height", height, 1)
    check_whole("width", width, 1)
    first, second, third, fourth = corners
    # (v, u, 1), from 0 to 1 along the sides, to (row, column, 1), up to a factor.
    along, down, rest = second - third, fourth - third, first - second + third - fourth
    area = _cross(along, down)
    u, v = _cross(rest, down) / area, _cross(along, rest) / area
    one = jnp.ones(1, corners.dtype)
    columns = [
        jnp.concatenate([fourth - first + v * fourth, v[None]]),
        jnp.concatenate([second - first + u * second, u[None]]),
        jnp.concatenate([first, one]),
    ]
    inverse = jnp.stack([jnp.cross(columns[1], columns[2]), jnp.cross(columns[2], columns[0]), jnp.cross(columns[0], columns[1])])
    inverse = inverse / (columns[0] * inverse[0]).sum()
    rows, across = ((side - 1) * (line - inverse[2] / 2) for side, line in ((height, inverse[0]), (width, inverse[1])))
    return jnp.stack([rows, across, inverse[2]]) + 0.0


def affine_warp(
    image: Float[Array, "h w c"],
    matrix: Float[Array, "2 3"],
    *,
    interpolation: Interpolation = "bilinear",
    border: Border = "zeros",
    fill: Fill = 0.0,
) -> Float[Array, "h w c"]:
    """Returns the image whose pixel at position p is the given image's at A·p + t, where matrix = [A | t].

    Args:
      matrix: of (row, column) from the middle of the image, as `affine_matrix` makes it.
      border: what lies outside: "zeros" is the fill, "reflect" mirrors about the outermost pixel, "replicate" repeats it,
        "circular" goes on at the other side.
      fill: one number, or one for each channel; used with border "zeros".

    Raises:
      ValueError: an unknown interpolation or border; as many fills as there are no channels; a matrix of another shape.

    >>> to_the_right = affine_matrix(shift=(1.0, 0.0))
    >>> affine_warp(jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), to_the_right).ravel().tolist()
    [0.0, 1.0, 2.0]
    """
    check_images(image, "h w c")
    matrix = _floats("matrix", matrix, (2, 3))
    rows, columns = _positions(image, matrix.dtype)
    middle = _middle(image)
    places = [m[0] * rows + m[1] * columns + (m[2] + centre) for m, centre in zip(matrix, middle, strict=True)]
    return _sample(image, places, interpolation, border, fill)


def perspective_warp(
    image: Float[Array, "h w c"],
    matrix: Float[Array, "3 3"],
    *,
    interpolation: Interpolation = "bilinear",
    border: Border = "zeros",
    fill: Fill = 0.0,
) -> Float[Array, "h w c"]:
    """Returns the image whose pixel at p = (row, column, 1) is the given image's at the first two of M·p over the third.

    Where the third is not positive lies what is beyond the horizon: it counts as far outside. The arguments are `affine_warp`'s.

    Raises:
      ValueError: as `affine_warp`.

    >>> image = jnp.arange(9.0).reshape(3, 3, 1)
    >>> perspective_warp(image, 2 * jnp.eye(3))[1].ravel().tolist()
    [3.0, 4.0, 5.0]
    """
    check_images(image, "h w c")
    matrix = _floats("matrix", matrix, (3, 3))
    rows, columns = _positions(image, matrix.dtype)
    down, right, depth = (m[0] * rows + m[1] * columns + m[2] for m in matrix)
    seen = depth > 1e-6
    depth = jnp.where(seen, depth, 1)
    places = [jnp.where(seen, place / depth + centre, -_FAR) for place, centre in zip((down, right), _middle(image), strict=True)]
    return _sample(image, places, interpolation, border, fill)


def rotate(
    image: Float[Array, "h w c"],
    degrees: Scalar,
    *,
    interpolation: Interpolation = "bilinear",
    border: Border = "zeros",
    fill: Fill = 0.0,
) -> Float[Array, "h w c"]:
    """Returns the image turned counter-clockwise about its middle, of the same size; exact at multiples of 90 if it is square.

    The arguments are `affine_warp`'s.

    Raises:
      ValueError: as `affine_warp`.

    >>> rotate(jnp.array([[1.0, 2.0], [3.0, 4.0]])[..., None], 90.0)[..., 0].tolist()
    [[2.0, 4.0], [1.0, 3.0]]
    """
    return affine_warp(image, affine_matrix(degrees=degrees), interpolation=interpolation, border=border, fill=fill)


def displace(
    image: Float[Array, "h w c"],
    field: Float[Array, "h w 2"],
    *,
    interpolation: Interpolation = "bilinear",
    border: Border = "zeros",
    fill: Fill = 0.0,
) -> Float[Array, "h w c"]:
    """Returns the image whose pixel at (i, j) is the given image's at (i, j) + field[i, j].

    Args:
      field: (rows, columns) in pixels. The other arguments are `affine_warp`'s.

    Raises:
      ValueError: the field has another shape; else as `affine_warp`.

    >>> one_row_down = jnp.broadcast_to(jnp.array([1.0, 0.0]), (2, 1, 2))
    >>> displace(jnp.array([1.0, 2.0]).reshape(2, 1, 1), one_row_down).ravel().tolist()
    [2.0, 0.0]
    """
    check_images(image, "h w c")
    height, width = image.shape[:2]
    field = _floats("field", field, (height, width, 2))
    places = [jnp.arange(height)[:, None] + field[..., 0], jnp.arange(width)[None] + field[..., 1]]
    return _sample(image, places, interpolation, border, fill)


def _floats(name, array, shape):
    check_array(name, array)
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, got {array.shape}")
    return as_floats(array)


def _check_corners(corners) -> None:
    """Going around a convex shape, every turn is to the same side."""
    if isinstance(corners, jax.core.Tracer):
        return
    places = np.asarray(corners, np.float64)
    sides = np.roll(places, -1, 0) - places
    turns = _cross(sides.T, np.roll(sides, -1, 0).T)
    if not ((turns > 0).all() or (turns < 0).all()):
        raise ValueError(f"corners={places.tolist()} must be a convex shape: no two equal, no three on one line, no sides that cross")


def _sample(image, places, interpolation, border, fill):
    """The image's values at (rows, columns), counted from its first pixel."""
    check_word("interpolation", interpolation, _ORDERS)
    check_word("border", border, _BORDERS)
    fill = np.asarray(fill) if isinstance(fill, jax.Array) and not isinstance(fill, jax.core.Tracer) else fill
    fills = tuple(fill) if is_several(fill) else (fill,)
    if len(fills) not in (1, image.shape[2]) or not all(map(is_number, fills)):
        raise ValueError(f"fill={fill} must be one number, or one for each of {image.shape[2]} channels")
    if border == "reflect" and min(image.shape[:2]) < 2:
        raise ValueError(f"border='reflect' needs at least 2 rows and columns to mirror, the image has {image.shape[0]}×{image.shape[1]}")
    places = [jnp.clip(place, -_FAR, _FAR) for place in places]

    def values(channels, outside):
        def one(channel):
            return map_coordinates(channel, places, _ORDERS[interpolation], _BORDERS[border], float(outside))

        return jax.vmap(one, in_axes=2, out_axes=2)(channels)

    # The fill is a static argument there, hence one call for each.
    return jnp.concatenate([values(part, f) for part, f in zip(jnp.split(image, len(fills), axis=2), fills, strict=True)], axis=2)


def _middle(image):
    return (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2


def _positions(image, dtype):
    """Row and column of each pixel, [h, 1] and [1, w], from the middle."""
    rows, columns = (jnp.arange(side, dtype=dtype) - centre for side, centre in zip(image.shape[:2], _middle(image), strict=True))
    return rows[:, None], columns[None]


def _cos_sin(degrees):
    """Cosine and sine, exact at multiples of 90, where those of a rounded π are not."""
    degrees = jnp.asarray(degrees, jnp.result_type(float))
    quarter = jnp.round(degrees / 90)
    rest = jnp.deg2rad(degrees - 90 * quarter)
    cos, sin = jnp.cos(rest), jnp.sin(rest)
    turn = quarter.astype(int) % 4
    return jnp.stack([cos, -sin, -cos, sin])[turn], jnp.stack([sin, cos, -sin, -cos])[turn]


def _cross(a, b):
    return a[0] * b[1] - a[1] * b[0]
