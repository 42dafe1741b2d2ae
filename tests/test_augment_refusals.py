"""Augmentation refuses what it cannot do: options out of range, images that are no batch of floats."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from cnn_jax.ops import augment
from cnn_jax.ops.augment.warp import affine_matrix, affine_warp, displace, perspective_matrix, perspective_warp, rotate
from tests.pictures import images


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
    plain = jax.eval_shape(partial(augment.colour_jitter, saturation=0.0, hue=0.0), jax.random.key(0), images(c=2))
    assert plain.shape == images(c=2).shape


def test_warps_name_what_does_not_fit():
    thin = jnp.ones((1, 5, 1))
    with pytest.raises(ValueError, match="needs at least 2 rows and columns to mirror"):
        jax.eval_shape(partial(rotate, degrees=10.0, border="reflect"), thin)
    with pytest.raises(ValueError, match="no perspective"):
        jax.eval_shape(augment.random_perspective, jax.random.key(0), thin[None])
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
