"""Kernels that smooth and kernels that sharpen, as float32 arrays [kh, kw] for correlation; rows run down, columns to the right."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnn_jax.ops.arguments import check_number, check_whole


def identity(*, size: int = 3) -> Float[Array, "{size} {size}"]:
    """Returns the kernel that changes nothing: 1 on the centre, size // 2 from the top and left.

    Raises:
      ValueError: size is below 1.

    >>> identity().tolist()
    [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    kernel = np.zeros((_whole(size, "size"),) * 2)
    kernel[size // 2, size // 2] = 1
    return as_kernel(kernel)


def box(*, size: int = 3) -> Float[Array, "{size} {size}"]:
    """Returns the mean of size × size pixels.

    Raises:
      ValueError: size is below 1.

    >>> box(size=2).tolist()
    [[0.25, 0.25], [0.25, 0.25]]
    """
    return as_kernel(np.full((_whole(size, "size"),) * 2, 1 / size**2))


def gaussian(*, sigma: float = 1.0, size: int | None = None) -> Float[Array, "h w"]:
    """Returns exp(−(x² + y²) / 2σ²) at whole distances from the centre, scaled to sum to 1.

    Args:
      sigma: in pixels, any positive number.
      size: rows and columns; None cuts off at 4σ, size 2·⌊4σ + ½⌋ + 1, as scipy.ndimage does. Of an even size the centre lies between
        pixels.

    Raises:
      ValueError: sigma is not positive and finite, or size below 1.

    >>> gaussian(sigma=3.0).shape, round(float(gaussian(sigma=3.0).sum()), 5)
    ((25, 25), 1.0)
    """
    squares = distances(sigma, size) ** 2
    with np.errstate(over="ignore"):  # a quotient too large is a weight of 0
        row = np.exp(-0.5 * ((squares - squares.min()) / sigma / sigma))  # the largest weight is 1: their sum is never 0
    return as_kernel(np.outer(row, row) / row.sum() ** 2)


def binomial(*, size: int = 3) -> Float[Array, "{size} {size}"]:
    """Returns the product of a row and a column of Pascal's triangle, scaled to sum to 1.

    In whole numbers it is what a Gaussian of σ = √(size − 1) / 2 is in real ones.

    Raises:
      ValueError: size is below 1.

    >>> (binomial() * 16).tolist()
    [[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]
    """
    n = _whole(size, "size") - 1
    row = [math.comb(n, i) / 2**n for i in range(size)]
    return as_kernel(np.outer(row, row))


def motion_blur(*, length: float = 7.0, angle: float = 0.0) -> Float[Array, "h w"]:
    """Returns the mean along a straight line through the centre, one pixel wide with soft edges, scaled to sum to 1.

    Args:
      length: of the line, in pixels.
      angle: its direction in radians: 0 lies level, π/4 falls to the right (rows run down), π/2 stands upright.

    Raises:
      ValueError: length is below 1 or not finite, or angle not finite.

    >>> (motion_blur(length=3.0) * 3).round().tolist()
    [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    """
    check_number("length", length, lambda v: 1 <= v < math.inf, "at least 1 and finite")
    check_number("angle", angle, math.isfinite, "a finite number of radians")
    half = (length - 1) / 2
    x, y = grid(2 * math.ceil(max(half, 1)) + 1)
    along, across = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    away = np.hypot(np.maximum(np.abs(along) - half, 0), across)  # distance to the line's nearest point
    soft = np.maximum(1 - away, 0)
    return as_kernel(soft / soft.sum())


def sharpen(*, neighbours: int = 4) -> Float[Array, "3 3"]:
    """Returns the pixel plus its difference to its 4 or 8 neighbours: the identity minus the Laplacian.

    Raises:
      ValueError: neighbours is neither 4 nor 8.

    >>> sharpen().tolist()
    [[0.0, -1.0, 0.0], [-1.0, 5.0, -1.0], [0.0, -1.0, 0.0]]
    """
    around = neighbourhood(neighbours)
    around[1, 1] = -neighbours - 1
    return as_kernel(0 - around)


def unsharp_mask(*, sigma: float = 1.0, amount: float = 1.0, size: int | None = None) -> Float[Array, "h w"]:
    """Returns the pixel plus `amount` times its difference to the Gaussian blur: identity + amount · (identity − gaussian).

    Args:
      sigma, size: of the Gaussian; size must be odd.
      amount: 0 changes nothing.

    Raises:
      ValueError: as `gaussian`; size is even, or amount not finite.

    >>> round(float(unsharp_mask(sigma=2.0).sum()), 5)
    1.0
    """
    check_number("amount", amount, math.isfinite, "finite")
    if size is not None and _whole(size, "size") % 2 == 0:
        raise ValueError(f"size={size} must be odd, so that there is a pixel in the middle")
    blur = np.asarray(gaussian(sigma=sigma, size=size), np.float64)
    kernel = -float(amount) * blur
    kernel[len(blur) // 2, len(blur) // 2] += 1 + amount
    return as_kernel(kernel)


def as_kernel(values) -> Float[Array, "h w"]:
    """Returns the values as a float32 array.

    >>> as_kernel([[1, 2]]).dtype
    dtype('float32')
    """
    return jnp.asarray(np.asarray(values), jnp.float32)


def distances(sigma: float, size: int | None) -> np.ndarray:
    """Returns the distances of `size` pixels in a row from their middle; those up to 4σ where size is None.

    Raises:
      ValueError: sigma is not positive and finite, or size below 1.

    >>> distances(0.5, None).tolist(), distances(1.0, 2).tolist()
    ([-2.0, -1.0, 0.0, 1.0, 2.0], [-0.5, 0.5])
    """
    check_number("sigma", sigma, lambda v: 0 < v < math.inf, "positive and finite")
    size = 2 * int(4 * sigma + 0.5) + 1 if size is None else _whole(size, "size")
    return np.arange(size) - (size - 1) / 2


def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distance to the right of, and below, the middle, for each of size × size pixels.

    Raises:
      ValueError: size is below 1.

    >>> [axis.tolist() for axis in grid(2)]
    [[[-0.5, 0.5], [-0.5, 0.5]], [[-0.5, -0.5], [0.5, 0.5]]]
    """
    row = np.arange(_whole(size, "size")) - (size - 1) / 2
    x, y = np.meshgrid(row, row)
    return x, y


def neighbourhood(neighbours: int) -> np.ndarray:
    """Returns 3 × 3 values: 1 for each of the 4 or 8 neighbours of the middle, 0 elsewhere.

    Raises:
      ValueError: neighbours is neither 4 nor 8.

    >>> neighbourhood(4).tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    if neighbours not in (4, 8):
        raise ValueError(f"neighbours={neighbours} must be 4 (beside, above, below) or 8 (also diagonally)")
    corner = float(neighbours == 8)
    return np.array([[corner, 1, corner], [1, 0, 1], [corner, 1, corner]])


def _whole(value: int, name: str) -> int:
    check_whole(name, value)
    return int(value)
