"""Convolution, pooling, normalisation and distances against loops, in float64, value and gradient."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.ops.augment import random_flip, random_resized_crop, random_shift
from cnn_jax.ops.conv import correlate
from cnn_jax.ops.distance import euclidean_distances, squared_distances, unit_length
from cnn_jax.ops.norm import batch_moments, normalise
from cnn_jax.ops.pool import average_pool, global_average_pool, max_pool


def correlate_oracle(x, w, stride, pads, dilation, groups):
    """The definition, position by position."""
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    window, c_in, c_out = w.shape[:-2], w.shape[-2], w.shape[-1]
    sizes = [
        (x.shape[i + 1] - ((window[i] - 1) * dilation[i] + 1)) // stride[i] + 1 for i in range(len(window))
    ]
    y = np.zeros((len(x), *sizes, c_out))
    for position in itertools.product(*map(range, sizes)):
        for tap in itertools.product(*map(range, window)):
            at = tuple(p * s + t * d for p, s, t, d in zip(position, stride, tap, dilation, strict=True))
            for g in range(groups):
                inputs = x[(slice(None), *at, slice(g * c_in, (g + 1) * c_in))]
                outputs = slice(g * c_out // groups, (g + 1) * c_out // groups)
                y[(slice(None), *position, outputs)] += inputs @ w[(*tap, slice(None), outputs)]
    return y


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("space", "window", "stride", "padding", "dilation", "groups"),
    [
        ((9,), (3,), 2, 1, 1, 1),
        ((8,), (4,), 1, "VALID", 2, 2),
        ((7, 6), (3, 2), (2, 1), ((1, 0), (2, 1)), 1, 1),
        ((6, 7), (3, 3), 2, "SAME", 1, 2),
        ((5, 5), (1, 1), 2, 0, 1, 1),
        ((8, 9), (3, 2), 1, 2, (2, 3), 4),
        ((4, 5, 3), (2, 3, 1), (1, 2, 1), 1, 1, 2),
    ],
)
def test_correlate_equals_the_definition(space, window, stride, padding, dilation, groups):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, *space, 4)), rng.normal(size=(*window, 4 // groups, 8))
    n = len(space)
    strides, dilations = ((v,) * n if isinstance(v, int) else v for v in (stride, dilation))
    if padding == "SAME":
        needed = [max((-(-s // t) - 1) * t + (k - 1) * d + 1 - s, 0) for s, t, k, d in zip(space, strides, window, dilations, strict=True)]
        pads = [(p // 2, p - p // 2) for p in needed]
    else:
        pads = [(0, 0)] * n if padding == "VALID" else [(padding, padding)] * n if isinstance(padding, int) else padding

    def ours(x, w):
        return correlate(x, w, stride=stride, padding=padding, dilation=dilation, groups=groups)

    expected = correlate_oracle(x, w, strides, pads, dilations, groups)
    np.testing.assert_allclose(jax.jit(ours)(x, w), expected, rtol=1e-10, atol=1e-10)
    # The map is bilinear: its gradients are exact directional differences of the oracle.
    cotangent, dx, dw = rng.normal(size=expected.shape), rng.normal(size=x.shape), rng.normal(size=w.shape)
    gx, gw = jax.vjp(ours, jnp.array(x), jnp.array(w))[1](jnp.array(cotangent))
    np.testing.assert_allclose((gx * dx).sum(), (cotangent * correlate_oracle(dx, w, strides, pads, dilations, groups)).sum(), rtol=1e-9)
    np.testing.assert_allclose((gw * dw).sum(), (cotangent * correlate_oracle(x, dw, strides, pads, dilations, groups)).sum(), rtol=1e-9)


def test_correlate_names_what_does_not_fit():
    with pytest.raises(ValueError, match="6 input channels do not fit"):
        correlate(jnp.zeros((1, 8, 8, 6)), jnp.zeros((3, 3, 4, 8)))
    with pytest.raises(ValueError, match="1 to 3 spatial axes"):
        correlate(jnp.zeros((8, 6)), jnp.zeros((3, 4, 8)))
    with pytest.raises(ValueError, match="of rank 4"):
        correlate(jnp.zeros((1, 8, 8, 6)), jnp.zeros((3, 6, 8)))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("window", "stride", "padding"), [(2, None, 0), (3, 2, 1), (3, 1, 0)])
def test_pooling_equals_a_loop(window, stride, padding):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 7, 6, 3)) - 5  # all negative: a padded zero must not win a maximum
    step = stride or window
    for ours, reduce, fill in ((max_pool, np.max, -np.inf), (average_pool, np.mean, 0.0)):
        padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=fill)
        h, w = ((padded.shape[i] - window) // step + 1 for i in (1, 2))
        expected = np.zeros((2, h, w, 3))
        for i, j in itertools.product(range(h), range(w)):
            expected[:, i, j] = reduce(padded[:, i * step : i * step + window, j * step : j * step + window], axis=(1, 2))
        np.testing.assert_allclose(ours(jnp.array(x), window, stride=stride, padding=padding), expected, rtol=1e-12)
    np.testing.assert_allclose(global_average_pool(jnp.array(x)), x.mean((1, 2)), rtol=1e-12)


@pytest.mark.usefixtures("float64")
def test_batch_norm_equals_two_passes():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4, 3, 5, 6)) * np.arange(1, 7) + np.arange(6) * 10
    shift, scale, bias = (rng.normal(size=6) for _ in range(3))
    mean, var = batch_moments(jnp.array(x), jnp.array(shift))
    np.testing.assert_allclose(mean, x.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(var, x.var((0, 1, 2)), rtol=1e-11)
    expected = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5) * scale + bias
    np.testing.assert_allclose(normalise(jnp.array(x), mean, var, jnp.array(scale), jnp.array(bias)), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("float64")
def test_batch_norm_gradient_does_not_depend_on_the_shift():
    rng = np.random.default_rng(3)
    x, cotangent = jnp.array(rng.normal(size=(8, 4)) * 3 + 7), jnp.array(rng.normal(size=(8, 4)))

    def loss(x, shift):
        mean, var = batch_moments(x, shift)
        return (normalise(x, mean, var, jnp.ones(4), jnp.zeros(4)) * cotangent).sum()

    def two_passes(x):
        mean = x.mean(0, keepdims=True)
        return ((x - mean) / jnp.sqrt(jnp.square(x - mean).mean(0, keepdims=True) + 1e-5) * cotangent).sum()

    for shift in (jnp.zeros(4), jnp.full(4, 7.0)):
        np.testing.assert_allclose(jax.grad(loss)(x, shift), jax.grad(two_passes)(x), rtol=1e-8, atol=1e-10)


def test_batch_norm_keeps_its_precision_far_from_zero():
    """In float32, at mean 10⁴ and deviation 1, E[x²] − E[x]² is noise; with the running mean as shift it is not."""
    x = (np.random.default_rng(4).normal(size=(4096, 1)) + 1e4).astype(np.float32)
    _, var = batch_moments(jnp.array(x), jnp.array([1e4 + 3.0]))
    np.testing.assert_allclose(var, x.astype(np.float64).var(0), rtol=1e-4)


@pytest.mark.usefixtures("float64")
def test_distances_equal_a_loop():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(5, 3)) + 100, rng.normal(size=(7, 3)) + 100
    expected = np.array([[((a - b) ** 2).sum() for b in y] for a in x])
    np.testing.assert_allclose(squared_distances(jnp.array(x), jnp.array(y)), expected, rtol=1e-9)
    np.testing.assert_allclose(euclidean_distances(jnp.array(x), jnp.array(y)), np.sqrt(expected), rtol=1e-9)


def test_distance_gradients_are_finite_where_points_coincide():
    x = jnp.array([[1.0, 2.0], [1.0, 2.0], [0.0, 1.0]])
    assert np.isfinite(jax.grad(lambda x: euclidean_distances(x, x).sum())(x)).all()
    assert np.isfinite(jax.grad(lambda x: unit_length(x).sum())(jnp.zeros((2, 3)))).all()


def images(b=6, h=5, w=4):
    return jnp.array(np.random.default_rng(6).random((b, h, w, 3)), jnp.float32)


def test_flip_flips_some_and_only_flips():
    x = images(b=32)
    y = np.asarray(random_flip(jax.random.key(0), x))
    flipped = [not np.array_equal(a, b) for a, b in zip(x, y, strict=True)]
    assert 5 < sum(flipped) < 27
    for f, a, b in zip(flipped, np.asarray(x), y, strict=True):
        np.testing.assert_array_equal(b, a[:, ::-1] if f else a)


def test_shift_equals_a_padded_crop():
    x = np.asarray(images(b=16))
    y = np.asarray(random_shift(jax.random.key(1), jnp.array(x), pixels=2))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    seen = set()
    for a, b in zip(padded, y, strict=True):
        places = [(r, c) for r in range(5) for c in range(5) if np.array_equal(a[r : r + 5, c : c + 4], b)]
        assert places
        seen.add(places[0])
    assert len(seen) > 5


def test_resized_crop_of_a_ramp_is_a_ramp_inside_it():
    """Cropping and resizing a linear ramp gives a linear ramp whose ends lie inside the picture's."""
    ramp = jnp.broadcast_to(jnp.linspace(0, 1, 32)[None, None, :, None], (8, 32, 32, 1))
    y = np.asarray(random_resized_crop(jax.random.key(2), ramp, size=16, min_area=0.3))
    assert y.shape == (8, 16, 16, 1)
    inner = y[:, 4:12, 3:13, 0]
    np.testing.assert_allclose(np.diff(inner, 2, axis=2), 0, atol=0.01)  # the anti-aliasing filter ripples a little
    assert (np.diff(inner, axis=2) > 0).all()
    assert y.min() >= 0
    assert y.max() <= 1 + 1e-6


@pytest.mark.parametrize("augment", [random_flip, random_shift, lambda k, x, **kw: random_resized_crop(k, x, size=4, **kw)])
def test_augmentation_is_the_same_on_any_number_of_devices(augment):
    x, key = images(b=8), jax.random.key(3)
    whole = augment(key, x)
    mapped = jax.pmap(lambda part: augment(key, part, axis_name="data"), "data")(x.reshape(4, 2, 5, 4, 3))
    np.testing.assert_allclose(np.asarray(mapped).reshape(whole.shape), whole, rtol=1e-5, atol=1e-6)
