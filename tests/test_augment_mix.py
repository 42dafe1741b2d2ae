"""Mixup and CutMix: pixels, weights, partners and how they are drawn."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.ops import augment
from tests.compiled_augmentation import compiled
from tests.pictures import images, rectangle

# Of the mixture that calls both others; one program for two tests.
EITHER = {"cutmix_share": 0.7, "probability": 0.9}


def mixed_once(name, x, **chosen):
    return jax.tree.map(np.asarray, compiled(name, **chosen)(jax.random.key(1), x))


def test_mixes_are_the_same_on_any_number_of_devices():
    x = images(b=200, h=6, w=6)
    whole = mixed_once("mixup_or_cutmix", x, **EITHER)
    mix = partial(augment.mixup_or_cutmix, jax.random.key(1), **EITHER, axis_name="data")
    mapped = jax.pmap(mix, "data")(x.reshape(4, 50, *x.shape[1:]))
    for one, many in zip(whole, mapped, strict=True):
        np.testing.assert_allclose(np.asarray(many).reshape(one.shape), one, rtol=1e-5, atol=1e-6)
    assert sorted(whole.partners.tolist()) == list(range(200))
    for function in (augment.mixup, augment.cutmix, augment.mixup_or_cutmix):
        half = jax.eval_shape(function, jax.random.key(1), x.astype(jnp.bfloat16))
        assert (half.images.dtype, half.weights.dtype) == (jnp.bfloat16, jnp.float32)


def check_cutmix(x, mixed):
    """Each pixel is the image's or the partner's; the weight is the share of the former; the latter are a rectangle."""
    for i, (mine, image, weight) in enumerate(zip(x, *mixed[::2], strict=True)):
        other = x[mixed.partners[i]]
        kept = (image == mine).all(-1)
        assert ((image == other).all(-1) | kept).all()
        if mixed.partners[i] != i:
            assert weight == pytest.approx(kept.mean(), abs=1e-6)
            if not kept.all():
                yield rectangle(~kept)


def test_mixup_is_the_weighted_sum():
    x = np.asarray(images(b=400, h=3, w=3))
    mixed = mixed_once("mixup", x, alpha=1.0, probability=0.75)
    w = mixed.weights[:, None, None, None]
    np.testing.assert_allclose(mixed.images, w * x + (1 - w) * x[mixed.partners], rtol=1e-5)
    alone = mixed.weights == 1
    assert abs(alone.mean() - 0.25) < 0.06
    np.testing.assert_array_equal(mixed.images[alone], x[alone])
    assert abs(mixed.weights[~alone].std() - math.sqrt(1 / 12)) < 0.03


def test_cutmix_weights_are_the_kept_pixels():
    x = np.asarray(images(b=200, h=9, w=12))
    mixed = mixed_once("cutmix", x, probability=0.75)
    top, left, bottom, right = np.array(list(check_cutmix(x, mixed))).T
    assert 90 < len(top) < 150
    whole = (top > 0) & (left > 0) & (bottom < 9) & (right < 12)  # the others are cut off at the border
    assert 10 < whole.sum() < len(top) - 40
    # The image's shape, cut down to whole pixels.
    assert (np.abs((bottom - top) / 9 - (right - left) / 12)[whole] <= 1 / 9).all()


def test_either_mix_is_drawn_for_each_example():
    x = np.asarray(images(b=200, h=6, w=6))
    mixed = mixed_once("mixup_or_cutmix", x, **EITHER)
    others = x[mixed.partners]
    pasted = ((mixed.images == x) | (mixed.images == others)).all((1, 2, 3))
    assert abs(pasted.mean() - (0.1 + 0.9 * 0.7)) < 0.1
    w, y = mixed.weights, mixed.images
    share = w[~pasted, None, None, None]
    np.testing.assert_allclose(y[~pasted], share * x[~pasted] + (1 - share) * others[~pasted], rtol=1e-5)
    pasted = pasted & (mixed.partners != np.arange(200))
    np.testing.assert_allclose(w[pasted], (y == x).all(-1).mean((1, 2))[pasted], atol=1e-6)


def test_weights_are_beta_distributed():
    w = mixed_once("mixup", jnp.ones((4000, 1, 1, 1)), alpha=0.2).weights
    assert np.isfinite(w).all()
    assert w.min() >= 0
    assert w.max() <= 1
    assert abs(w.mean() - 0.5) < 0.03
    assert w.var() == pytest.approx(1 / (4 * (2 * 0.2 + 1)), rel=0.08)
