"""Linen modules over `ops`: the only home of the layers' defaults. Blocks receive them as partials."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import Initializer, ones, variance_scaling, zeros
from jax import lax

from cnn_jax.ops.conv import correlate
from cnn_jax.ops.distance import unit_length
from cnn_jax.ops.norm import batch_moments, normalise

# He et al. 2015 ("Delving deep into rectifiers"), counted over outputs as torchvision's residual nets do.
he_normal_fan_out = variance_scaling(2.0, "fan_out", "normal")
# 1/√fan_in, LeCun et al. 1998: for layers that are not followed by a rectifier.
lecun_normal = variance_scaling(1.0, "fan_in", "truncated_normal")


class Conv(nn.Module):
    """Correlation with a learned bank of kernels in 1-D, 2-D or 3-D: [b, *space, c_in] -> [b, *space, features].

    Parameters: `kernel` [*window, c_in // groups, features] and, unless turned off, `bias` [features].
    The options are those of `ops.conv.correlate`; the number of window sizes gives the number of spatial axes.
    """

    features: int
    window: Sequence[int]
    stride: int | Sequence[int] = 1
    padding: Any = "SAME"
    dilation: int | Sequence[int] = 1
    groups: int = 1
    use_bias: bool = True
    kernel_init: Initializer = he_normal_fan_out
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        shape = (*self.window, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        x, kernel = jnp.asarray(x, self.dtype), jnp.asarray(kernel, self.dtype)
        y = correlate(x, kernel, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups)
        if self.use_bias:
            bias = self.param("bias", zeros, (self.features,), jnp.float32)
            y = y + jnp.asarray(bias, self.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
        return y


class Dense(nn.Module):
    """y = x·W + b over the last axis. Parameters: `kernel` [c_in, features], `bias` [features]."""

    features: int
    kernel_init: Initializer = lecun_normal
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", zeros, (self.features,), jnp.float32)
        return jnp.asarray(x, self.dtype) @ jnp.asarray(kernel, self.dtype) + jnp.asarray(bias, self.dtype)[None]


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last; statistics in float32 whatever the inputs' type.

    Parameters: `scale`, `bias`. State, collection `batch_stats`: `mean` and `var` (unbiased, as torch keeps it), moved by
    new = momentum · old + (1 − momentum) · batch. Note that `momentum` is the fraction *kept*: torch's 0.1 is 0.9 here.

    Under `jit` over a mesh the batch is the global one and `axis_name` must be None; under pmap it is required.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: Initializer = ones
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        c = x.shape[-1]
        scale = self.param("scale", self.scale_init, (c,), jnp.float32)
        bias = self.param("bias", zeros, (c,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (c,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (c,), jnp.float32)
        if not train:
            return normalise(x, running_mean.value, running_var.value, scale, bias, epsilon=self.epsilon)
        axis_name = None if self.is_initializing() else self.axis_name  # initialisation runs outside any mapped axis
        mean, var = batch_moments(x, running_mean.value, axis_name=axis_name)
        if not self.is_initializing():
            num = x.size // c * (1 if axis_name is None else lax.axis_size(axis_name))
            unbiased = var * (num / max(num - 1, 1))
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * mean
            running_var.value = keep * running_var.value + (1 - keep) * unbiased
        return normalise(x, mean, var, scale, bias, epsilon=self.epsilon)


class Embedder(nn.Module):
    """A network whose outputs are scaled to unit length: embeddings [b, e] on the sphere."""

    network: nn.Module

    def __call__(self, x, train: bool):
        return unit_length(self.network(x, train))


class Scorer(nn.Module):
    """A network with one output, read as a score an example: [b]."""

    network: nn.Module

    def __call__(self, x, train: bool):
        return self.network(x, train)[..., 0]
