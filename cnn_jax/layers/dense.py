"""Fully connected layers: a hidden one, and the head that every network ends in."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import Initializer, zeros

from cnn_jax.initialisers import check_initialiser, lecun_normal
from cnn_jax.ops.arguments import check_array, check_dtype, is_whole


class Dense(nn.Module):
    """y = x·W + b over the last axis. Parameters: `kernel` [c_in, features], `bias` [features].

    Attributes:
      features: channels that come out.
      kernel_init: (key, shape, dtype) -> array, as all in `initialisers.INITIALISERS`; the bias starts at zero.
      dtype: of the computation; parameters are float32.

    Raises:
      ValueError: features is below 1.

    >>> import jax
    >>> Dense(2, kernel_init=nn.initializers.ones).init_with_output(jax.random.key(0), jnp.array([[1.0, 2.0]]))[0].tolist()
    [[3.0, 3.0]]
    """

    features: int
    kernel_init: Initializer = lecun_normal
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        if not is_whole(self.features) or self.features < 1:
            raise ValueError(f"features={self.features!r} must be at least 1, a whole number")
        _check(self, x)
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", zeros, (self.features,), jnp.float32)
        return jnp.asarray(x, self.dtype) @ jnp.asarray(kernel, self.dtype) + jnp.asarray(_as_row(bias, x), self.dtype)


class Head(nn.Module):
    """The last layer of every network, named "head": `Dense`, in float32 whatever came before.

    With `features=0` there is none: the network then returns what the head would have read, [b, c].

    Attributes: those of `Dense`.

    Raises:
      ValueError: features is negative.

    >>> import jax
    >>> [Head(features).init_with_output(jax.random.key(0), jnp.ones((2, 8)))[0].shape for features in (3, 0)]
    [(2, 3), (2, 8)]
    """

    features: int
    kernel_init: Initializer = lecun_normal
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        if not is_whole(self.features) or self.features < 0:
            raise ValueError(f"features={self.features!r} must be at least 1, or 0 for no head, a whole number")
        _check(self, x)
        if self.features == 0:
            return jnp.asarray(x, jnp.float32)
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", zeros, (self.features,), jnp.float32)
        return jnp.asarray(jnp.asarray(x, self.dtype) @ jnp.asarray(kernel, self.dtype), jnp.float32) + _as_row(bias, x)


def _as_row(bias, x):
    """With as many axes as the inputs, be they a single example or one with space."""
    return bias.reshape((1,) * (x.ndim - 1) + (-1,))


def _check(layer: nn.Module, x) -> None:
    check_array("x", x)
    check_dtype("dtype", layer.dtype)
    check_initialiser("kernel_init", layer.kernel_init)
    if x.ndim < 1 or x.shape[-1] == 0:
        raise ValueError(f"x must be [*b, c] with at least one channel, got shape {x.shape}")
