"""Hand-designed kernels against scipy and scikit-image, what each must do to a known picture, and the sheet of all of them."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage import filters

from cnn_jax import kernel_sheet
from cnn_jax.errors import UserError
from cnn_jax.kernel_sheet import PICTURES, draw_kernel_sheet, load_picture
from cnn_jax.ops import kernels as k
from cnn_jax.ops.kernels import DIRECTIONS, FAMILIES, KERNELS, apply_kernel

pytestmark = pytest.mark.usefixtures("quick_compilation")


def picture(*shape):
    return np.random.default_rng(0).random(shape).astype(np.float32)


# scipy's names for our borders. (Its own "reflect" repeats the outermost value.)
BORDERS = {"zeros": "constant", "reflect": "mirror", "replicate": "nearest", "circular": "grid-wrap"}


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("size", [(3, 3), (1, 4), (2, 5), (6, 2), (1, 1)])
def test_apply_kernel_is_scipys_correlation(border, size):
    kernel = np.random.default_rng(1).normal(size=size).astype(np.float32)
    image = picture(2, 9, 7, 3)

    def expected(plane):
        return ndimage.correlate(plane.astype(np.float64), kernel.astype(np.float64), mode=BORDERS[border])

    one = apply_kernel(image[0, :, :, 0], jnp.array(kernel), border=border)
    np.testing.assert_allclose(one, expected(image[0, :, :, 0]), rtol=1e-5, atol=1e-5)
    colour = np.stack([expected(image[0, :, :, c]) for c in range(3)], -1)
    np.testing.assert_allclose(apply_kernel(image[0], jnp.array(kernel), border=border), colour, rtol=1e-5, atol=1e-5)
    batch = apply_kernel(jnp.array(image), jnp.array(kernel), border=border)
    assert batch.shape == image.shape
    np.testing.assert_allclose(batch[0], colour, rtol=1e-5, atol=1e-5)
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


def test_the_narrowest_laplacian_is_that_of_eight_neighbours():
    kernel = np.asarray(k.laplacian_of_gaussian(sigma=0.1))
    np.testing.assert_allclose(kernel / kernel[0, 0], k.laplacian(neighbours=8), rtol=1e-4)


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


def test_sharpening_kernels():
    image = picture(9, 8)
    for neighbours in (4, 8):
        expected = image - np.asarray(apply_kernel(image, k.laplacian(neighbours=neighbours)))
        np.testing.assert_allclose(apply_kernel(image, k.sharpen(neighbours=neighbours)), expected, rtol=1e-4, atol=1e-5)
    ours = apply_kernel(image, k.unsharp_mask(sigma=1.5, amount=0.7), border="replicate")
    blurred = ndimage.gaussian_filter(image.astype(np.float64), 1.5, mode="nearest")
    np.testing.assert_allclose(ours, image + 0.7 * (image - blurred), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(k.unsharp_mask(amount=0.0)[4, 4], 1)


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


def test_the_sheet_shows_all_kernels_on_the_picture(tmp_path, monkeypatch):
    path = tmp_path / "new" / "sheet.png"
    assert draw_kernel_sheet(load_picture("chelsea"), path) == list(KERNELS)
    assert path.stat().st_size < 1_500_000
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        pixels = np.asarray(sheet.convert("RGB"), np.float32)
    corner = np.array([kernel_sheet._MARGIN, kernel_sheet._MARGIN + kernel_sheet._HEADING])
    width, height = kernel_sheet._PICTURE
    first = pixels[corner[1] : corner[1] + height, corner[0] : corner[0] + width]  # the identity's tile: the picture itself
    expected = kernel_sheet._cut_and_made_small(load_picture("chelsea")) * 255
    free = slice(0, height // 2)
    assert np.abs(first[free] - expected[free]).mean() < 8  # 256 colours for the whole sheet
    assert (pixels[:, :8] == 255).all()  # nothing runs over the margins
    assert (pixels[:, -8:] == 255).all()
    monkeypatch.setattr(kernel_sheet, "FAMILIES", {"Smoothing": {"box": k.box}})
    assert draw_kernel_sheet(np.ones((2, 5, 3), np.float32), tmp_path / "small.png", border="circular") == ["box"]


def test_pictures_are_bundled_or_files(tmp_path):
    for name in PICTURES:
        image = load_picture(name)
        assert image.dtype == np.float32
        assert image.shape[-1] == 3
        assert 0 <= image.min() < image.max() <= 1
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_allclose(load_picture(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, -1) / 255, rtol=1e-6)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match=r"text.png' cannot be read as a picture.*Bundled pictures: astronaut, camera, chelsea"):
        load_picture(str(tmp_path / "text.png"))
    with pytest.raises(UserError, match=r"no picture 'chelsee'. Did you mean chelsea\? Bundled pictures: .* PNG or JPEG"):
        load_picture("chelsee")
    with pytest.raises(UserError, match="no picture"):
        load_picture(tmp_path)
    with pytest.raises(ValueError, match=r"image must be \[h, w, 3\], got shape \(4, 4\)"):
        draw_kernel_sheet(np.zeros((4, 4)), tmp_path / "x.png")


def test_the_sheet_refuses_what_it_cannot_write(tmp_path, monkeypatch):
    image = np.ones((4, 4, 3), np.float32)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=r"--output=.*sheet.jpg must be a PNG file: --output=FILE.png"):
        draw_kernel_sheet(image, tmp_path / "sheet.jpg")
    with pytest.raises(UserError, match=r"Unknown border 'reflct'. Did you mean reflect .*Known: zeros, reflect, replicate, circular."):
        draw_kernel_sheet(image, tmp_path / "sheet.png", border="reflct")
    monkeypatch.setattr(kernel_sheet, "FAMILIES", {"Smoothing": {"box": k.box}})
    for path in ("file/sheet.png", "folder.png"):
        with pytest.raises(UserError, match=f"--output=.*{path} cannot be written: "):
            draw_kernel_sheet(image, tmp_path / path)
