"""Kernels that find edges, as float32 arrays [kh, kw] for correlation; rows run down, columns to the right.

All sum to zero, so that flat parts of a picture give 0, but `emboss`, which sums to one, and `gabor`, which need not. Values are the
classical whole numbers; the docstrings say by what to divide for a derivative in units of brightness a pixel.
"""

import math
from typing import Literal, get_args

import numpy as np
from jaxtyping import Array, Float

from cnn_jax.ops.arguments import check_number, is_number
from cnn_jax.ops.blur_kernels import as_kernel, distances, gaussian, grid, neighbourhood

Axis = Literal["x", "y"]  # along which a derivative is taken: x to the right, y downwards
Direction = Literal["n", "ne", "e", "se", "s", "sw", "w", "nw"]  # a point of the compass
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)  # the eight points of the compass, clockwise from the north


def sobel(*, axis: Axis = "x") -> Float[Array, "3 3"]:
    """Returns Sobel's derivative: the difference of neighbours, smoothed 1 2 1 across. Divide by 8 for a derivative.

    Args:
      axis: "x" is positive where it gets brighter to the right, "y" where it gets brighter downwards.

    Raises:
      ValueError: axis is neither.

    Reference: Sobel & Feldman, "A 3×3 isotropic gradient operator for image processing", 1968.

    >>> sobel().tolist()
    [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]
    """
    return _derivative((1, 2, 1), axis)


def prewitt(*, axis: Axis = "x") -> Float[Array, "3 3"]:
    """Returns Prewitt's derivative: as `sobel`, with 1 1 1 across. Divide by 6 for a derivative.

    Raises:
      ValueError: axis is neither "x" nor "y".

    Reference: Prewitt, "Object enhancement and extraction", 1970.

    >>> prewitt(axis="y").tolist()
    [[-1.0, -1.0, -1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    return _derivative((1, 1, 1), axis)


def scharr(*, axis: Axis = "x") -> Float[Array, "3 3"]:
    """Returns Scharr's derivative: as `sobel`, with 3 10 3 across, nearly the same in all directions. Divide by 32 for a derivative.

    Raises:
      ValueError: axis is neither "x" nor "y".

    Reference: Scharr, "Optimale Operatoren in der Digitalen Bildverarbeitung", 2000.

    >>> scharr().tolist()
    [[-3.0, 0.0, 3.0], [-10.0, 0.0, 10.0], [-3.0, 0.0, 3.0]]
    """
    return _derivative((3, 10, 3), axis)


def roberts(*, diagonal: Literal["down", "up"] = "down") -> Float[Array, "2 2"]:
    """Returns Roberts' cross, the difference of two pixels along a diagonal. Divide by √2 for a derivative.

    Args:
      diagonal: "down" is positive where it gets brighter to the lower right, "up" to the upper right.

    Raises:
      ValueError: diagonal is neither.

    Reference: Roberts, "Machine perception of three-dimensional solids", 1963.

    >>> roberts().tolist(), roberts(diagonal="up").tolist()
    ([[-1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [-1.0, 0.0]])
    """
    kernels = {"down": [[-1, 0], [0, 1]], "up": [[0, 1], [-1, 0]]}
    return as_kernel(kernels[_one_of(diagonal, tuple(kernels), "diagonal")])


def laplacian(*, neighbours: int = 4) -> Float[Array, "3 3"]:
    """Returns the second derivative: the sum of the differences to 4 or 8 neighbours; positive on the dark side of an edge.

    Raises:
      ValueError: neighbours is neither 4 nor 8.

    >>> laplacian(neighbours=8).tolist()
    [[1.0, 1.0, 1.0], [1.0, -8.0, 1.0], [1.0, 1.0, 1.0]]
    """
    around = neighbourhood(neighbours)
    around[1, 1] = -neighbours
    return as_kernel(around)


def laplacian_of_gaussian(*, sigma: float = 1.0, size: int | None = None) -> Float[Array, "h w"]:
    """Returns the Laplacian of a Gaussian, (r² − 2σ²) / σ⁴ · G(r), shifted to sum to zero in spite of its finite size.

    Args:
      sigma, size: as in `gaussian`, but size is at least 3.

    Raises:
      ValueError: as `gaussian`; size below 3, where there is no curvature, or sigma below 1e-6.

    Reference: Marr & Hildreth, "Theory of edge detection", 1980.

    >>> laplacian_of_gaussian(sigma=1.4).shape, laplacian_of_gaussian()[4, 4].item() < 0
    ((13, 13), True)
    """
    size = _curved(sigma, size)
    if sigma < 1e-6:
        raise ValueError(f"sigma={sigma} must be at least 1e-6: the values grow as 1 / σ²")
    row = distances(sigma, size)
    squares = row[:, None] ** 2 + row[None, :] ** 2
    kernel = (squares - 2 * sigma**2) / sigma**4 * np.asarray(gaussian(sigma=sigma, size=size), np.float64)
    return as_kernel(kernel - kernel.mean())


def difference_of_gaussians(*, sigma: float = 1.0, ratio: float = 1.6, size: int | None = None) -> Float[Array, "h w"]:
    """Returns a narrow Gaussian minus one `ratio` times as wide, as the cells of the retina do; bright spots of size σ give most.

    Args:
      sigma: of the narrow one.
      ratio: above 1; 1.6 comes nearest to a (negative) `laplacian_of_gaussian`.
      size: as in `gaussian`, at least 3; None cuts off at 4σ of the wide one.

    Raises:
      ValueError: as `gaussian`; ratio is not above 1, size below 3, or sigma so small that both are one pixel.

    Reference: Marr & Hildreth, "Theory of edge detection", 1980.

    >>> difference_of_gaussians().shape
    (13, 13)
    """
    check_number("ratio", ratio, lambda v: 1 < v < math.inf, "above 1 and finite")
    distances(sigma, size)  # names what is wrong with sigma itself
    size = _curved(sigma * ratio, size)
    kernel = gaussian(sigma=sigma, size=size) - gaussian(sigma=sigma * ratio, size=size)
    if not np.any(kernel):
        raise ValueError(f"sigma={sigma} is too small: at ratio={ratio} both Gaussians are the same")
    return kernel


def gabor(
    *, sigma: float = 3.0, theta: float = 0.0, wavelength: float = 6.0, psi: float = 0.0, gamma: float = 0.5, size: int | None = None
) -> Float[Array, "h w"]:
    """Returns Gabor's wave in a Gaussian, exp(−(u² + γ²v²) / 2σ²) · cos(2πu / λ + ψ), u across its stripes and v along them.

    Args:
      sigma: of the Gaussian across the stripes, in pixels; it is σ/γ along them.
      theta: direction across the stripes in radians: 0 has upright stripes, π/2 level ones; u = x·cos θ + y·sin θ, y down.
      wavelength: λ, from stripe to stripe, in pixels.
      psi: ψ; 0 has a bright stripe in the middle, −π/2 an edge from dark to bright along θ.
      gamma: roundness; below 1 the stripes are long.
      size: rows and columns; None cuts off at 3 deviations of the longer side.

    Raises:
      ValueError: sigma, wavelength or gamma is not positive, another number not finite, or size below 1.

    Reference: Daugman, "Uncertainty relation for resolution in space, spatial frequency, and orientation …", 1985.

    >>> gabor(size=3, wavelength=2.0, sigma=1e6).round(2).tolist()
    [[-1.0, 1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, 1.0, -1.0]]
    """
    positive = {"sigma": sigma, "wavelength": wavelength, "gamma": gamma}
    angles = all(is_number(v) and math.isfinite(v) for v in (theta, psi))
    if not angles or not all(is_number(v) and 0 < v < math.inf for v in positive.values()):
        raise ValueError(f"{positive} must be positive and finite, theta={theta} and psi={psi} numbers of radians")
    x, y = grid(2 * math.ceil(3 * sigma * max(1, 1 / gamma)) + 1 if size is None else size)
    u, v = math.cos(theta) * x + math.sin(theta) * y, math.cos(theta) * y - math.sin(theta) * x
    return as_kernel(np.exp(-(u**2 + (gamma * v) ** 2) / (2 * sigma**2)) * np.cos(2 * math.pi * u / wavelength + psi))


def kirsch(*, direction: Direction = "n") -> Float[Array, "3 3"]:
    """Returns Kirsch's compass mask: three neighbours against the other five, largest where it is brightest towards `direction`.

    Args:
      direction: "n" is up, "e" to the right.

    Raises:
      ValueError: an unknown direction.

    Reference: Kirsch, "Computer determination of the constituent structure of biological images", 1971.

    >>> kirsch().tolist()
    [[5.0, 5.0, 5.0], [-3.0, 0.0, -3.0], [-3.0, -3.0, -3.0]]
    """
    return _compass((5, 5, 5, -3, -3, -3, -3, -3), 0, direction)


def robinson(*, direction: Direction = "n") -> Float[Array, "3 3"]:
    """Returns Robinson's compass mask: Sobel's derivative in eight directions, positive where it gets brighter towards `direction`.

    Args:
      direction: "n" is up, "e" to the right.

    Raises:
      ValueError: an unknown direction.

    Reference: Robinson, "Edge detection by compass gradient masks", 1977.

    >>> robinson(direction="ne").tolist()
    [[0.0, 1.0, 2.0], [-1.0, 0.0, 1.0], [-2.0, -1.0, 0.0]]
    """
    return _compass((1, 2, 1, 0, -1, -2, -1, 0), 0, direction)


def emboss(*, direction: Direction = "se") -> Float[Array, "3 3"]:
    """Returns the picture plus its derivative towards `direction`, which looks like a relief lit from the other side.

    Args:
      direction: "n" is up, "e" to the right.

    Raises:
      ValueError: an unknown direction.

    >>> emboss().tolist()
    [[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]]
    """
    return _compass((1, 2, 1, 0, -1, -2, -1, 0), 1, direction)


def _derivative(smoothing: tuple[int, ...], axis: str) -> Array:
    across = np.outer(smoothing, (-1, 0, 1))
    return as_kernel(across if _one_of(axis, get_args(Axis), "axis") == "x" else across.T)


def _compass(ring: tuple[int, ...], centre: int, direction: str) -> Array:
    """The eight values around a centre, clockwise from the upper left for north, turned to another direction."""
    turned = np.roll(ring, DIRECTIONS.index(_one_of(direction, DIRECTIONS, "direction")))
    kernel = np.full((3, 3), centre)
    kernel[[0, 0, 0, 1, 2, 2, 2, 1], [0, 1, 2, 2, 2, 1, 0, 0]] = turned
    return as_kernel(kernel)


def _curved(sigma: float, size: int | None) -> int:
    """The size that is asked for, or else cuts off at 4σ; the kernel of one or two pixels that sums to zero is zero."""
    if size is not None and len(distances(sigma, size)) < 3:
        raise ValueError(f"size={size} must be at least 3: a smaller kernel that sums to zero is zero")
    return max(len(distances(sigma, size)), 3)


def _one_of(value: str, allowed: tuple[str, ...], name: str) -> str:
    if value not in allowed:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(allowed)}")
    return value
