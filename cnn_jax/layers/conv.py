"""Convolution layers: correlation with learned kernels in 1-D, 2-D and 3-D."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import Initializer, variance_scaling, zeros

from cnn_jax.ops.conv import correlate

# He et al. 2015 ("Delving deep into rectifiers"), counted over outputs as torchvision's residual nets do.
he_normal_fan_out = variance_scaling(2.0, "fan_out", "normal")


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
