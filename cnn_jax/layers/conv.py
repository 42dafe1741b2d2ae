"""Convolution layers with learned kernels, in 1-D, 2-D and 3-D: dense, depthwise, separable, transposed, standardised."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import Initializer, zeros

from cnn_jax.initialisers import check_initialiser, he_normal_fan_out
from cnn_jax.ops.arguments import check_array, check_dtype, check_each_axis, check_flag, check_whole, is_whole
from cnn_jax.ops.conv import correlate, transposed_correlate
from cnn_jax.ops.norm import standardise_weights
from cnn_jax.ops.padding import Border, Padding, PerAxis


class Conv(nn.Module):
    """Correlation with a learned bank of kernels: [b, *space, c_in] -> [b, *space, features].

    Parameters: `kernel` [*window, c_in // groups, features] and, unless turned off, `bias` [features].
    The options are those of `ops.conv.correlate`; the number of window sizes gives the number of spatial axes.
    Depthwise: `groups` = c_in. Causal in time: `padding="CAUSAL"`.

    Attributes:
      features: channels that come out.
      window: one size for each spatial axis.
      kernel_init: (key, shape, dtype) -> array, as all in `initialisers.INITIALISERS`; the bias starts at zero.
      dtype: of the computation; parameters are float32.

    Raises:
      ValueError: a size, group or padding does not fit the input, or is no whole number; names it and what would.

    >>> import jax
    >>> layer = Conv(features=4, window=(3, 3), stride=2)
    >>> y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), jnp.ones((1, 8, 8, 3)))
    >>> y.shape, jax.tree.map(jnp.shape, variables["params"])
    ((1, 4, 4, 4), {'bias': (4,), 'kernel': (3, 3, 3, 4)})
    """

    features: int
    window: Sequence[int]
    stride: PerAxis = 1
    padding: Padding = "SAME"
    border: Border = "zeros"
    dilation: PerAxis = 1
    input_dilation: PerAxis = 1
    groups: int = 1
    use_bias: bool = True
    kernel_init: Initializer = he_normal_fan_out
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        _check(self, x)
        kernel = self.param("kernel", self.kernel_init, (*self.window, x.shape[-1] // self.groups, self.features), jnp.float32)
        y = correlate(
            jnp.asarray(x, self.dtype),
            jnp.asarray(self.prepare(kernel), self.dtype),
            stride=self.stride,
            padding=self.padding,
            border=self.border,
            dilation=self.dilation,
            input_dilation=self.input_dilation,
            groups=self.groups,
        )
        return _with_bias(self, y)

    def prepare(self, kernel):
        """Returns the kernel that is used, from the one that is learned."""
        return kernel


class StandardisedConv(Conv):
    """`Conv` whose kernels have mean 0 and variance 1 for each output channel before they are used.

    Raises:
      ValueError: as `Conv`; or an output has but one weight.

    Reference: Qiao et al., "Micro-batch training with batch-channel normalization and weight standardization", 2019.

    >>> import jax
    >>> layer = StandardisedConv(features=4, window=(3,), padding="VALID")
    >>> y, _ = layer.init_with_output(jax.random.key(0), jnp.ones((1, 3, 2)))
    >>> bool(jnp.abs(y).max() < 1e-5)  # weights of mean 0 do not see a constant
    True
    """

    def prepare(self, kernel):
        return standardise_weights(kernel)


class SeparableConv(nn.Module):
    """A depthwise convolution and a 1×1 one that mixes the channels: k·c + c·features weights instead of k·c·features.

    Parameters: `depthwise/kernel` [*window, 1, c_in · multiplier], `pointwise/kernel` [1…, c_in · multiplier, features] and
    `pointwise/bias` [features]. Stride, padding and dilation are of the depthwise part.

    Attributes:
      multiplier: depthwise kernels for each input channel.
      others: as in `Conv`.

    Raises:
      ValueError: as `Conv`.

    Reference: Chollet, "Xception", 2016.

    >>> import jax
    >>> layer = SeparableConv(features=5, window=(3, 3))
    >>> y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), jnp.ones((1, 8, 8, 2)))
    >>> y.shape, jax.tree.map(jnp.shape, variables["params"])
    ((1, 8, 8, 5), {'depthwise': {'kernel': (3, 3, 1, 2)}, 'pointwise': {'bias': (5,), 'kernel': (1, 1, 2, 5)}})
    """

    features: int
    window: Sequence[int]
    stride: PerAxis = 1
    padding: Padding = "SAME"
    border: Border = "zeros"
    dilation: PerAxis = 1
    multiplier: int = 1
    use_bias: bool = True
    kernel_init: Initializer = he_normal_fan_out
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        check_array("x", x)
        check_whole("multiplier", self.multiplier)
        check_whole("features", self.features)
        check_each_axis("window", self.window)
        c = x.shape[-1] if x.ndim else 0
        x = Conv(
            c * self.multiplier,
            self.window,
            stride=self.stride,
            padding=self.padding,
            border=self.border,
            dilation=self.dilation,
            groups=c,
            use_bias=False,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="depthwise",
        )(x)
        ones = (1,) * len(self.window)
        return Conv(
            self.features, ones, padding=0, use_bias=self.use_bias, kernel_init=self.kernel_init, dtype=self.dtype, name="pointwise"
        )(x)


class ConvTranspose(nn.Module):
    """The transpose of a strided convolution, which enlarges: [b, *space, c_in] -> [b, *larger, features]. torch's ConvTranspose.

    Parameters: `kernel` [*window, c_in // groups, features], `bias` [features]. Options of `ops.conv.transposed_correlate`.

    Attributes: those of `Conv`, and `output_padding`, positions added at the end of each axis.

    Raises:
      ValueError: a size, group or padding does not fit the input, or is no whole number; names it and what would.

    >>> import jax
    >>> layer = ConvTranspose(features=4, window=(3, 3), stride=2)
    >>> y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), jnp.ones((1, 8, 8, 3)))
    >>> y.shape, jax.tree.map(jnp.shape, variables["params"])
    ((1, 16, 16, 4), {'bias': (4,), 'kernel': (3, 3, 3, 4)})
    """

    features: int
    window: Sequence[int]
    stride: PerAxis = 1
    padding: Padding = "SAME"
    output_padding: PerAxis = 0
    dilation: PerAxis = 1
    groups: int = 1
    use_bias: bool = True
    kernel_init: Initializer = he_normal_fan_out
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        _check(self, x)
        kernel = self.param("kernel", self.kernel_init, (*self.window, x.shape[-1] // self.groups, self.features), jnp.float32)
        y = transposed_correlate(
            jnp.asarray(x, self.dtype),
            jnp.asarray(kernel, self.dtype),
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return _with_bias(self, y)


def _check(layer: nn.Module, x) -> None:
    """Refuses what would fail later, or not at all, with another name on it."""
    check_array("x", x)
    check_whole("features", layer.features)
    check_each_axis("window", layer.window)
    check_flag("use_bias", layer.use_bias)
    check_dtype("dtype", layer.dtype)
    check_initialiser("kernel_init", layer.kernel_init)
    if x.ndim != len(layer.window) + 2:
        raise ValueError(
            f"window={tuple(layer.window)} is for inputs [b, *space, c] with {len(layer.window)} spatial axes, got shape {x.shape}"
        )
    if x.shape[-1] == 0:
        raise ValueError(f"x must be [b, *space, c] with at least one channel, got shape {x.shape}")
    if not is_whole(layer.groups) or layer.groups < 1 or x.shape[-1] % layer.groups or layer.features % layer.groups:
        raise ValueError(f"groups={layer.groups} must divide the {x.shape[-1]} input channels and features={layer.features}")


def _with_bias(layer: nn.Module, y):
    if not layer.use_bias:
        return y
    bias = layer.param("bias", zeros, (layer.features,), jnp.float32)
    return y + jnp.asarray(bias, layer.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
