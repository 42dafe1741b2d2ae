"""Hand-designed kernels: applied as scipy correlates, in every border; all of them by name; what is refused."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cnn_jax.ops import kernels as k
from cnn_jax.ops.kernels import FAMILIES, KERNELS, apply_kernel
from tests.pictures import picture

# scipy's names for our borders. (Its own "reflect" repeats the outermost value.)
BORDERS = {"zeros": "constant", "reflect": "mirror", "replicate": "nearest", "circular": "grid-wrap"}


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("size", [(3, 3), (1, 4), (2, 5), (6, 2), (1, 1)])
def test_apply_kernel_is_scipys_correlation(border, size):
    kernel = np.random.default_rng(1).normal(size=size).astype(np.float32)
    image = picture(2, 9, 7, 3)

    def expected(plane):
        return ndimage.correlate(plane.astype(np.float64), kernel.astype(np.float64), mode=BORDERS[border])

    @jax.jit
    def applied(image, kernel):
        return [apply_kernel(part, kernel, border=border) for part in (image[0, :, :, 0], image[0], image)]

    one, colour, batch = applied(image, kernel)
    np.testing.assert_allclose(one, expected(image[0, :, :, 0]), rtol=1e-5, atol=1e-5)
    in_colour = np.stack([expected(image[0, :, :, c]) for c in range(3)], -1)
    np.testing.assert_allclose(colour, in_colour, rtol=1e-5, atol=1e-5)
    assert batch.shape == image.shape
    np.testing.assert_allclose(batch[0], in_colour, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(batch[1, :, :, 2], expected(image[1, :, :, 2]), rtol=1e-5, atol=1e-5)


def test_true_convolution_is_correlation_with_the_turned_kernel():
    kernel, image = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32), picture(8, 9)
    ours = apply_kernel(image, jnp.array(kernel)[::-1, ::-1])
    np.testing.assert_allclose(ours, ndimage.convolve(image, kernel, mode="constant"), rtol=1e-4, atol=1e-5)


def test_apply_kernel_types_and_gradient():
    whole = np.array([[0, 255], [255, 0]], np.uint8)
    result = apply_kernel(whole, k.box(size=2))
    assert result.dtype == jnp.float32
    assert result[1, 1] == 127.5
    half = apply_kernel(jnp.array(picture(6, 6), jnp.bfloat16), k.gaussian())
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(half, np.float32), apply_kernel(picture(6, 6), k.gaussian()), rtol=2e-2)
    image, kernel = jnp.array(picture(5, 6)), k.sobel()
    gradient = jax.jit(jax.grad(lambda image: apply_kernel(image, kernel)[2, 3]))(image)
    np.testing.assert_array_equal(gradient[1:4, 2:5], kernel)
    assert float(jnp.abs(gradient).sum()) == 8


def test_every_kernel_by_name():
    assert len(KERNELS) == sum(map(len, FAMILIES.values())) == 48
    for name, make in KERNELS.items():
        kernel = make()
        assert kernel.dtype == jnp.float32
        assert kernel.ndim == 2
        assert np.isfinite(kernel).all()
        assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in inspect.signature(make).parameters.values()), name
    for family in ("First derivative", "Second derivative", "Kirsch compass", "Robinson compass"):
        for name, make in FAMILIES[family].items():
            np.testing.assert_allclose(make().sum(), 0, atol=1e-6, err_msg=name)
    for family in ("Smoothing", "Sharpening", "Emboss"):
        for name, make in FAMILIES[family].items():
            np.testing.assert_allclose(make().sum(), 1, rtol=1e-5, err_msg=name)


@pytest.mark.usefixtures("unchecked")
def test_wrong_arguments_are_named():
    for call, message in [
        (lambda: k.gaussian(sigma=0.0), "sigma=0.0 must be positive"),
        (lambda: k.gaussian(sigma=float("nan")), "sigma=nan must be positive"),
        (lambda: k.gaussian(sigma="1"), "sigma='1' must be positive"),
        (lambda: k.laplacian_of_gaussian(size=1), "size=1 must be at least 3"),
        (lambda: k.laplacian_of_gaussian(size=2), "size=2 must be at least 3"),
        (lambda: k.laplacian_of_gaussian(sigma=1e-9), "sigma=1e-09 must be at least 1e-6"),
        (lambda: k.difference_of_gaussians(sigma=-1.0), "sigma=-1.0 must be positive"),
        (lambda: k.difference_of_gaussians(size=2), "size=2 must be at least 3"),
        (lambda: k.difference_of_gaussians(sigma=0.01), "sigma=0.01 is too small"),
        (lambda: k.gaussian(size=0), "size=0 must be a whole number of at least 1"),
        (lambda: k.box(size=-1), "size=-1"),
        (lambda: k.binomial(size=0), "size=0"),
        (lambda: k.identity(size=0), "size=0"),
        (lambda: k.motion_blur(length=0.5), "length=0.5 must be at least 1"),
        (lambda: k.sharpen(neighbours=6), "neighbours=6 must be 4"),
        (lambda: k.laplacian(neighbours=3), "neighbours=3 must be 4"),
        (lambda: k.unsharp_mask(size=4), "size=4 must be odd"),
        (lambda: k.difference_of_gaussians(ratio=1.0), "ratio=1.0 must be above 1"),
        (lambda: k.gabor(wavelength=0.0), "'wavelength': 0.0.* must be positive"),
        (lambda: k.gabor(theta=float("inf")), "theta=inf"),
        (lambda: apply_kernel(np.zeros(3, np.float32), k.box()), r"image must be \[h, w\].* got shape \(3,\)"),
        (lambda: apply_kernel(np.zeros((0, 3), np.float32), k.box()), "not empty"),
        (lambda: apply_kernel(np.zeros((3, 3), np.float32), k.gaussian(sigma=2.0), border="reflect"), "too wide for 3 values"),
    ]:
        with pytest.raises(ValueError, match=message):
            pytest.fail(f"{call()} instead of an error that says {message}")


def test_unknown_words_are_named():
    """What the shape checker of the tests would refuse first is asked of the functions below it."""
    for call, message in [
        (lambda: inspect.unwrap(k.sobel)(axis="z"), "axis='z' must be one of x, y"),
        (lambda: inspect.unwrap(k.roberts)(diagonal="left"), "diagonal='left' must be one of down, up"),
        (lambda: inspect.unwrap(k.kirsch)(direction="north"), "direction='north' must be one of n, ne, e"),
        (lambda: inspect.unwrap(apply_kernel)(np.zeros((3, 3), np.float32), jnp.zeros((1, 3, 3))), r"kernel must be \[kh, kw\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
