"""Pooling over windows and over all space, channels last, in one to three dimensions. Every pooling can be had from here."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Shaped

from cnn_jax.ops.adaptive_pool import adaptive_average_pool, adaptive_max_pool
from cnn_jax.ops.arguments import check_flag, check_number
from cnn_jax.ops.blur_pool import blur_pool, max_blur_pool
from cnn_jax.ops.max_pool import first_maximum, max_pool
from cnn_jax.ops.padding import Padding, PerAxis
from cnn_jax.ops.precision import as_floats, result_type, widened
from cnn_jax.ops.stochastic_pool import probability_weighted_pool, stochastic_pool
from cnn_jax.ops.window_sum import window_sum
from cnn_jax.ops.windows import padded, sliding_windows, spatial_sizes, taps

__all__ = [
    "adaptive_average_pool",
    "adaptive_max_pool",
    "average_pool",
    "blur_pool",
    "global_average_max_pool",
    "global_average_pool",
    "global_max_pool",
    "l2_pool",
    "lp_pool",
    "max_blur_pool",
    "max_pool",
    "probability_weighted_pool",
    "stochastic_pool",
]


@jax.named_scope("average_pool")
def average_pool(
    inputs: Float[Array, "b *space c"],
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Float[Array, "b *places c"]:
    """Returns the mean of each window.

    Args:
      window, stride, padding, ceil_mode: as in `max_pool`.
      count_include_pad: the padding's zeros count as values (torch's default); else the mean is over the values that are there. What
        `ceil_mode` adds beyond the padding never counts.

    Raises:
      ValueError: as `max_pool`.

    Reference: LeCun et al., "Gradient-based learning applied to document recognition", 1998 (its subsampling layers).

    >>> average_pool(jnp.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    >>> row = jnp.ones((1, 3, 1))
    >>> average_pool(row, 2, padding=1)[0, :, 0].tolist(), average_pool(row, 2, padding=1, count_include_pad=False)[0, :, 0].tolist()
    ([0.5, 1.0], [1.0, 1.0])
    """
    check_flag("count_include_pad", count_include_pad)
    windows = sliding_windows(inputs, window, stride=stride, padding=padding, ceil_mode=ceil_mode)
    space, walk = inputs.shape[1:-1], windows.walk
    count = np.ones(())
    places = walk.places([n + sum(pads) for n, pads in zip(space, windows.pads, strict=True)])
    for n, (before, after), k, s, num in zip(space, windows.asked, walk.window, walk.stride, places, strict=True):
        start = np.arange(num) * s - before
        first, last = (-before, n + after) if count_include_pad else (0, n)
        count = count[..., None] * (np.minimum(start + k, last) - np.maximum(start, first))
    inputs, dtype = widened(inputs), result_type(inputs)
    if (count == count.flat[0]).all():
        return window_sum(inputs, windows, count.flat[0]).astype(dtype)
    return (window_sum(inputs, windows) / jnp.asarray(count[None, ..., None], inputs.dtype)).astype(dtype)


@jax.named_scope("lp_pool")
def lp_pool(
    inputs: Float[Array, "b *space c"],
    window: PerAxis,
    *,
    p: float = 2.0,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
) -> Float[Array, "b *places c"]:
    """Returns the p-norm of each window, (Σ |x|^p)^(1/p); p = 1 is the sum of absolute values, p → ∞ their maximum.

    Windows are scaled by their largest value first, so that no power overflows. Where the norm has no derivative (all zero, or a
    zero with p < 1), it is taken to be 0. torch's LPPool leaves out the absolute value, which is the same for even p only, and
    enlarges what `ceil_mode` cuts off to a full window; here nothing is enlarged.

    Args:
      p: any positive number.
      window, stride, padding, ceil_mode: as in `max_pool`.

    Raises:
      ValueError: p is not positive and finite; else as `max_pool`.

    Reference: Sermanet, Chintala & LeCun, "Convolutional neural networks applied to house numbers digit classification", 2012.

    >>> lp_pool(jnp.array([3.0, -4.0, 1.0, 1.0]).reshape(1, 4, 1), 2, p=1.0)[0, :, 0].tolist()
    [7.0, 2.0]
    """
    check_number("p", p, lambda v: 0 < v < math.inf, "positive and finite; for p = ∞ take max_pool(jnp.abs(inputs), …)")
    windows = sliding_windows(inputs, window, stride=stride, padding=padding, ceil_mode=ceil_mode)
    sizes = jnp.abs(widened(inputs))
    # A norm does not depend on the scale it is computed in, so no gradient need flow through that: the largest value of the window, or,
    # for windows of many values, of the channel.
    if windows.walk.few:
        seen = taps(padded(sizes, windows.pads, 0.0), windows.walk)
        scale = _positive(lax.stop_gradient(functools.reduce(jnp.maximum, seen)))
        total = sum(_power(size / scale, p) for size in seen)
    else:
        scale = _positive(lax.stop_gradient(sizes.max(tuple(range(1, sizes.ndim - 1)), keepdims=True)))
        total = window_sum(_power(sizes / scale, p), windows)
    return (scale * _power(total, 1 / p)).astype(result_type(inputs))


@jax.named_scope("l2_pool")
def l2_pool(
    inputs: Float[Array, "b *space c"], window: PerAxis, *, stride: PerAxis | None = None, padding: Padding = 0, ceil_mode: bool = False
) -> Float[Array, "b *places c"]:
    """Returns the root of the *sum* of squares of each window, √(Σ x²): its Euclidean length.

    The root mean square (RMS) divides by the number n of values before the root, √(Σ x² / n), and is smaller by the factor √n.

    Args:
      window, stride, padding, ceil_mode: as in `max_pool`.

    Raises:
      ValueError: as `max_pool`.

    Reference: that of `lp_pool`.

    >>> l2_pool(jnp.array([3.0, -4.0, 0.0, 0.0]).reshape(1, 4, 1), 2)[0, :, 0].tolist()
    [5.0, 0.0]
    """
    return lp_pool(inputs, window, p=2.0, stride=stride, padding=padding, ceil_mode=ceil_mode)


@jax.named_scope("global_average_pool")
def global_average_pool(inputs: Float[Array, "b *space c"]) -> Float[Array, "b c"]:
    """Returns the mean over all spatial axes.

    Raises:
      ValueError: the inputs have no spatial axis, more than three, or an empty one.

    Reference: Lin, Chen & Yan, "Network in network", 2013.

    >>> global_average_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)).tolist()
    [[3.0, 4.0]]
    """
    num_space = len(spatial_sizes(inputs))
    return as_floats(inputs).mean(axis=tuple(range(1, 1 + num_space)))


@jax.named_scope("global_max_pool")
def global_max_pool(inputs: Shaped[Array, "b *space c"]) -> Shaped[Array, "b c"]:
    """Returns the maximum over all spatial axes; its gradient goes to the first one in row-major order. NaN is handed on.

    Raises:
      ValueError: the inputs have no spatial axis, more than three, or an empty one.

    Reference: Oquab et al., "Is object localization for free?", 2015.

    >>> global_max_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)).tolist()
    [[6.0, 7.0]]
    """
    flat = inputs.reshape(inputs.shape[0], math.prod(spatial_sizes(inputs)), inputs.shape[-1])
    return first_maximum(flat, 1)[:, 0]


@jax.named_scope("global_average_max_pool")
def global_average_max_pool(inputs: Float[Array, "b *space c"]) -> Float[Array, "b c"]:
    """Returns half the sum of the mean and the maximum over all spatial axes.

    Raises:
      ValueError: the inputs have no spatial axis, more than three, or an empty one.

    Reference: timm's global pooling "avgmax".

    >>> global_average_max_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)).tolist()
    [[4.5, 5.5]]
    """
    spatial_sizes(inputs)
    wide = widened(inputs)
    return ((global_average_pool(wide) + global_max_pool(wide)) / 2).astype(result_type(inputs))


def _positive(scale: jax.Array) -> jax.Array:
    return jnp.where((scale > 0) & (scale < jnp.inf), scale, 1)


def _power(x: jax.Array, p: float) -> jax.Array:
    """x^p for x ≥ 0, with derivative 0 at 0."""
    y = jnp.where(x == 0, 1, x)
    y = jnp.sqrt(y) if p == 0.5 else y ** (int(p) if float(p).is_integer() else p)  # whole powers are products
    return jnp.where(x == 0, 0, y)
