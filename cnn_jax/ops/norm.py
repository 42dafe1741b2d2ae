"""Batch normalisation as a pure function: statistics of a batch, and their use."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def batch_moments(
    inputs: Float[Array, "*b c"], shift: Float[Array, "c"], *, axis_name: str | None = None
) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
    """Returns each channel's mean and biased variance over all other axes, in one pass, in at least float32.

    With d = x − shift: mean = shift + E[d] and var = E[d²] − E[d]². The identity holds for any shift; one near the mean
    (the running mean serves) keeps the difference from cancelling, which the usual one-pass E[x²] − E[x]² does not.

    Args:
      inputs: channels last.
      shift: a guess of the mean; no gradient flows into it.
      axis_name: the device axis to average over as well, under pmap only.

    >>> mean, var = batch_moments(jnp.array([[1.0], [3.0]]), jnp.zeros(1))
    >>> mean.item(), var.item()
    (2.0, 1.0)
    """
    dtype = jnp.promote_types(inputs.dtype, jnp.float32)
    shift = lax.stop_gradient(shift).astype(dtype)
    d = inputs.astype(dtype) - shift.reshape((1,) * (inputs.ndim - 1) + (-1,))
    axes = tuple(range(inputs.ndim - 1))
    first, second = d.mean(axes), jnp.square(d).mean(axes)
    if axis_name is not None:
        first, second = lax.pmean((first, second), axis_name)
    return shift + first, jnp.maximum(second - jnp.square(first), 0)


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

    Reference: Ioffe & Szegedy, "Batch Normalization", 2015.

    >>> normalise(jnp.array([[3.0]]), jnp.ones(1), jnp.ones(1) * 4, jnp.ones(1), jnp.zeros(1), epsilon=0.0).item()
    1.0
    """
    gain = scale * lax.rsqrt(var + epsilon)
    rows = (1,) * (inputs.ndim - 1) + (-1,)
    return (inputs * gain.reshape(rows) + (bias - mean * gain).reshape(rows)).astype(inputs.dtype)
