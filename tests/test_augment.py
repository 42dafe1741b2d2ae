"""What every augmentation promises: its range and type, the same on any number of devices, decided by key and place alone."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.ops import augment
from cnn_jax.ops.augment.chance import each
from cnn_jax.options import options
from tests.compiled_augmentation import compiled
from tests.pictures import images

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
    "random_erase": {"value": "noise", "probability": 0.7},
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


@pytest.mark.parametrize("name", ALL)
def test_any_augmentation_keeps_its_promises(name):
    """The range, the type and the number of images; the same on four devices and on one; grey too; not nothing."""
    function, key = partial(getattr(augment, name), **ALL[name]), jax.random.key(3)
    x = images(h=17, w=16)

    def colour_and_grey(part):
        return function(key, part, axis_name="data"), function(key, part[..., :1], axis_name="data")

    whole = np.asarray(compiled(name, **ALL[name])(key, x))
    mapped, grey = jax.pmap(colour_and_grey, "data")(x.reshape(4, 2, 17, 16, 3))
    np.testing.assert_allclose(np.asarray(mapped).reshape(whole.shape), whole, rtol=1e-4, atol=1e-5)
    assert grey.shape == (*mapped.shape[:-1], 1)
    for y in (whole, np.asarray(grey)):
        assert y.dtype == np.float32
        assert np.isfinite(y).all()
        assert y.min() >= 0
        assert y.max() <= 1 + 1e-6
    assert whole.shape != x.shape or np.abs(whole - x).max() > 0.01
    half = jax.eval_shape(function, key, x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    assert half.shape == whole.shape


def test_a_place_in_the_batch_has_its_change():
    """However many examples follow."""
    erase, x = compiled("random_erase", **ALL["random_erase"]), images(h=17, w=16)
    np.testing.assert_array_equal(erase(jax.random.key(3), x[:3]), erase(jax.random.key(3), x)[:3])


def test_bfloat16_changes_as_float32_does():
    function, x = compiled("rand_augment", **ALL["rand_augment"]), images(h=17, w=16)
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
        y = jax.jit(partial(each, lambda key, image: 1 - image, probability=probability))(jax.random.key(0), x)
        assert abs(float(y.mean()) - probability) < (0.03 if 0 < probability < 1 else 1e-9)
    for function in (getattr(augment, name) for name in (*ALL, *MIXES)):
        if "probability" in inspect.signature(function).parameters:
            with pytest.raises(ValueError, match="probability=1.5 must be from 0 to 1"):
                jax.eval_shape(partial(function, probability=1.5), jax.random.key(0), images())


def test_the_key_decides():
    x = images(h=17, w=16)
    rotation = compiled("random_rotation")
    first, again, other = (rotation(jax.random.key(k), x) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
