"""Blur against scipy, and the deviations that are drawn for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cnn_jax.ops import augment
from tests.compiled_augmentation import compiled


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
    y = np.asarray(compiled("random_blur", sigma=(0.5, 1.5))(jax.random.key(0), dot))[..., 0]
    deviations = np.sqrt((y.sum(2) * (np.arange(17) - 8) ** 2).sum(1))
    assert 0.45 < deviations.min() < 0.56
    assert 1.44 < deviations.max() < 1.51
    np.testing.assert_allclose(y.sum((1, 2)), 1, rtol=1e-5)
