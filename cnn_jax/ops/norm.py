"""Normalisation as pure functions, channels last: which values share a mean and a variance is all they differ in.

For x of shape [b, *space, c], each set of values that is normalised together is

  batch_moments + normalise   one channel over the batch and all space    (BatchNorm)
  group_norm                  one example, c / groups neighbouring channels, all space
  layer_norm                  one example, one position, all channels
  instance_norm               one example, one channel, all space
  rms_norm                    as layer_norm, without taking the mean away

All is computed in at least float32 and returned in the inputs' type, of integers in float32 (`ops.precision`).
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cnn_jax.ops.arguments import check_array, check_number, is_whole
from cnn_jax.ops.precision import in_float32, result_type, widened


def batch_moments(
    inputs: Float[Array, "b *space c"],
    shift: Float[Array, "c"],
    *,
    where: Bool[Array, "b"] | None = None,
    axis_name: str | None = None,
) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
    """Returns each channel's mean and biased variance over all other axes, in one pass, in at least float32.

    With d = x − shift: mean = shift + E[d] and var = E[d²] − E[d]². The identity holds for any shift; one near the mean (as
    `nearby_mean` gives) keeps the difference from cancelling, which the usual one-pass E[x²] − E[x]² does not.

    Args:
      inputs: channels last.
      shift: a guess of the mean; no gradient flows into it.
      where: the examples that count. The moments are those of the others left out, on however many devices; where none
        counts, the mean is the shift and the variance 1.
      axis_name: the device axis to average over as well, under pmap only.

    Raises:
      ValueError: `where` is not of one boolean an example, `shift` not of one number a channel.

    Reference: Chan, Golub & LeVeque, "Algorithms for computing the sample variance", 1983.

    >>> x = jnp.array([[1.0], [3.0], [99.0]])
    >>> mean, var = batch_moments(x, jnp.zeros(1), where=jnp.array([True, True, False]))
    >>> mean.item(), var.item()
    (2.0, 1.0)
    """
    _check(inputs, required=True, shift=shift)
    _check_examples(inputs, where)
    wide = widened(inputs)
    shift = lax.stop_gradient(jnp.asarray(shift, wide.dtype))
    d = wide - shift.reshape((1,) * (inputs.ndim - 1) + (-1,))
    axes = tuple(range(inputs.ndim - 1))
    if where is None:
        first, second = d.mean(axes), jnp.square(d).mean(axes)
        if axis_name is not None:
            first, second = lax.pmean((first, second), axis_name)
        return shift + first, jnp.maximum(second - jnp.square(first), 0)
    num = num_values(inputs, where=where, axis_name=axis_name)
    d = jnp.where(where.reshape((-1,) + (1,) * (inputs.ndim - 1)), d, 0)
    first, second = d.sum(axes), jnp.square(d).sum(axes)
    if axis_name is not None:
        first, second = lax.psum((first, second), axis_name)
    first, second = first / jnp.maximum(num, 1), second / jnp.maximum(num, 1)
    return shift + first, jnp.where(num > 0, jnp.maximum(second - jnp.square(first), 0), 1)


def nearby_mean(
    inputs: Float[Array, "b *space c"], *, where: Bool[Array, "b"] | None = None, axis_name: str | None = None
) -> Float[Array, "c"]:
    """Returns each channel's mean over the first example that counts, as a shift for `batch_moments`; 0 where none counts.

    The running mean would cost nothing, but is far from the data in the first steps, after loading, or when the data change.

    Args:
      axis_name: under pmap, the device axis; the mean over the devices' first examples then.

    Raises:
      ValueError: inputs are not [b, *space, c] or empty, or `where` is no booleans [b].

    >>> nearby_mean(jnp.array([[1.0], [3.0]]), where=jnp.array([False, True])).tolist()
    [3.0]
    """
    _check_examples(inputs, where)
    counts = jnp.ones(inputs.shape[:1], bool) if where is None else where
    first = widened(inputs[0 if where is None else jnp.argmax(counts)])
    mean = jnp.where(counts.any(), lax.stop_gradient(first).mean(tuple(range(first.ndim - 1))), 0)
    if axis_name is None:
        return mean
    total, num = lax.psum((mean, counts.any().astype(mean.dtype)), axis_name)
    return total / jnp.maximum(num, 1)


def num_values(
    inputs: Float[Array, "b *space c"], *, where: Bool[Array, "..."] | None = None, axis_name: str | None = None
) -> int | Float[Array, ""]:
    """Returns how many values of each channel `batch_moments` averages, a plain number unless examples are masked.

    Raises:
      ValueError: `where` is not of one boolean an example.

    >>> num_values(jnp.zeros((4, 3, 5)))
    12
    >>> num_values(jnp.zeros((2, 3, 5)), where=jnp.array([True, False])).item()
    3.0
    """
    _check_examples(inputs, where)
    if where is None:
        return math.prod(inputs.shape[:-1]) * (1 if axis_name is None else lax.axis_size(axis_name))
    num = where.sum(dtype=jnp.float32) * math.prod(inputs.shape[1:-1])
    return num if axis_name is None else lax.psum(num, axis_name)


def normalise(
    inputs: Float[Array, "*b c"],
    mean: Float[Array, "c"],
    var: Float[Array, "c"],
    scale: Float[Array, "c"],
    bias: Float[Array, "c"],
    *,
    epsilon: float = 1e-5,
) -> Float[Array, "*b c"]:
    """Returns (x − mean) / √(var + ε) · scale + bias for each channel, in the inputs' dtype.

    Raises:
      ValueError: a vector is not of one number a channel, or ε is negative.

    Reference: Ioffe & Szegedy, "Batch Normalization", 2015.

    >>> normalise(jnp.array([[3.0]]), jnp.ones(1), jnp.ones(1) * 4, jnp.ones(1), jnp.zeros(1), epsilon=0.0).item()
    1.0
    """
    _check(inputs, epsilon, required=True, mean=mean, var=var, scale=scale, bias=bias)
    gain = scale * lax.rsqrt(var + epsilon)
    rows = (1,) * (inputs.ndim - 1) + (-1,)
    # The mean is taken off first: x·gain − mean·gain would cancel far from zero, and more so in its gradient.
    return ((inputs - mean.reshape(rows)) * gain.reshape(rows) + bias.reshape(rows)).astype(result_type(inputs))


@in_float32
def group_norm(
    inputs: Float[Array, "b *space c"],
    scale: Float[Array, "c"] | None = None,
    bias: Float[Array, "c"] | None = None,
    *,
    groups: int = 32,
    epsilon: float = 1e-5,
) -> Float[Array, "b *space c"]:
    """Returns (x − mean) / √(var + ε) · scale + bias, over each example's groups of neighbouring channels and all space.

    With `groups=1` it is the layer norm over all of an example, with as many groups as channels `instance_norm`.

    Args:
      scale: left out, 1.
      bias: left out, 0.

    Raises:
      ValueError: the groups do not divide the channels; scale or bias is not of one number a channel, or ε is negative.

    Reference: Wu & He, "Group normalization", 2018.

    >>> group_norm(jnp.array([[1.0, 3.0, 10.0, 30.0]]), groups=2, epsilon=0.0).round(4).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """
    _check(inputs, epsilon, scale=scale, bias=bias)
    channels = inputs.shape[-1]
    if not is_whole(groups):
        raise ValueError(f"groups={groups!r} must be a whole number")
    if groups < 1 or channels % groups:
        raise ValueError(f"groups={groups} must be at least 1 and divide the number of channels, which is {channels}")
    grouped = inputs.reshape(*inputs.shape[:-1], groups, channels // groups)
    y = _standardised(grouped, (*range(1, inputs.ndim - 1), inputs.ndim), epsilon)
    return _affine(y.reshape(inputs.shape), scale, bias)


@in_float32
def layer_norm(
    inputs: Float[Array, "*b c"],
    scale: Float[Array, "c"] | None = None,
    bias: Float[Array, "c"] | None = None,
    *,
    epsilon: float = 1e-5,
) -> Float[Array, "*b c"]:
    """Returns (x − mean) / √(var + ε) · scale + bias over the channels of each position: torch's `LayerNorm(c)`, channels last.

    Over all of an example, space included, it is `group_norm` with `groups=1`.

    Raises:
      ValueError: scale or bias is not of one number a channel, or ε is negative.

    Reference: Ba et al., "Layer normalization", 2016.

    >>> layer_norm(jnp.array([[1.0, 3.0], [10.0, 30.0]]), epsilon=0.0).round(4).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """
    _check(inputs, epsilon, scale=scale, bias=bias)
    return _affine(_standardised(inputs, -1, epsilon), scale, bias)


@in_float32
def instance_norm(
    inputs: Float[Array, "b *space c"],
    scale: Float[Array, "c"] | None = None,
    bias: Float[Array, "c"] | None = None,
    *,
    epsilon: float = 1e-5,
) -> Float[Array, "b *space c"]:
    """Returns (x − mean) / √(var + ε) · scale + bias over all space, for each example and channel.

    Raises:
      ValueError: there is but one position, so that x − mean would be zero everywhere; else as `layer_norm`.

    Reference: Ulyanov et al., "Instance normalization: the missing ingredient for fast stylization", 2016.

    >>> instance_norm(jnp.array([[[1.0, 10.0], [3.0, 30.0]]]), epsilon=0.0).round(4).tolist()
    [[[-1.0, -1.0], [1.0, 1.0]]]
    """
    _check(inputs, epsilon, scale=scale, bias=bias)
    if math.prod(inputs.shape[1:-1]) < 2:
        raise ValueError(f"inputs must be [b, *space, c] with more than one position in space, got shape {inputs.shape}")
    return _affine(_standardised(inputs, tuple(range(1, inputs.ndim - 1)), epsilon), scale, bias)


@in_float32
def rms_norm(inputs: Float[Array, "*b c"], scale: Float[Array, "c"] | None = None, *, epsilon: float = 2**-23) -> Float[Array, "*b c"]:
    """Returns x / √(mean of x² + ε) · scale over the channels of each position; ε is float32's step at 1, torch's default.

    Raises:
      ValueError: as `layer_norm`.

    Reference: Zhang & Sennrich, "Root mean square layer normalization", 2019.

    >>> rms_norm(jnp.array([[2.0, -2.0, 2.0]])).round(4).tolist()
    [[1.0, -1.0, 1.0]]
    """
    _check(inputs, epsilon, scale=scale)
    squares = jnp.square(inputs).mean(-1, keepdims=True)
    return _affine(inputs * lax.rsqrt(squares + epsilon), scale, None)


@in_float32
def standardise_weights(kernel: Float[Array, "*window c_in c_out"], *, epsilon: float = 1e-6) -> Float[Array, "*window c_in c_out"]:
    """Returns (w − mean) / √(var + ε) over all axes but the last, for each output channel; the variance is the biased one.

    For networks with `group_norm` and small batches. ε is timm's; it must be small beside a weight's variance, about 1 / fan-in.

    Raises:
      ValueError: an output has but one weight, so that w − mean would be zero, or ε is negative.

    Reference: Qiao et al., "Micro-batch training with batch-channel normalization and weight standardization", 2019.

    >>> standardise_weights(jnp.array([[1.0, 10.0], [3.0, 30.0]])).round(4).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """
    _check(kernel, epsilon)
    if math.prod(kernel.shape[:-1]) < 2:
        raise ValueError(f"kernel must have more than one weight for each output to be standardised, got shape {kernel.shape}")
    return _standardised(kernel, tuple(range(kernel.ndim - 1)), epsilon)


def _check(inputs: jax.Array, epsilon: float = 0.0, *, required: bool = False, **vectors: jax.Array | None) -> None:
    check_array("inputs", inputs)
    if inputs.ndim < 1:
        raise ValueError("inputs must have a last axis of channels, got shape ()")
    for name, vector in vectors.items():
        if required or vector is not None:
            check_array(name, vector)
            if vector.shape != inputs.shape[-1:]:
                raise ValueError(f"{name} must be [{inputs.shape[-1]}], one number for each channel, got {vector.shape}")
    check_number("epsilon", epsilon, lambda v: 0 <= v < math.inf, "finite and not negative: it is added to a variance")


def _check_examples(inputs: jax.Array, where: jax.Array | None) -> None:
    check_array("inputs", inputs)
    if inputs.ndim < 2 or 0 in inputs.shape:
        raise ValueError(f"inputs must be [b, *space, c] and not empty, got shape {inputs.shape}")
    if where is not None:
        check_array("where", where)
        if where.shape != inputs.shape[:1] or where.dtype != jnp.bool_:
            raise ValueError(f"where must hold one boolean an example, shape {inputs.shape[:1]}, got {where.dtype} {where.shape}")


def _standardised(x: jax.Array, axes: int | tuple[int, ...], epsilon: float) -> jax.Array:
    """In two passes: there is no running mean to shift by, and E[x²] − E[x]² cancels."""
    x = x - x.mean(axes, keepdims=True)
    return x * lax.rsqrt(jnp.square(x).mean(axes, keepdims=True) + epsilon)


def _affine(x: jax.Array, scale: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    rows = (1,) * (x.ndim - 1) + (-1,)
    x = x if scale is None else x * scale.reshape(rows)
    return x if bias is None else x + bias.reshape(rows)
