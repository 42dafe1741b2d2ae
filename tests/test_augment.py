"""Augmentation against Pillow, scipy and the definitions; and what holds for all of it: range, devices, determinism."""

import colorsys
import inspect
import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage

from cnn_jax.ops import augment
from cnn_jax.ops.augment.chance import each
from cnn_jax.ops.augment.randaugment import OPERATIONS, Amounts, operate
from cnn_jax.ops.augment.warp import affine_matrix, affine_warp, displace, perspective_matrix, perspective_warp, rotate
from cnn_jax.options import options

pytestmark = pytest.mark.usefixtures("quick_compilation")

SCIPY_MODES = {"zeros": "grid-constant", "replicate": "nearest", "reflect": "mirror", "circular": "grid-wrap"}
# Every augmentation, with the options under which it surely changes something.
ALWAYS = {"probability": 1.0}
ALL = {
    "random_flip": {},
    "random_vertical_flip": {},
    "random_crop": {"size": 9, "padding": 2, "border": "reflect"},
    "center_crop": {"size": 5},
    "random_resized_crop": {"size": 6},
    "random_shift": {"pixels": 2},
    "random_rotation": {},
    "random_scale": {"border": "reflect"},
    "random_shear": {},
    "random_affine": {},
    "random_perspective": ALWAYS,
    "random_elastic": {"sigma": 2.0, "interpolation": "nearest"},
    "colour_jitter": {},
    "random_grey": ALWAYS,
    "random_blur": {},
    "random_sharpness": ALWAYS,
    "random_noise": {},
    "random_erase": {"value": "noise", "probability": 1.0},
    "cutout": {"size": 4},
    "random_invert": ALWAYS,
    "random_solarize": ALWAYS,
    "random_posterize": ALWAYS,
    "random_equalize": ALWAYS,
    "random_autocontrast": ALWAYS,
    "rand_augment": {},
    "trivial_augment": {},
}
MIXES = ("mixup", "cutmix", "mixup_or_cutmix")


def images(b=8, h=9, w=10, c=3, seed=6):
    """Asymmetric, not touching 0 and 1."""
    return jnp.array(np.random.default_rng(seed).uniform(0.1, 0.8, (b, h, w, c)), jnp.float32)


def bytes_image(h=19, w=23, c=3, seed=0):
    """A smooth random picture in bytes, [h, w, c]."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(h, w, c)), (2, 2, 0))
    noise = (noise - noise.min()) / np.ptp(noise)
    return (20 + 190 * noise).astype(np.uint8)


def pillow(array):
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def unit(array):
    return jnp.array(array, jnp.float32) / 255


def as_bytes(result):
    return np.round(np.asarray(result) * 255).astype(int)


def run(name, key, x, **chosen):
    """The augmentation compiled as one: without, each of its steps is compiled for itself, which takes several times as long."""
    return jax.jit(partial(getattr(augment, name), **chosen))(key, x)


# Everything at once.


@pytest.mark.parametrize("name", ALL)
def test_any_augmentation_keeps_its_promises(name):
    """The range, the type and the number of images; the same on four devices and on one; grey too; not nothing."""
    function, key = partial(getattr(augment, name), **ALL[name]), jax.random.key(3)
    x = images(h=17, w=16)

    def colour_and_grey(part):
        return function(key, part, axis_name="data"), function(key, part[..., :1], axis_name="data")

    eager = np.asarray(jax.jit(function)(key, x))
    mapped, grey = jax.pmap(colour_and_grey, "data")(x.reshape(4, 2, 17, 16, 3))
    np.testing.assert_allclose(np.asarray(mapped).reshape(eager.shape), eager, rtol=1e-4, atol=1e-5)
    assert grey.shape == (*mapped.shape[:-1], 1)
    for y in (eager, np.asarray(grey)):
        assert y.dtype == np.float32
        assert np.isfinite(y).all()
        assert y.min() >= 0
        assert y.max() <= 1 + 1e-6
    assert eager.shape != x.shape or np.abs(eager - x).max() > 0.01
    half = jax.eval_shape(function, key, x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    assert half.shape == eager.shape


def test_a_place_in_the_batch_has_its_change():
    """However many examples follow."""
    erase, x = jax.jit(partial(augment.random_erase, value="noise", probability=0.7)), images()
    np.testing.assert_array_equal(erase(jax.random.key(3), x[:3]), erase(jax.random.key(3), x)[:3])


def test_bfloat16_changes_as_float32_does():
    function, x = jax.jit(partial(augment.rand_augment, num_ops=1)), images(h=17, w=16)
    half, whole = (np.asarray(function(jax.random.key(3), x.astype(dtype)), np.float32) for dtype in (jnp.bfloat16, jnp.float32))
    assert np.mean(np.abs(half - whole) > 0.02) < 0.02  # posterize and solarize jump


@pytest.mark.parametrize("name", [*ALL, *MIXES])
def test_every_option_can_be_set(name):
    function = getattr(augment, name)
    keyword_only = {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert set(options(function)) == keyword_only - {"axis_name"}


def test_probability_is_the_share_that_changes():
    x = jnp.zeros((2000, 1, 1, 1))
    for probability in (0.0, 0.3, 1.0):
        y = each(lambda key, image: 1 - image, jax.random.key(0), x, probability=probability)
        assert abs(float(y.mean()) - probability) < (0.03 if 0 < probability < 1 else 1e-9)
    for function in (getattr(augment, name) for name in (*ALL, *MIXES)):
        if "probability" in inspect.signature(function).parameters:
            with pytest.raises(ValueError, match="probability=1.5 must be from 0 to 1"):
                jax.eval_shape(partial(function, probability=1.5), jax.random.key(0), images())


def test_the_key_decides():
    x = images()
    rotation = jax.jit(augment.random_rotation)
    first, again, other = (rotation(jax.random.key(k), x) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


# Flips and crops.


def test_flip_flips_some_and_only_flips():
    x = images(b=32)
    y = np.asarray(augment.random_flip(jax.random.key(0), x))
    flipped = [not np.array_equal(a, b) for a, b in zip(x, y, strict=True)]
    assert 5 < sum(flipped) < 27
    for f, a, b in zip(flipped, np.asarray(x), y, strict=True):
        np.testing.assert_array_equal(b, a[:, ::-1] if f else a)


@pytest.mark.parametrize(("name", "probability"), [("random_flip", None), ("random_vertical_flip", 0.5), ("random_vertical_flip", 0.2)])
def test_flips_are_as_frequent_as_said(name, probability):
    x = jnp.broadcast_to(jnp.arange(4.0).reshape(1, 2, 2, 1) / 4, (4000, 2, 2, 1))
    y = getattr(augment, name)(jax.random.key(5), x, **({} if probability is None else {"probability": probability}))
    assert abs(float((y != x).any((1, 2, 3)).mean()) - (probability or 0.5)) < 0.03


def test_shift_equals_a_padded_crop():
    x = np.asarray(images(b=16, h=5, w=4))
    y = np.asarray(augment.random_shift(jax.random.key(1), jnp.array(x), pixels=2))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    seen = set()
    for a, b in zip(padded, y, strict=True):
        places = [(r, c) for r in range(5) for c in range(5) if np.array_equal(a[r : r + 5, c : c + 4], b)]
        assert places
        seen.add(places[0])
    assert len(seen) > 5


@pytest.mark.parametrize(("border", "mode"), [("zeros", "constant"), ("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
def test_random_crop_cuts_every_part_of_the_padded_image(border, mode):
    x = np.broadcast_to(np.asarray(images(b=1, h=5, w=4)), (200, 5, 4, 3))
    y = np.asarray(augment.random_crop(jax.random.key(1), jnp.array(x), size=(4, 5), padding=1, border=border))
    padded = np.pad(x[0], ((1, 1), (1, 1), (0, 0)), mode=mode)
    parts = [padded[r : r + 4, c : c + 5] for r, c in itertools.product(range(4), range(2))]
    counts = np.array([[np.array_equal(part, crop) for part in parts] for crop in y])
    assert (counts.sum(1) == 1).all()
    assert (counts.sum(0) > 8).all()  # 25 are expected of each


def test_center_crop_leaves_the_odd_pixel_below_and_right():
    x = images(b=2, h=8, w=9)
    np.testing.assert_array_equal(augment.center_crop(jax.random.key(0), x, size=(5, 4)), x[:, 1:6, 2:6])


def test_resized_crop_of_a_ramp_is_a_ramp_inside_it():
    """Cropping and resizing a linear ramp gives a linear ramp whose ends lie inside the picture's."""
    ramp = jnp.broadcast_to(jnp.linspace(0, 1, 32)[None, None, :, None], (8, 32, 32, 1))
    y = np.asarray(run("random_resized_crop", jax.random.key(2), ramp, size=16, min_area=0.3))
    assert y.shape == (8, 16, 16, 1)
    inner = y[:, 4:12, 3:13, 0]
    np.testing.assert_allclose(np.diff(inner, 2, axis=2), 0, atol=0.01)  # the anti-aliasing filter ripples a little
    assert (np.diff(inner, axis=2) > 0).all()
    assert y.min() >= 0
    assert y.max() <= 1 + 1e-6


# Warps.


@pytest.mark.parametrize(("h", "w", "interpolation", "border"), [(5, 8, "bilinear", "zeros"), (4, 7, "nearest", "reflect")])
def test_the_identity_changes_no_bit(h, w, interpolation, border):
    image = images(b=1, h=h, w=w)[0]
    how = {"interpolation": interpolation, "border": border}
    corners = jnp.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]]) * jnp.array([[(h - 1) / 2, (w - 1) / 2]])

    @jax.jit
    def warped(image):
        return (
            affine_warp(image, affine_matrix(), **how),
            rotate(image, -720.0, **how),
            displace(image, jnp.zeros((h, w, 2)), **how),
            perspective_warp(image, jnp.eye(3), **how),
        )

    for same in warped(image):
        np.testing.assert_array_equal(same, image)
    np.testing.assert_allclose(perspective_matrix(corners, height=h, width=w), np.eye(3), atol=1e-6)


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_quarter_turns_are_exact(size, interpolation):
    image = images(b=1, h=size, w=size)[0]
    turned = jax.jit(partial(rotate, interpolation=interpolation))
    for turns in (-2, -1, 1, 2, 3, 5):
        np.testing.assert_array_equal(turned(image, 90.0 * turns), np.rot90(image, turns))


@pytest.mark.parametrize(("border", "mode"), [("zeros", "constant"), ("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
@pytest.mark.parametrize(("right", "down"), [(2, 1), (-3, 0), (0, -2)])
def test_whole_shifts_are_slices(right, down, border, mode):
    image = np.asarray(images(b=1, h=5, w=6)[0])
    padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode=mode)
    ours = quick_warp(jnp.array(image), quick_matrix(shift=(float(right), float(down))), border=border)
    np.testing.assert_array_equal(ours, padded[3 - down : 8 - down, 3 - right : 9 - right])


quick_matrix = jax.jit(affine_matrix)
quick_warp = jax.jit(affine_warp, static_argnames=("border", "fill"))


def push_matrix(degrees, scale, shear, shift):
    """Where a point (x right, y down) goes: scaled, sheared along x, along y, turned, shifted; from the definitions."""
    angle, lean_x, lean_y = np.deg2rad([degrees, *shear])
    scaled = np.diag([scale, scale, 1])
    along_x = np.array([[1, -np.tan(lean_x), 0], [0, 1, 0], [0, 0, 1]])  # what is above (y < 0) goes right
    along_y = np.array([[1, 0, 0], [-np.tan(lean_y), 1, 0], [0, 0, 1]])  # what is right goes up
    turned = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    shifted = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]])
    return shifted @ turned @ along_y @ along_x @ scaled


@pytest.mark.usefixtures("float64")
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    degrees=st.floats(-400, 400),
    scale=st.floats(0.3, 3),
    shear=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    shift=st.tuples(st.floats(-4, 4), st.floats(-4, 4)),
    border=st.sampled_from(sorted(SCIPY_MODES)),
    sides=st.sampled_from([(2, 9), (7, 6)]),
)
def test_affine_warp_equals_scipy(degrees, scale, shear, shift, border, sides):
    with jax.enable_x64(True):
        matrix = np.asarray(quick_matrix(degrees=degrees, scale=scale, shear=shear, shift=shift))
        pull = np.linalg.inv(push_matrix(degrees, scale, shear, shift))[:2]
        np.testing.assert_allclose(matrix, pull[::-1][:, [1, 0, 2]], rtol=1e-9, atol=1e-9)
        image = np.random.default_rng(1).random((*sides, 2))
        middle = (np.array(sides) - 1) / 2
        offset = middle + matrix[:, 2] - matrix[:, :2] @ middle
        how = {"order": 1, "mode": SCIPY_MODES[border], "cval": 0.25}
        expected = np.stack([ndimage.affine_transform(image[..., i], matrix[:, :2], offset, **how) for i in (0, 1)], -1)
        ours = quick_warp(jnp.array(image), jnp.array(matrix), border=border, fill=0.25)
        np.testing.assert_allclose(ours, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.usefixtures("float64")
def test_warps_are_linear_in_the_image_and_smooth_in_the_matrix():
    rng = np.random.default_rng(2)
    image, direction, cotangent = (jnp.array(rng.normal(size=(6, 7, 2))) for _ in range(3))
    matrix = quick_matrix(degrees=23.0, scale=1.3, shear=(5.0, 2.0), shift=(0.4, 0.3))
    gradient = jax.jit(lambda x: jax.vjp(lambda x: affine_warp(x, matrix), x)[1](cotangent)[0])(image)
    np.testing.assert_allclose((gradient * direction).sum(), (cotangent * quick_warp(direction, matrix)).sum(), rtol=1e-10)

    @jax.jit
    def value(m):
        return (affine_warp(image, m) * cotangent).sum()

    step = 1e-6 * jnp.array(rng.normal(size=(2, 3)))
    difference = (value(matrix + step) - value(matrix - step)) / 2
    np.testing.assert_allclose((jax.jit(jax.grad(value))(matrix) * step).sum(), difference, rtol=1e-5)


def test_fills_may_differ_by_channel():
    image = images(b=1, h=3, w=3)[0]
    far = affine_warp(image, affine_matrix(shift=(10.0, 0.0)), fill=(0.1, 0.2, 0.3))
    np.testing.assert_allclose(far, np.broadcast_to([0.1, 0.2, 0.3], (3, 3, 3)), rtol=1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("seed", range(2))
def test_perspective_equals_eight_equations(seed):
    rng = np.random.default_rng(seed)
    h, w = 9, 12
    start = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * [(h - 1) / 2, (w - 1) / 2]
    end = start * rng.uniform(0.6, 1.1, (4, 2))
    rows = []
    for (a, b), (r, c) in zip(start, end, strict=True):  # (m00 r + m01 c + m02) / (m20 r + m21 c + 1) = a, and b
        rows += [[r, c, 1, 0, 0, 0, -a * r, -a * c], [0, 0, 0, r, c, 1, -b * r, -b * c]]
    expected = np.append(np.linalg.solve(np.array(rows), start.ravel()), 1).reshape(3, 3)
    matrix = np.asarray(perspective_matrix(jnp.array(end), height=h, width=w))
    np.testing.assert_allclose(matrix / matrix[2, 2], expected, rtol=1e-8, atol=1e-10)
    image = rng.random((h, w, 1))
    places = np.zeros((2, h, w))
    for i, j in itertools.product(range(h), range(w)):
        down, right, depth = expected @ [i - (h - 1) / 2, j - (w - 1) / 2, 1]
        places[:, i, j] = down / depth + (h - 1) / 2, right / depth + (w - 1) / 2
    sampled = ndimage.map_coordinates(image[..., 0], places, order=1, mode="grid-constant")
    np.testing.assert_allclose(jax.jit(perspective_warp)(jnp.array(image), jnp.array(matrix))[..., 0], sampled, rtol=1e-8, atol=1e-8)


def test_beyond_the_horizon_is_nothing():
    matrix = jnp.array([[1.0, 0, 0], [0, 1, 0], [0, 0.5, 0]])  # depth = column / 2: what is left of the middle lies behind
    seen = perspective_warp(jnp.ones((5, 5, 1)), matrix)[..., 0]
    np.testing.assert_array_equal(seen[:, :3], 0)
    assert float(seen[2, 3:].min()) == 1


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("order", [0, 1])
def test_displacement_equals_scipy(order):
    rng = np.random.default_rng(3)
    image, field = rng.random((7, 6, 2)), rng.normal(size=(7, 6, 2))
    places = np.moveaxis(field, -1, 0) + np.mgrid[:7, :6]
    expected = np.stack([ndimage.map_coordinates(image[..., i], places, order=order, mode="mirror") for i in (0, 1)], -1)
    warp = jax.jit(partial(displace, border="reflect", interpolation=("nearest", "bilinear")[order]))
    ours = warp(jnp.array(image), jnp.array(field))
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


def measured_matrices(name, **chosen):
    """The pulling 2×2 matrices and shifts, in (row, column), of 400 draws, measured on a picture of its own coordinates."""
    h, w = 17, 21
    coordinates = np.stack(np.meshgrid(np.arange(h) - (h - 1) / 2, np.arange(w) - (w - 1) / 2, indexing="ij"), -1) / 40 + 0.5
    x = jnp.broadcast_to(jnp.array(coordinates, jnp.float32)[None], (400, h, w, 2))
    y = (np.asarray(jax.jit(partial(getattr(augment, name), **chosen))(jax.random.key(0), x)) - 0.5) * 40
    middle, step = y[:, 8, 10], 2
    down, right = (y[:, 8 + step, 10] - middle) / step, (y[:, 8, 10 + step] - middle) / step
    return np.stack([down, right], -1), middle


def test_random_geometry_stays_in_its_ranges_and_fills_them():
    def spans(values, most, least=None):
        least = -most if least is None else least
        width = most - least
        assert values.min() >= least - 0.01 * width
        assert values.max() <= most + 0.01 * width
        assert values.min() < least + 0.05 * width
        assert values.max() > most - 0.05 * width
        assert abs(values.mean() - (most + least) / 2) < 0.06 * width

    pull, shift = measured_matrices("random_rotation", degrees=30.0)
    spans(np.rad2deg(np.arctan2(pull[:, 0, 1], pull[:, 0, 0])), 30)
    np.testing.assert_allclose(shift, 0, atol=1e-4)
    np.testing.assert_allclose(pull @ np.swapaxes(pull, 1, 2), np.broadcast_to(np.eye(2), pull.shape), atol=1e-3)
    pull, _ = measured_matrices("random_scale", scale=(0.5, 2.0))
    spans(1 / pull[:, 0, 0], 2.0, 0.5)
    np.testing.assert_allclose(pull[:, 0, 0], pull[:, 1, 1], rtol=1e-4)
    pull, _ = measured_matrices("random_shear", shear=(20.0, 0.0))
    spans(np.rad2deg(np.arctan(pull[:, 1, 0])), 20)
    np.testing.assert_allclose(pull[:, 0], np.broadcast_to([1, 0], pull[:, 0].shape), atol=1e-3)
    pull, _ = measured_matrices("random_shear", shear=(0.0, 10.0))
    spans(np.rad2deg(np.arctan(pull[:, 0, 1])), 10)
    _, shift = measured_matrices("random_affine", degrees=0.0, scale=(1.0, 1.0), shear=(0.0, 0.0), translate=(0.1, 0.3))
    spans(shift[:, 0], 0.3 * 17)
    spans(shift[:, 1], 0.1 * 21)


def test_perspective_moves_each_corner_inwards():
    """A white picture becomes a white quadrilateral: its rows and columns are fewer, by half a side at most, and all four sides move."""
    y = np.asarray(run("random_perspective", jax.random.key(0), jnp.ones((64, 21, 21, 1)), distortion=0.5, probability=1.0))[..., 0]
    assert (y[:, 10, 10] == 1).all()
    lit = y > 0.5
    dark = [(~quarter).mean((1, 2)) for quarter in (lit[:, :10, :10], lit[:, :10, 11:], lit[:, 11:, :10], lit[:, 11:, 11:])]
    assert np.abs(np.corrcoef(dark) - np.eye(4)).max() < 0.7  # each corner for itself, though two share a side
    assert all(0.1 < quarter.mean() < 0.6 for quarter in dark)
    assert (lit[:, 6:15, 6:15]).all()
    assert 0.4 < lit.mean() < 0.8


def test_elastic_fields_have_the_strength_that_is_said():
    """Measured on a ramp: deviation 0.163 · alpha / sigma, everywhere, border included, and neighbours move alike."""
    h, w = 24, 200
    ramp = jnp.broadcast_to(jnp.arange(w, dtype=jnp.float32)[None, None, :, None] / w, (32, h, w, 1))
    y = run("random_elastic", jax.random.key(1), ramp, alpha=20.0, sigma=3.0)
    moved = ((np.asarray(y) - np.asarray(ramp)) * w)[:, :, 10:-10, 0]
    expected = 20 * math.sqrt(1 / 3) / (2 * math.sqrt(math.pi) * 3)
    assert abs(moved.std() / expected - 1) < 0.05
    assert abs(moved[:, [0, -1]].std() / expected - 1) < 0.1
    assert abs(moved[:, 1:] - moved[:, :-1]).mean() < 0.4 * expected


# Colour and tone.


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("adjust", "enhance"),
    [
        (augment.adjust_brightness, ImageEnhance.Brightness),
        (augment.adjust_contrast, ImageEnhance.Contrast),
        (augment.adjust_saturation, ImageEnhance.Color),
        (augment.adjust_sharpness, ImageEnhance.Sharpness),
    ],
)
def test_adjustments_equal_pillows(adjust, enhance, channels):
    array = bytes_image(c=channels)
    adjust = jax.jit(adjust)
    for factor in (0.0, 0.3, 1.0, 1.7):
        expected = np.asarray(enhance(pillow(array)).enhance(factor)).reshape(array.shape)
        # Pillow rounds the other image (mean, grey, smoothed) to bytes before it blends.
        assert np.abs(as_bytes(adjust(unit(array), factor)) - expected).max() <= 2
        batch = adjust(jnp.stack([unit(array), unit(array[::-1])]), factor)
        np.testing.assert_allclose(batch[1], adjust(unit(array[::-1]), factor), atol=1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("turns", [-0.5, -0.21, 0.0, 0.1, 1 / 3, 0.5])
def test_hue_equals_colorsys(turns):
    pixels = np.concatenate([np.random.default_rng(0).random((40, 3)), np.eye(3), 1 - np.eye(3), [[0.3] * 3, [0] * 3, [1] * 3]])
    expected = []
    hue = jax.jit(augment.adjust_hue)
    for rgb in pixels:
        h, s, v = colorsys.rgb_to_hsv(*rgb)
        expected.append(colorsys.hsv_to_rgb((h + turns) % 1, s, v))
    np.testing.assert_allclose(hue(jnp.array(pixels)[None], turns)[0], expected, atol=1e-12)


def test_jitter_ranges_are_torchvisions():
    x = jnp.full((500, 1, 1, 3), 0.5)
    bright = run("colour_jitter", jax.random.key(0), x, brightness=0.4, contrast=0.0, saturation=0.0, hue=0.0)[:, 0, 0, 0]
    assert 0.3 <= bright.min() < 0.31
    assert 0.69 < bright.max() <= 0.7
    darker = run("colour_jitter", jax.random.key(0), x, brightness=(0.2, 0.6), contrast=0.0, saturation=0.0, hue=0.0)
    assert 0.1 <= darker.min() < darker.max() <= 0.3
    red = jnp.broadcast_to(jnp.array([0.8, 0.2, 0.2]), (500, 1, 1, 3))
    turned = np.asarray(run("colour_jitter", jax.random.key(0), red, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.1))[:, 0, 0]
    hues = np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in turned.tolist()])
    hues = (hues + 0.5) % 1 - 0.5
    assert -0.101 < hues.min() < -0.09
    assert 0.09 < hues.max() < 0.101
    np.testing.assert_array_equal(augment.colour_jitter(jax.random.key(0), x, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0), x)


def test_jitter_draws_the_order():
    """Brightness ½ then contrast 2 is not contrast 2 then brightness ½."""
    x = images(b=1)
    exactly = {"brightness": (0.5, 0.5), "contrast": (2.0, 2.0), "saturation": 0.0, "hue": 0.0}
    orders = [
        augment.adjust_contrast(augment.adjust_brightness(x, 0.5), 2.0),
        augment.adjust_brightness(augment.adjust_contrast(x, 2.0), 0.5),
    ]
    jitter = jax.jit(partial(augment.colour_jitter, **exactly))
    seen = [[bool(jnp.allclose(jitter(jax.random.key(k), x), order, atol=1e-6)) for order in orders] for k in range(12)]
    assert all(sum(row) == 1 for row in seen)
    assert 0 < sum(row[0] for row in seen) < 12


def test_tones_equal_pillows():
    array = bytes_image(h=60, w=50)  # eleven pixels a level: equalize rounds
    picture, x = pillow(array), unit(array)

    def same(ours, theirs, tolerance=0):
        assert np.abs(as_bytes(ours) - np.asarray(theirs).reshape(array.shape)).max() <= tolerance

    posterize, solarize, equalize = map(jax.jit, (augment.posterize, augment.solarize, augment.equalize))
    same(augment.invert(x), ImageOps.invert(picture))
    for bits in (1, 3, 4, 8):
        same(posterize(x, float(bits)), ImageOps.posterize(picture, bits))
    for level in (0, 77, 128, 256):
        same(solarize(x, level / 255), ImageOps.solarize(picture, level))
    same(equalize(x), ImageOps.equalize(picture))
    same(jax.jit(augment.autocontrast)(x), ImageOps.autocontrast(picture), 1)  # Pillow cuts its table's decimals off
    np.testing.assert_array_equal(equalize(jnp.stack([x[::-1], x]))[1], equalize(x))


def test_flat_channels_and_tiny_images_stay():
    x = unit(bytes_image()).at[..., 0].set(0.3).at[..., 2].set(1.0)
    for y in (jax.jit(augment.equalize)(x), jax.jit(augment.autocontrast)(x)):
        np.testing.assert_array_equal(y[..., ::2], x[..., ::2])
        assert jnp.abs(y - x)[..., 1].max() > 0.05
    few = images(b=1, h=5, w=5)[0]
    np.testing.assert_array_equal(jax.jit(augment.equalize)(few), few)
    np.testing.assert_array_equal(augment.adjust_sharpness(few[:2], 0.0), few[:2])


def test_grey_is_grey():
    x = np.asarray(images(b=400, h=2, w=2))
    y = np.asarray(run("random_grey", jax.random.key(0), jnp.array(x), probability=0.3))
    plain = (y == y[..., :1]).all((1, 2, 3))
    assert abs(plain.mean() - 0.3) < 0.07
    np.testing.assert_allclose(y[plain], np.repeat((x[plain] @ [0.299, 0.587, 0.114])[..., None], 3, axis=-1), rtol=1e-5)


# Blur, noise, covers.


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("border", "mode"), [("reflect", "mirror"), ("zeros", "constant"), ("replicate", "nearest"), ("circular", "wrap")])
@pytest.mark.parametrize("sigma", [0.0, 0.6, 1.5])
def test_blur_equals_scipy(sigma, border, mode):
    image = np.random.default_rng(0).random((13, 11, 2))
    expected = ndimage.gaussian_filter(image, (sigma, sigma, 0), mode=mode)
    blurred = jax.jit(lambda image: augment.gaussian_blur(image, sigma, border=border))(jnp.array(image))
    np.testing.assert_allclose(blurred, expected, rtol=1e-9, atol=1e-12)


def test_random_blur_draws_its_deviation():
    dot = jnp.zeros((200, 17, 17, 1)).at[:, 8, 8].set(1.0)
    y = np.asarray(jax.jit(partial(augment.random_blur, sigma=(0.5, 1.5)))(jax.random.key(0), dot))[..., 0]
    deviations = np.sqrt((y.sum(2) * (np.arange(17) - 8) ** 2).sum(1))
    assert 0.45 < deviations.min() < 0.56
    assert 1.44 < deviations.max() < 1.51
    np.testing.assert_allclose(y.sum((1, 2)), 1, rtol=1e-5)


def test_noise_has_the_deviation_that_is_said():
    x = jnp.full((4, 40, 40, 3), 0.5)
    difference = np.asarray(augment.random_noise(jax.random.key(0), x, deviation=0.05) - x)
    assert abs(difference.std() - 0.05) < 0.001
    assert abs(difference.mean()) < 0.001
    assert np.abs(np.corrcoef(difference.reshape(4, -1)) - np.eye(4)).max() < 0.06


def rectangle(mask):
    """(top, left, bottom, right) of the True part, which must be a full rectangle."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    assert mask[box[0] : box[2], box[1] : box[3]].all()
    return box


def test_erased_rectangles_have_the_area_and_aspect_that_are_said():
    h, w = 60, 50
    y = np.asarray(jax.jit(augment.random_erase)(jax.random.key(0), jnp.ones((600, h, w, 1))))[..., 0]
    erased = [rectangle(image == 0) for image in y if (image == 0).any()]
    assert abs(len(erased) / 600 - 0.5) < 0.06
    top, left, bottom, right = np.array(erased).T
    areas, aspects = (bottom - top) * (right - left) / (h * w), (bottom - top) / (right - left)
    assert 0.015 < areas.min() < 0.04
    assert 0.29 < areas.max() < 0.35
    assert 0.27 < aspects.min() < 0.4
    assert 2.6 < aspects.max() < 3.7
    assert top.min() == 0
    assert left.min() == 0
    assert bottom.max() == h
    assert right.max() == w


def test_erasing_with_noise_or_a_value():
    x = images(b=16, h=12, w=12)

    def erase(**chosen):
        return np.asarray(run("random_erase", jax.random.key(0), x, probability=1.0, **chosen))

    noisy, filled = erase(value="noise"), erase(fill=0.95)
    covered = filled == np.float32(0.95)
    assert covered.any((1, 2, 3)).all()
    np.testing.assert_array_equal(noisy[~covered], np.asarray(x)[~covered])
    assert len(np.unique(noisy[covered])) > 0.9 * covered.sum()
    np.testing.assert_array_equal(erase(area=(1.0, 1.0)), x)  # no side is shorter than the image's


@pytest.mark.parametrize("size", [3, 4])
def test_cutout_covers_a_square_about_any_pixel(size):
    h, w = 7, 9
    y = np.asarray(augment.cutout(jax.random.key(0), jnp.ones((2000, h, w, 1)), size=size))[..., 0]
    boxes = {rectangle(image == 0) for image in y}
    lows = [(r - size // 2, c - size // 2) for r, c in itertools.product(range(h), range(w))]
    assert boxes == {(max(r, 0), max(c, 0), min(r + size, h), min(c + size, w)) for r, c in lows}


# RandAugment.


def pillow_operation(name, picture, strength, sign, amounts):
    """The operation as the reference implementations of RandAugment do it with Pillow."""
    lean, change = sign * strength * amounts.shear, 1 + sign * strength * amounts.change
    x, y = (math.trunc(sign * strength * most) for most in amounts.translate)
    affine = partial(picture.transform, picture.size, Image.Transform.AFFINE)
    return {
        "identity": lambda: picture,
        "shear_x": lambda: affine((1, lean, 0, 0, 1, 0)),
        "shear_y": lambda: affine((1, 0, 0, lean, 1, 0)),
        "translate_x": lambda: affine((1, 0, -x, 0, 1, 0)),
        "translate_y": lambda: affine((1, 0, 0, 0, 1, -y)),
        "rotate": lambda: picture.rotate(sign * strength * amounts.degrees),
        "brightness": lambda: ImageEnhance.Brightness(picture).enhance(change),
        "colour": lambda: ImageEnhance.Color(picture).enhance(change),
        "contrast": lambda: ImageEnhance.Contrast(picture).enhance(change),
        "sharpness": lambda: ImageEnhance.Sharpness(picture).enhance(change),
        "posterize": lambda: ImageOps.posterize(picture, 8 - round(strength * amounts.bits)),
        "solarize": lambda: ImageOps.solarize(picture, 255 * (1 - strength)),
        "autocontrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
    }[name]()


@pytest.mark.parametrize("channels", [1, 3])
def test_operations_equal_pillows(channels):
    array = bytes_image(h=29, w=23, c=channels)
    amounts = Amounts(shear=0.31, translate=(10.3, 13.1), degrees=30.0, change=0.9, bits=4)
    run = jax.jit(lambda index, strength, sign: operate(unit(array), index, strength, sign, amounts))
    for i, name in enumerate(OPERATIONS):
        for strength, sign in ((0.29, 1.0), (0.83, -1.0)):
            expected = np.asarray(pillow_operation(name, pillow(array), strength, sign, amounts)).reshape(array.shape)
            ours = as_bytes(run(jnp.array(i), jnp.array(strength), jnp.array(sign)))
            exact = name in ("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "posterize", "solarize", "equalize")
            far = np.abs(ours - expected) > (0 if exact else 2)
            assert far.mean() < 0.01, name  # a place half-way between two pixels may be rounded either way


def test_rand_augment_draws_all_operations_alike():
    """At magnitude 0 only posterize (to 8 bits), autocontrast and equalize can change a picture of bytes below 1: two of fourteen."""
    x = jnp.broadcast_to(unit(bytes_image(h=20, w=20))[None], (1400, 20, 20, 3))
    y = jax.jit(partial(augment.rand_augment, num_ops=1, magnitude=0.0))(jax.random.key(0), x)
    changed = np.asarray(jnp.abs(y - x).max((1, 2, 3)) > 1e-3)
    assert abs(changed.mean() - 2 / 14) < 0.03
    y = jax.jit(partial(augment.rand_augment, num_ops=3, magnitude=30.0, probability=0.5))(jax.random.key(0), x)
    untouched = np.asarray(jnp.abs(y - x).max((1, 2, 3)) <= 1e-3)
    assert abs(untouched.mean() - ((1 + 1 / 14) / 2) ** 3) < 0.05
    np.testing.assert_array_equal(augment.rand_augment(jax.random.key(0), x[:2], num_ops=0), x[:2])


def test_trivial_augment_does_one_operation():
    """Left alone: identity, magnitude 0, and what a picture of one level at 0.4 cannot show."""
    x = jnp.full((700, 33, 33, 1), 0.4)
    y = np.asarray(jax.jit(augment.trivial_augment)(jax.random.key(0), x))[..., 0]
    levels = y[:, 16, 16]
    assert 0.05 < (np.abs(levels - 0.4) > 0.01).mean() < 0.5
    assert levels.min() < 0.1  # brightness down to 0.01
    assert levels.max() > 0.7  # and up to 1.99 times


# Mixing.


def mixed_once(name, x, **chosen):
    return jax.jit(partial(getattr(augment, name), **chosen))(jax.random.key(1), x)


def test_mixes_are_the_same_on_any_number_of_devices():
    """Of the one that calls both others."""
    x = images(b=8)
    whole = mixed_once("mixup_or_cutmix", x)
    pasted = np.asarray((whole.images == x).any((1, 2, 3)))
    assert 0 < pasted.sum() < 8
    mix = partial(augment.mixup_or_cutmix, jax.random.key(1), axis_name="data")
    mapped = jax.pmap(mix, "data")(x.reshape(4, 2, *x.shape[1:]))
    for one, many in zip(whole, mapped, strict=True):
        np.testing.assert_allclose(np.asarray(many).reshape(one.shape), one, rtol=1e-5, atol=1e-6)
    assert sorted(whole.partners.tolist()) == list(range(8))
    for name in MIXES:
        half = jax.eval_shape(getattr(augment, name), jax.random.key(1), x.astype(jnp.bfloat16))
        assert (half.images.dtype, half.weights.dtype) == (jnp.bfloat16, jnp.float32)


def check_cutmix(x, mixed):
    """Each pixel is the image's or the partner's; the weight is the share of the former; the latter are a rectangle."""
    for i, (mine, image, weight) in enumerate(zip(x, np.asarray(mixed.images), mixed.weights, strict=True)):
        other = x[mixed.partners[i]]
        kept = (image == mine).all(-1)
        assert ((image == other).all(-1) | kept).all()
        if mixed.partners[i] != i:
            assert float(weight) == pytest.approx(kept.mean(), abs=1e-6)
            if not kept.all():
                yield rectangle(~kept)


def test_mixup_is_the_weighted_sum():
    x = np.asarray(images(b=400, h=3, w=3))
    mixed = mixed_once("mixup", jnp.array(x), alpha=1.0, probability=0.75)
    w = np.asarray(mixed.weights)[:, None, None, None]
    np.testing.assert_allclose(mixed.images, w * x + (1 - w) * x[mixed.partners], rtol=1e-5)
    alone = np.asarray(mixed.weights) == 1
    assert abs(alone.mean() - 0.25) < 0.06
    np.testing.assert_array_equal(np.asarray(mixed.images)[alone], x[alone])
    assert abs(np.asarray(mixed.weights)[~alone].std() - math.sqrt(1 / 12)) < 0.03


def test_cutmix_weights_are_the_kept_pixels():
    x = np.asarray(images(b=200, h=9, w=12))
    mixed = mixed_once("cutmix", jnp.array(x), probability=0.75)
    top, left, bottom, right = np.array(list(check_cutmix(x, mixed))).T
    assert 90 < len(top) < 150
    whole = (top > 0) & (left > 0) & (bottom < 9) & (right < 12)  # the others are cut off at the border
    assert 10 < whole.sum() < len(top) - 40
    # The image's shape, cut down to whole pixels.
    assert (np.abs((bottom - top) / 9 - (right - left) / 12)[whole] <= 1 / 9).all()


def test_either_mix_is_drawn_for_each_example():
    x = np.asarray(images(b=200, h=6, w=6))
    mixed = mixed_once("mixup_or_cutmix", jnp.array(x), cutmix_share=0.7, probability=0.9)
    others = x[np.asarray(mixed.partners)]
    pasted = np.asarray(((mixed.images == x) | (mixed.images == others)).all((1, 2, 3)))
    assert abs(pasted.mean() - (0.1 + 0.9 * 0.7)) < 0.1
    w, y = np.asarray(mixed.weights), np.asarray(mixed.images)
    share = w[~pasted, None, None, None]
    np.testing.assert_allclose(y[~pasted], share * x[~pasted] + (1 - share) * others[~pasted], rtol=1e-5)
    pasted = pasted & (np.asarray(mixed.partners) != np.arange(200))
    np.testing.assert_allclose(w[pasted], (y == x).all(-1).mean((1, 2))[pasted], atol=1e-6)


def test_weights_are_beta_distributed():
    w = np.asarray(mixed_once("mixup", jnp.ones((4000, 1, 1, 1)), alpha=0.2).weights)
    assert np.isfinite(w).all()
    assert w.min() >= 0
    assert w.max() <= 1
    assert abs(w.mean() - 0.5) < 0.03
    assert w.var() == pytest.approx(1 / (4 * (2 * 0.2 + 1)), rel=0.08)


# Errors.


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("random_vertical_flip", {"probability": 1.5}, "probability=1.5 must be from 0 to 1"),
        ("random_crop", {"size": 12}, "size=12 must be one whole number or two, from 1 to the image's 9×10"),
        ("random_crop", {"size": (3, 3, 3)}, "size=\\(3, 3, 3\\)"),
        ("random_crop", {"size": 2.5}, "size=2.5 must be one whole number or two"),
        ("random_crop", {"size": (2.5, 3)}, "size=\\(2.5, 3\\)"),
        ("random_crop", {"size": 9, "padding": -1}, "padding=-1 must be a whole number, at least 0"),
        ("random_shift", {"pixels": -1}, "pixels=-1 must be a whole number, from 0 to 9"),
        ("random_shift", {"pixels": 10}, "pixels=10 must be a whole number, from 0 to 9"),
        ("random_shift", {"pixels": 1.5}, "pixels=1.5 must be a whole number"),
        ("random_resized_crop", {"size": 2.5}, "size=2.5 must be a whole number"),
        ("random_resized_crop", {"size": 4, "max_aspect": float("nan")}, "max_aspect=nan"),
        ("random_resized_crop", {"size": 4, "max_aspect": float("inf")}, "max_aspect=inf"),
        ("center_crop", {"size": 0}, "size=0"),
        ("random_affine", {"translate": (2.0, 0.0)}, "translate=\\(2.0, 0.0\\) must be a pair"),
        ("random_affine", {"translate": 0.1}, "translate=0.1 must be a pair"),
        ("random_affine", {"scale": (1.2, 0.8)}, "scale=\\(1.2, 0.8\\)"),
        ("random_scale", {"scale": (0.0, 1.0)}, "scale=\\(0.0, 1.0\\)"),
        ("random_scale", {"scale": 1.2}, "scale=1.2 must be a pair \\(low, high\\)"),
        ("random_scale", {"scale": (1.0, float("inf"))}, "must be a pair \\(low, high\\)"),
        ("random_shear", {"shear": (90.0, 0.0)}, "shear=\\(90.0, 0.0\\)"),
        ("random_rotation", {"degrees": -1.0}, "degrees=-1.0 must be at least 0"),
        ("random_rotation", {"fill": (0.1, 0.2)}, "one for each of 3 channels"),
        ("random_perspective", {"distortion": 1.0}, "distortion=1.0"),
        ("random_elastic", {"sigma": -1.0}, "sigma=-1.0"),
        ("colour_jitter", {"brightness": -0.1}, "brightness=-0.1"),
        ("colour_jitter", {"contrast": (0.5, 0.1)}, "contrast=\\(0.5, 0.1\\)"),
        ("colour_jitter", {"hue": 0.6}, "hue=\\(-0.6, 0.6\\) must be a pair \\(low, high\\), both from -0.5 to 0.5"),
        ("colour_jitter", dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0) | {"probability": 2.0}, "probability=2.0"),
        ("random_blur", {"sigma": (2.0, 1.0)}, "sigma=\\(2.0, 1.0\\)"),
        ("random_blur", {"sigma": 1.0}, "sigma=1.0 must be a pair \\(low, high\\)"),
        ("random_sharpness", {"factor": -1.0}, "factor=-1.0"),
        ("random_noise", {"deviation": float("nan")}, "deviation=nan"),
        ("random_noise", {"deviation": float("inf")}, "deviation=inf must be at least 0 and finite"),
        ("random_noise", {"deviation": "much"}, "deviation=much"),
        ("random_erase", {"area": (0.1, 1.1)}, "area=\\(0.1, 1.1\\)"),
        ("random_erase", {"aspect": (0.0, 1.0)}, "aspect=\\(0.0, 1.0\\)"),
        ("cutout", {"size": 0}, "size=0"),
        ("cutout", {"size": 2.5}, "size=2.5 must be a whole number"),
        ("random_solarize", {"threshold": 128.0}, "threshold=128.0 must be from 0 to 1"),
        ("random_posterize", {"bits": 9}, "bits=9 must be a whole number, from 0 to 8"),
        ("rand_augment", {"magnitude": 31.0}, "magnitude=31.0 must be from 0 to 30"),
        ("rand_augment", {"num_ops": -1}, "num_ops=-1"),
        ("mixup", {"alpha": 0.0}, "alpha=0.0 must be a number above 0"),
        ("cutmix", {"probability": -0.5}, "probability=-0.5"),
        ("mixup_or_cutmix", {"cutmix_share": 2.0}, "cutmix_share=2.0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_options_are_named(name, chosen, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(partial(getattr(augment, name), **chosen), jax.random.key(0), images())


@pytest.mark.parametrize("name", ["random_grey", "colour_jitter", "rand_augment"])
def test_colour_needs_one_channel_or_three(name):
    with pytest.raises(ValueError, match="2 channels: colour is defined for 1"):
        jax.eval_shape(getattr(augment, name), jax.random.key(0), images(c=2))
    plain = augment.colour_jitter(jax.random.key(0), images(c=2), saturation=0.0, hue=0.0)
    assert plain.shape == images(c=2).shape


def test_warps_name_what_does_not_fit():
    thin = jnp.ones((1, 5, 1))
    with pytest.raises(ValueError, match="needs at least 2 rows and columns to mirror"):
        rotate(thin, 10.0, border="reflect")
    with pytest.raises(ValueError, match="no perspective"):
        augment.random_perspective(jax.random.key(0), thin[None])
    with pytest.raises(ValueError, match="give the radius"):
        jax.eval_shape(augment.gaussian_blur, jnp.ones((5, 5, 1)), jnp.ones(()))
    with pytest.raises(ValueError, match="sigma=-1.0 must be at least 0"):
        augment.gaussian_blur(jnp.ones((5, 5, 1)), -1.0)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", sorted(set(augment.__all__) - {"Mixed", "affine_matrix", "perspective_matrix"}))
def test_images_that_are_no_batch_of_floats_are_refused(name):
    """By every function on images, compiled too."""
    function = getattr(augment, name)
    named = list(inspect.signature(function).parameters)
    rest = {"matrix": jnp.ones((3, 3) if name == "perspective_warp" else (2, 3)), "field": jnp.zeros((8, 8, 2)), "size": 4}
    rest |= dict.fromkeys(("factor", "turns", "threshold", "degrees", "sigma"), 0.5) | {"bits": 4}
    needed = {n: rest[n] for n in named if n in rest and inspect.signature(function).parameters[n].default is inspect.Parameter.empty}
    random, one = named[0] == "key", "image" in named
    first = {"key": jax.random.key(0)} if random else {}

    def call(x):
        return function(**first, **{"image" if one else "images": x}, **needed)

    good = (8, 8, 3) if one else (4, 8, 8, 3)
    assert jax.eval_shape(call, jnp.zeros(good)) is not None
    hint = r"must be \[.*h, w, c\] floats in \[0, 1\], got "
    with pytest.raises(ValueError, match=hint + r"uint8 \(.*8, 8, 3\): divide by 255"):
        jax.eval_shape(call, jnp.zeros(good, jnp.uint8))
    with pytest.raises(ValueError, match=hint + "int32"):
        jax.eval_shape(call, jnp.zeros(good, jnp.int32))
    for shape in [(8, 3)] + [(8, 8, 3), (1, 4, 8, 8, 3)] * random:
        with pytest.raises(ValueError, match=hint + r"float32 \(\d"):
            jax.eval_shape(call, jnp.zeros(shape))


@pytest.mark.usefixtures("unchecked")
def test_functions_without_chance_name_what_is_wrong():
    image, line = jnp.ones((5, 6, 1)), jnp.array([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0], [1.0, -1.0]])
    for call, message in (
        (lambda: augment.gaussian_blur(image, 1.0, border="mirror"), "border='mirror' is unknown.*zeros, reflect, replicate, circular"),
        (lambda: augment.gaussian_blur(image, 2.0), "too wide for 5 values: at most 4"),
        (lambda: augment.gaussian_blur(image, float("inf")), "sigma=inf must be at least 0 and finite"),
        (lambda: augment.gaussian_blur(image, 1.0, radius=1.5), "radius=1.5 must be a whole number"),
        (lambda: affine_matrix(scale=0.0), "scale=0.0 must be at least 1e-06"),
        (lambda: affine_matrix(shift=1.0), "shift=1.0 must be a pair"),
        (lambda: affine_matrix(shear=(1.0, 2.0, 3.0)), r"shear=\(1.0, 2.0, 3.0\) must be a pair"),
        (lambda: perspective_matrix(jnp.zeros((4, 2)), height=3, width=3), "convex"),
        (lambda: perspective_matrix(line, height=3, width=3), "no three on one line"),
        (lambda: perspective_matrix(line[:3], height=3, width=3), r"corners must have the shape \(4, 2\), got \(3, 2\)"),
        (lambda: affine_warp(image, jnp.eye(3)), r"matrix must have the shape \(2, 3\), got \(3, 3\)"),
        (lambda: perspective_warp(image, jnp.ones((2, 3))), r"matrix must have the shape \(3, 3\), got \(2, 3\)"),
        (lambda: displace(image, jnp.zeros((6, 5, 2))), r"field must have the shape \(5, 6, 2\), got \(6, 5, 2\)"),
        (lambda: augment.posterize(image, 9), "bits=9 must be from 0 to 8"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
