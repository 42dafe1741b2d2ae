"""MobileNetV2 (Sandler et al. 2018, "Inverted residuals and linear bottlenecks"), and the block it shares with EfficientNet."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import normal, variance_scaling

from cnn_jax.layers import BatchNorm, Conv, Dropout, Head, SqueezeExcitation, StochasticDepth
from cnn_jax.models.checks import check_network
from cnn_jax.ops.activations import named_activation, relu6
from cnn_jax.ops.arguments import check_number
from cnn_jax.ops.pool import global_average_pool

# √(2 / taps): He et al.'s rule counted over the outputs of one group, as in TensorFlow and timm. torchvision counts the outputs
# of all groups, which starts depthwise kernels √c too small: beside BatchNorm's epsilon of 1e-3 such a signal is not made whole.
depthwise_init = variance_scaling(2.0, "fan_in", "normal")

# Table 2 of the paper: expansion t, features c, blocks n, stride s of the first.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def round_channels(channels: float) -> int:
    """Returns the multiple of eight nearest to `channels`, at least 8 and never below nine tenths of it.

    Halves go up. The rule of the MobileNet and EfficientNet papers' code: vector units like multiples of eight.

    Raises:
      ValueError: channels is not positive and finite.

    >>> [round_channels(c) for c in (1, 11.2, 12, 17.6, 24, 1792.1)]
    [8, 16, 16, 16, 24, 1792]
    """
    check_number("channels", channels, lambda v: 0 < v < math.inf, "positive and finite")
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def stem_stride(stem: str) -> int:
    """Returns the stride of the first convolution.

    Raises:
      ValueError: an unknown stem.

    >>> stem_stride("imagenet"), stem_stride("small")
    (2, 1)
    """
    strides = {"imagenet": 2, "small": 1}
    if stem not in tuple(strides):
        raise ValueError(f"stem={stem!r} must be one of {', '.join(strides)}")
    return strides[stem]


class InvertedResidual(nn.Module):
    """1×1 up by `expansion`, depthwise, 1×1 down without activation; x + f(x) where the shape stays.

    Attributes:
      expansion: how many times wider the depthwise convolution is than the input; 1 leaves the first 1×1 out.
      squeeze: hidden features of the squeeze-and-excitation after the depthwise convolution; 0 for none.
      drop_rate: of stochastic depth, on blocks with a shortcut.

    Raises:
      ValueError: an unknown activation, or a rate outside [0, 1].

    >>> from cnn_jax.features import feature_names
    >>> shapes = feature_names(InvertedResidual(features=24, stride=2, expansion=6, conv=Conv, norm=BatchNorm), (112, 112, 16))
    >>> shapes["expand_conv"], shapes["depthwise_conv"], shapes["project_conv"]
    ((112, 112, 96), (56, 56, 96), (56, 56, 24))
    """

    features: int
    stride: int
    expansion: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    window: int = 3
    activation: str = "relu6"
    squeeze: int = 0
    drop_rate: float = 0.0
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        activation = named_activation(self.activation)
        hidden = x.shape[-1] * self.expansion
        y = x
        if self.expansion != 1:
            y = self.conv(hidden, (1, 1), name="expand_conv")(y)
            y = activation(self.norm(name="expand_bn")(y, train))
        depthwise = partial(self.conv, groups=hidden, padding=self.window // 2, kernel_init=depthwise_init)
        y = depthwise(hidden, (self.window, self.window), stride=self.stride, name="depthwise_conv")(y)
        y = activation(self.norm(name="depthwise_bn")(y, train))
        if self.squeeze:
            y = SqueezeExcitation(self.squeeze, activation=self.activation, dtype=self.dtype, name="squeeze")(y)
        y = self.norm(name="project_bn")(self.conv(self.features, (1, 1), name="project_conv")(y), train)
        if self.stride != 1 or y.shape[-1] != x.shape[-1]:
            return y
        return x + StochasticDepth(self.drop_rate, axis_name=self.axis_name, name="stochastic_depth")(y, train)


class MobileNetV2(nn.Module):
    """MobileNetV2: [b, h, w, c] images -> [b, num_outputs] in float32. 3,504,872 parameters at 1000 classes and width 1.

    Attributes:
      num_outputs: classes, or the size of an embedding; 0 for the features.
      width: multiplies all features (the last 1×1 only when above 1), rounded to multiples of eight.
      stem: "imagenet" starts with stride 2 and ends at 1/32 of the resolution; "small" with stride 1, for images up to about 64².
      dropout: rate before the head.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: the device axis of BatchNorm and dropout, under pmap only.

    Raises:
      ValueError: a width that is not positive; an unknown stem.

    >>> from cnn_jax.features import feature_names
    >>> feature_names(MobileNetV2(num_outputs=1000), (224, 224, 3))["last_conv"]
    (7, 7, 1280)
    """

    num_outputs: int
    width: float = 1.0
    stem: Literal["imagenet", "small"] = "imagenet"
    dropout: float = 0.2
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        check_network(self, x)
        if not 0 < self.width < math.inf:
            raise ValueError(f"width={self.width} must be positive")
        conv = partial(Conv, use_bias=False, dtype=self.dtype)
        norm = partial(BatchNorm, axis_name=self.axis_name)
        x = jnp.asarray(x, self.dtype)
        x = conv(round_channels(32 * self.width), (3, 3), stride=stem_stride(self.stem), padding=1, name="stem_conv")(x)
        x = relu6(norm(name="stem_bn")(x, train))
        block = partial(InvertedResidual, conv=conv, norm=norm, dtype=self.dtype, axis_name=self.axis_name)
        for i, (expansion, features, num_blocks, stride) in enumerate(_STAGES):
            for j in range(num_blocks):
                name = f"stage{i + 1}_block{j + 1}"
                x = block(round_channels(features * self.width), stride if j == 0 else 1, expansion, name=name)(x, train)
        x = conv(round_channels(1280 * max(1.0, self.width)), (1, 1), name="last_conv")(x)
        x = global_average_pool(relu6(norm(name="last_bn")(x, train)))
        x = Dropout(self.dropout, axis_name=self.axis_name, name="dropout")(x, train)
        return Head(self.num_outputs, kernel_init=normal(0.01), dtype=self.dtype, name="head")(x)
