"""Normalisation layers. Parameters and statistics are float32 whatever the inputs' type."""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import Initializer, ones, zeros
from jax import lax

from cnn_jax.ops.norm import batch_moments, normalise


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
