"""Warps without chance against slices, scipy and the equations of a perspective."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cnn_jax.ops.augment.warp import affine_matrix, affine_warp, displace, perspective_matrix, perspective_warp, rotate
from tests.pictures import images

SCIPY_MODES = {"zeros": "grid-constant", "replicate": "nearest", "reflect": "mirror", "circular": "grid-wrap"}
quick_matrix = jax.jit(affine_matrix)
quick_warp = jax.jit(affine_warp, static_argnames=("border", "fill"))
quick_perspective_warp = jax.jit(perspective_warp)


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
    matrix = jax.jit(partial(perspective_matrix, height=h, width=w))(corners)
    np.testing.assert_allclose(matrix, np.eye(3), atol=1e-6)


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
    far = quick_warp(image, quick_matrix(shift=(10.0, 0.0)), fill=(0.1, 0.2, 0.3))
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
    np.testing.assert_allclose(quick_perspective_warp(jnp.array(image), jnp.array(matrix))[..., 0], sampled, rtol=1e-8, atol=1e-8)


def test_beyond_the_horizon_is_nothing():
    matrix = jnp.array([[1.0, 0, 0], [0, 1, 0], [0, 0.5, 0]])  # depth = column / 2: what is left of the middle lies behind
    seen = quick_perspective_warp(jnp.ones((5, 5, 1)), matrix)[..., 0]
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
