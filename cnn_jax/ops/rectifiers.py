"""The rectifier and its relatives, made of pieces: torch's formulas, defaults and one-sided derivatives. By name in `ops.activations`."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn_jax.ops.arguments import check_array, check_number
from cnn_jax.ops.precision import as_floats, in_float32


def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns max(x, 0), with derivative 0 at 0.

    Raises:
      ValueError: x is no array.

    Reference: Nair & Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010.

    >>> relu(jnp.array([-2.0, 3.0])).tolist()
    [0.0, 3.0]
    """
    check_array("x", x)
    return jax.nn.relu(as_floats(x))


def relu6(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns min(max(x, 0), 6), with derivative 0 at 0 and at 6 (`jax.nn.relu6` has ½ there).

    Reference: Howard et al., "MobileNets", 2017.

    >>> relu6(jnp.array([-2.0, 3.0, 8.0])).tolist()
    [0.0, 3.0, 6.0]
    """
    return hard_tanh(x, low=0.0, high=6.0)


@in_float32
def leaky_relu(x: Float[Array, "*shape"], *, negative_slope: float = 0.01) -> Float[Array, "*shape"]:
    """Returns x where it is positive, negative_slope · x elsewhere.

    Raises:
      ValueError: the slope is not finite.

    Reference: Maas et al., "Rectifier nonlinearities improve neural network acoustic models", 2013.

    >>> leaky_relu(jnp.array([-2.0, 3.0]), negative_slope=0.5).tolist()
    [-1.0, 3.0]
    """
    check_number("negative_slope", negative_slope, math.isfinite, "finite")
    return jnp.where(x > 0, x, negative_slope * x)


@in_float32
def prelu(x: Float[Array, "*shape"], slope: Float[Array, "..."]) -> Float[Array, "*shape"]:
    """Returns x where it is positive, slope · x elsewhere: `leaky_relu` with slopes to be learned.

    Args:
      slope: one for all, of shape [], or one a channel, [c].

    Raises:
      ValueError: the slope has another shape.

    Reference: He et al., "Delving deep into rectifiers", 2015.

    >>> prelu(jnp.array([[-2.0, -2.0, 3.0]]), jnp.array([0.25, 0.5, 0.5])).tolist()
    [[-0.5, -1.0, 3.0]]
    """
    check_array("slope", slope)
    if slope.shape not in ((), x.shape[-1:]):
        raise ValueError(f"slope must be of shape () or {x.shape[-1:]}, one for each of the last axis' channels, got {slope.shape}")
    slope = slope.reshape((1,) * (x.ndim - slope.ndim) + slope.shape)
    return jnp.where(x > 0, x, slope * x)


@in_float32
def elu(x: Float[Array, "*shape"], *, alpha: float = 1.0) -> Float[Array, "*shape"]:
    """Returns x where it is positive, α·(e^x − 1) elsewhere.

    Raises:
      ValueError: α is not finite.

    Reference: Clevert et al., "Fast and accurate deep network learning by exponential linear units", 2016.

    >>> elu(jnp.array([-1e4, 0.0, 3.0]), alpha=2.0).tolist()
    [-2.0, 0.0, 3.0]
    """
    check_number("alpha", alpha, math.isfinite, "finite")
    return jnp.where(x > 0, x, alpha * jnp.expm1(jnp.where(x > 0, 0, x)))  # not minimum: at a tie it halves the gradient


@in_float32
def selu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns λ·x where x is positive, λ·α·(e^x − 1) elsewhere; λ and α keep mean 0 and variance 1 through the layers.

    Reference: Klambauer et al., "Self-normalizing neural networks", 2017.

    >>> [round(y, 4) for y in selu(jnp.array([-1e4, 1.0])).tolist()]
    [-1.7581, 1.0507]
    """
    return 1.0507009873554804934193349852946 * elu(x, alpha=1.6732632423543772848170429916717)


@in_float32
def celu(x: Float[Array, "*shape"], *, alpha: float = 1.0) -> Float[Array, "*shape"]:
    """Returns x where it is positive, α·(e^(x/α) − 1) elsewhere: `elu` made smooth for every α.

    Raises:
      ValueError: α is not positive and finite.

    Reference: Barron, "Continuously differentiable exponential linear units", 2017.

    >>> celu(jnp.array([-1e4, 0.0, 3.0]), alpha=2.0).tolist()
    [-2.0, 0.0, 3.0]
    """
    check_number("alpha", alpha, lambda v: 0 < v < math.inf, "positive and finite: x is divided by it")
    return jnp.where(x > 0, x, alpha * jnp.expm1(jnp.where(x > 0, 0, x) / alpha))


def hard_tanh(x: Float[Array, "*shape"], *, low: float = -1.0, high: float = 1.0) -> Float[Array, "*shape"]:
    """Returns min(max(x, low), high), with derivative 0 at both ends.

    Raises:
      ValueError: low is not below high.

    Reference: Collobert, "Large scale machine learning", 2004.

    >>> hard_tanh(jnp.array([-2.0, 0.5, 3.0])).tolist()
    [-1.0, 0.5, 1.0]
    """
    check_array("x", x)
    check_number("high", high, lambda v: v == v, "a number")
    check_number("low", low, lambda v: v < high, f"below high={high}")
    x = as_floats(x)
    # Not minimum and maximum: at a tie they pass on half the gradient.
    return jnp.where(x <= low, low, jnp.where(x >= high, high, x)).astype(x.dtype)


@in_float32
def hard_sigmoid(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns min(max(x + 3, 0), 6) / 6.

    Reference: Howard et al., "Searching for MobileNetV3", 2019; Keras 2 had another one, 0.2·x + 0.5 cut to [0, 1].

    >>> hard_sigmoid(jnp.array([-4.0, 0.0, 4.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return relu6(x + 3) / 6


@in_float32
def hard_swish(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x·hard_sigmoid(x).

    Reference: Howard et al., "Searching for MobileNetV3", 2019.

    >>> hard_swish(jnp.array([-4.0, 3.0, 4.0])).tolist()
    [-0.0, 3.0, 4.0]
    """
    return x * hard_sigmoid(x)
