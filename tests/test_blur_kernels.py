"""Smoothing and sharpening kernels against scipy and their definitions."""

import numpy as np
import pytest
from scipy import ndimage

from cnn_jax.ops import kernels as k
from cnn_jax.ops.kernels import FAMILIES, apply_kernel
from tests.pictures import picture


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.7, 6.0])
def test_gaussian_is_scipys(sigma):
    image = picture(40, 33)
    expected = ndimage.gaussian_filter(image.astype(np.float64), sigma, mode="nearest")
    np.testing.assert_allclose(apply_kernel(image, k.gaussian(sigma=sigma), border="replicate"), expected, rtol=2e-5)


@pytest.mark.parametrize("sigma", [1e-200, 0.01, 0.1])
def test_the_narrowest_gaussians_are_the_middle(sigma):
    """One pixel of an odd size, four of an even one; no weight may underflow to 0 / 0."""
    for size, inner in ((3, slice(1, 2)), (4, slice(1, 3)), (1, slice(0, 1))):
        expected = np.zeros((size, size))
        expected[inner, inner] = 1 / expected[inner, inner].size
        np.testing.assert_allclose(k.gaussian(sigma=sigma, size=size), expected, atol=1e-20)


def test_smoothing_kernels():
    image = picture(12, 11)
    mean = ndimage.uniform_filter(image, 5, mode="mirror")
    np.testing.assert_allclose(apply_kernel(image, k.box(size=5), border="reflect"), mean, rtol=1e-4)
    np.testing.assert_array_equal(apply_kernel(image, k.identity(size=4)), image)
    np.testing.assert_allclose(np.asarray(k.binomial(size=5))[2] * 256 / 6, [1, 4, 6, 4, 1])
    np.testing.assert_allclose(k.binomial(size=21)[10], k.gaussian(sigma=20**0.5 / 2, size=21)[10], atol=2e-3)
    for size in (4, 7):
        kernel = np.asarray(k.gaussian(sigma=1.3, size=size))
        assert kernel.shape == (size, size)
        np.testing.assert_array_equal(kernel, kernel[::-1, ::-1])
        np.testing.assert_array_equal(kernel, kernel.T)
    for make in FAMILIES["Smoothing"].values():
        np.testing.assert_allclose(make().sum(), 1, rtol=1e-6)
        assert (np.asarray(make()) >= 0).all()


def test_motion_blur_lies_along_its_angle():
    level, upright = np.asarray(k.motion_blur(length=5.0)), np.asarray(k.motion_blur(length=5.0, angle=np.pi / 2))
    np.testing.assert_allclose(level[2], 0.2, rtol=1e-6)
    np.testing.assert_allclose(upright, level.T, atol=1e-6)
    falling = np.asarray(k.motion_blur(length=9.0, angle=np.pi / 4))
    assert np.trace(falling) > 0.4
    assert np.trace(falling[::-1]) < 0.2
    for length, angle in [(4.0, 0.3), (6.5, 2.0), (1.0, 0.0)]:
        kernel = np.asarray(k.motion_blur(length=length, angle=angle))
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)
        np.testing.assert_allclose(kernel.sum(), 1, rtol=1e-6)


def test_sharpening_kernels():
    image = picture(9, 8)
    for neighbours in (4, 8):
        expected = image - np.asarray(apply_kernel(image, k.laplacian(neighbours=neighbours)))
        np.testing.assert_allclose(apply_kernel(image, k.sharpen(neighbours=neighbours)), expected, rtol=1e-4, atol=1e-5)
    ours = apply_kernel(image, k.unsharp_mask(sigma=1.5, amount=0.7), border="replicate")
    blurred = ndimage.gaussian_filter(image.astype(np.float64), 1.5, mode="nearest")
    np.testing.assert_allclose(ours, image + 0.7 * (image - blurred), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(k.unsharp_mask(amount=0.0)[4, 4], 1)
