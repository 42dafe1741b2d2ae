"""Random warps measured on pictures of their own coordinates: they stay in their ranges, and fill them."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from tests.compiled_augmentation import compiled


def measured_matrices(name, **chosen):
    """The pulling 2×2 matrices and shifts, in (row, column), of 400 draws, measured on a picture of its own coordinates."""
    h, w = 17, 21
    coordinates = np.stack(np.meshgrid(np.arange(h) - (h - 1) / 2, np.arange(w) - (w - 1) / 2, indexing="ij"), -1) / 40 + 0.5
    x = jnp.broadcast_to(jnp.array(coordinates, jnp.float32)[None], (400, h, w, 2))
    y = (np.asarray(compiled(name, **chosen)(jax.random.key(0), x)) - 0.5) * 40
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
    pull, _ = measured_matrices("random_shear", shear=(20.0, 10.0))
    lean_x, lean_y = pull[:, 1, 0], pull[:, 0, 1]
    spans(np.rad2deg(np.arctan(lean_x)), 20)
    spans(np.rad2deg(np.arctan(lean_y)), 10)
    np.testing.assert_allclose(pull[:, 0, 0], 1, atol=1e-3)
    np.testing.assert_allclose(pull[:, 1, 1], 1 + lean_x * lean_y, atol=1e-3)  # along x first, then along y
    _, shift = measured_matrices("random_affine", degrees=0.0, scale=(1.0, 1.0), shear=(0.0, 0.0), translate=(0.1, 0.3))
    spans(shift[:, 0], 0.3 * 17)
    spans(shift[:, 1], 0.1 * 21)


def test_perspective_moves_each_corner_inwards():
    """A white picture becomes a white quadrilateral: its rows and columns are fewer, by half a side at most, and all four sides move."""
    y = np.asarray(compiled("random_perspective", distortion=0.5, probability=1.0)(jax.random.key(0), jnp.ones((64, 21, 21, 1))))[..., 0]
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
    y = compiled("random_elastic", alpha=20.0, sigma=3.0)(jax.random.key(1), ramp)
    moved = ((np.asarray(y) - np.asarray(ramp)) * w)[:, :, 10:-10, 0]
    expected = 20 * math.sqrt(1 / 3) / (2 * math.sqrt(math.pi) * 3)
    assert abs(moved.std() / expected - 1) < 0.05
    assert abs(moved[:, [0, -1]].std() / expected - 1) < 0.1
    assert abs(moved[:, 1:] - moved[:, :-1]).mean() < 0.4 * expected
