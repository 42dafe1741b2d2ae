"""Normalisation of a whole batch in few passes over its data: one to read, one to write, and the same again for the gradient."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.ops.arguments import check_array, check_number
from cnn_jax.ops.norm import batch_moments, nearby_mean
from cnn_jax.ops.precision import result_type, widened

# A variance computed as E[x²] − E[x]² is off by 2⁻²⁴ · mean² / variance, relatively: below 4e-6 up to here.
_CANCELS = 64.0


def batch_normalise(
    inputs: Float[Array, "b *space c"],
    scale: Float[Array, "c"],
    bias: Float[Array, "c"],
    *,
    epsilon: float = 1e-5,
    axis_name: str | None = None,
) -> tuple[Float[Array, "b *space c"], Float[Array, "c"], Float[Array, "c"]]:
    """Returns (x − mean) / √(var + ε) · scale + bias for each channel, and the mean and biased variance over all other axes.

    On a CPU sum and sum of squares are one pass over the inputs, and a channel whose variance would cancel (mean² > 64 · variance) costs
    another, around the mean; elsewhere it is one pass around a guess of the mean. The derivative is written so that its transpose, the
    gradient, needs one pass for two sums and one for the result, where plain differentiation has twice as many. It has forward mode and
    derivatives of any order.

    Args:
      axis_name: the device axis to average over as well, under pmap only.

    Raises:
      ValueError: inputs are not [b, *space, c] or empty, scale or bias is not of one number a channel, or ε is negative.

    Reference: Ioffe & Szegedy, "Batch normalization", 2015.

    >>> y, mean, var = batch_normalise(jnp.array([[1.0], [3.0]]), jnp.ones(1), jnp.zeros(1), epsilon=0.0)
    >>> y.tolist(), mean.item(), var.item()
    ([[-1.0], [1.0]], 2.0, 1.0)
    """
    check_array("inputs", inputs)
    if inputs.ndim < 2 or 0 in inputs.shape:
        raise ValueError(f"inputs must be [b, *space, c] and not empty, got shape {inputs.shape}")
    for name, vector in (("scale", scale), ("bias", bias)):
        check_array(name, vector)
        if vector.shape != inputs.shape[-1:]:
            raise ValueError(f"{name} must be [{inputs.shape[-1]}], one number for each channel, got {vector.shape}")
    check_number("epsilon", epsilon, lambda v: 0 <= v < float("inf"), "finite and not negative: it is added to a variance")
    y, mean, var = _normalised(widened(inputs), widened(scale), widened(bias), epsilon, axis_name)
    return y.astype(result_type(inputs)), mean, var


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _normalised(x: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None) -> tuple[Array, Array, Array]:
    mean, var = _moments(x, axis_name)
    # The mean is taken off first: x·gain − mean·gain would cancel far from zero.
    return (x - _rows(mean, x)) * _rows(scale * lax.rsqrt(var + epsilon), x) + _rows(bias, x), mean, var


@_normalised.defjvp
def _tangents(epsilon: float, axis_name: str | None, primals, tangents):
    """With x̂ = (x − mean)/σ: y' = gain·(x' − E[x'] − x̂·E[x̂·x']) + x̂·scale' + bias', sorted by what multiplies x', x and nothing.

    Both E[x·x'] and its transpose are sums of plain products. They cancel no more than x − mean itself does in floating point.
    """
    x, scale, _ = primals
    by_x, by_scale, by_bias = tangents
    y, mean, var = _normalised(*primals, epsilon, axis_name)
    inverse = lax.rsqrt(var + epsilon)
    gain = scale * inverse
    mean_of_slope = _mean(by_x, axis_name)
    covariance = _mean(x * by_x, axis_name) - mean * mean_of_slope
    times_x = inverse * by_scale - gain * jnp.square(inverse) * covariance
    alone = by_bias - gain * mean_of_slope - mean * times_x
    return (y, mean, var), (by_x * _rows(gain, x) + x * _rows(times_x, x) + _rows(alone, x), mean_of_slope, 2 * covariance)


def _moments(x: Array, axis_name: str | None) -> tuple[Array, Array]:
    if axis_name is None:
        return lax.platform_dependent(x, cpu=_by_squares, default=_around_first)
    return lax.platform_dependent(x, cpu=partial(_by_squares, axis_name=axis_name), default=partial(_around_first, axis_name=axis_name))


def _by_squares(x: Array, axis_name: str | None = None) -> tuple[Array, Array]:
    """From the plain sums, which a CPU computes fastest, with a second pass where they cancel."""
    first, second = _mean(x, None), _mean(jnp.square(x), None)
    mean, square = (first, second) if axis_name is None else lax.pmean((first, second), axis_name)
    cancels = (jnp.square(mean) > _CANCELS * (square - jnp.square(mean))).any()  # the same on every device
    var = lax.cond(
        cancels,
        lambda x, mean, first, second: _mean(jnp.square(x - _rows(mean, x)), None),
        lambda x, mean, first, second: second + mean * (mean - 2 * first),
        *(x, mean, first, second),
    )
    return mean, var if axis_name is None else lax.pmean(var, axis_name)


def _around_first(x: Array, axis_name: str | None = None) -> tuple[Array, Array]:
    """In one pass and without a branch, on which an accelerator would wait for the host."""
    return batch_moments(x, nearby_mean(x, axis_name=axis_name), axis_name=axis_name)


def _mean(x: Array, axis_name: str | None) -> Array:
    mean = x.mean(tuple(range(x.ndim - 1)))
    return mean if axis_name is None else lax.pmean(mean, axis_name)


def _rows(vector: Array, x: Array) -> Array:
    return vector.reshape((1,) * (x.ndim - 1) + (-1,))
