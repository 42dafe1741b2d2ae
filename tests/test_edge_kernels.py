"""Kernels of first and second derivatives, compass directions and Gabor's, against scipy and scikit-image."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import filters

from cnn_jax.ops import kernels as k
from cnn_jax.ops.kernels import DIRECTIONS, apply_kernel
from tests.pictures import picture


@pytest.mark.parametrize(
    ("kernel", "theirs", "scale"),
    [
        (k.sobel(axis="x"), filters.sobel_v, 4),
        (k.sobel(axis="y"), filters.sobel_h, 4),
        (k.prewitt(axis="x"), filters.prewitt_v, 3),
        (k.prewitt(axis="y"), filters.prewitt_h, 3),
        (k.scharr(axis="x"), filters.scharr_v, 16),
        (k.scharr(axis="y"), filters.scharr_h, 16),
    ],
)
def test_derivatives_are_scikit_images_but_for_sign_and_scale(kernel, theirs, scale):
    image, inside = picture(9, 8), np.s_[1:-1, 1:-1]
    np.testing.assert_allclose(np.abs(apply_kernel(image, kernel) / scale)[inside], np.abs(theirs(image))[inside], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_derivatives_have_scipys_sign_and_the_documented_slope(axis):
    image, towards = picture(9, 8), {"x": 1, "y": 0}[axis]
    for make, theirs in ((k.sobel, ndimage.sobel), (k.prewitt, ndimage.prewitt)):
        expected = theirs(image, axis=towards, mode="mirror")
        np.testing.assert_allclose(apply_kernel(image, make(axis=axis), border="reflect"), expected, rtol=1e-4, atol=1e-5)
    ramp = np.indices((7, 7))[towards].astype(np.float32)
    for make, slope in ((k.sobel, 8), (k.prewitt, 6), (k.scharr, 32)):
        assert (np.asarray(apply_kernel(ramp, make(axis=axis)))[1:-1, 1:-1] == slope).all()


def test_roberts_is_scikit_images():
    image = picture(9, 8)
    for diagonal, theirs in (("down", filters.roberts_pos_diag), ("up", filters.roberts_neg_diag)):
        ours = np.abs(apply_kernel(image, k.roberts(diagonal=diagonal)))
        np.testing.assert_allclose(ours[1:, 1:], np.abs(theirs(image))[:-1, :-1], atol=1e-6)  # theirs lies upper left of the middle
    rows, columns = np.indices((5, 5)).astype(np.float32)
    assert (np.asarray(apply_kernel(rows + columns, k.roberts()))[1:, 1:] == 2).all()
    assert (np.asarray(apply_kernel(columns - rows, k.roberts(diagonal="up")))[1:, 1:] == 2).all()


def test_second_derivatives():
    image = picture(30, 31)
    ours = apply_kernel(image, k.laplacian(), border="reflect")
    np.testing.assert_allclose(ours, ndimage.laplace(image, mode="mirror"), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.abs(ours)[1:-1, 1:-1], np.abs(filters.laplace(image))[1:-1, 1:-1], rtol=1e-4, atol=1e-5)
    expected = ndimage.gaussian_laplace(image.astype(np.float64), 1.5, mode="nearest")
    np.testing.assert_allclose(apply_kernel(image, k.laplacian_of_gaussian(sigma=1.5), border="replicate"), expected, atol=1e-3)
    expected = filters.difference_of_gaussians(image.astype(np.float64), 1.0, 1.6, mode="nearest")
    ours = apply_kernel(image, k.difference_of_gaussians(sigma=1.0), border="replicate")
    np.testing.assert_allclose(ours, expected, atol=1e-3)  # the narrow one is not cut off at its own 4σ here


def test_the_narrowest_laplacian_is_that_of_eight_neighbours():
    kernel = np.asarray(k.laplacian_of_gaussian(sigma=0.1))
    np.testing.assert_allclose(kernel / kernel[0, 0], k.laplacian(neighbours=8), rtol=1e-4)


@pytest.mark.parametrize(
    ("theta", "psi", "gamma", "sigma", "wavelength"),
    [(0, 0, 1, 2, 4), (0.7, 0, 0.5, 2.5, 6), (2.2, 0.9, 0.8, 1.5, 3.3), (-1, -1.57, 1.5, 3, 9)],
)
def test_gabor_is_scikit_images(theta, psi, gamma, sigma, wavelength):
    theirs = np.real(filters.gabor_kernel(1 / wavelength, theta, sigma_x=sigma, sigma_y=sigma / gamma, offset=psi, n_stds=6))
    theirs *= 2 * np.pi * sigma * sigma / gamma  # without the Gaussian's normalisation
    options = {"theta": float(theta), "psi": float(psi), "gamma": float(gamma), "sigma": float(sigma), "wavelength": float(wavelength)}
    ours = np.asarray(k.gabor(size=9, **options))
    row, column = theirs.shape[0] // 2, theirs.shape[1] // 2
    np.testing.assert_allclose(ours, theirs[row - 4 : row + 5, column - 4 : column + 5], atol=1e-6)
    whole = np.asarray(k.gabor(**options))
    outermost = max(np.abs(whole[0]).max(), np.abs(whole[:, 0]).max())
    assert outermost < 0.02  # the default size leaves nothing out


def test_compass_kernels_look_in_their_direction():
    """On a ramp that gets brighter one way, of the eight the kernel of that direction answers most, and the opposite one least."""
    rows, columns = np.indices((5, 5)).astype(np.float32)
    ways = {"n": -rows, "s": rows, "e": columns, "w": -columns}
    ways |= {"ne": columns - rows, "se": rows + columns, "sw": rows - columns, "nw": -rows - columns}
    for make in (k.kirsch, k.robinson, k.emboss):
        for way, ramp in ways.items():
            ramp = ramp - ramp[2, 2]
            answers = {d: float(apply_kernel(ramp, make(direction=d))[2, 2]) for d in DIRECTIONS}
            assert max(answers, key=answers.get) == way
            assert min(answers, key=answers.get) == DIRECTIONS[(DIRECTIONS.index(way) + 4) % 8]
    np.testing.assert_array_equal(k.robinson(direction="e"), k.sobel())
    np.testing.assert_array_equal(k.robinson(direction="s"), k.sobel(axis="y"))
