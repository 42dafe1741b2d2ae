"""Residual networks (He et al. 2015, "Deep residual learning for image recognition") with torchvision's layout."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import ones, zeros

from cnn_jax.layers import BatchNorm, Conv, Head
from cnn_jax.ops.pool import global_average_pool, max_pool


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut: relu(x + f(x))."""

    features: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    last_scale_init: nn.initializers.Initializer = ones
    expansion = 1

    @nn.compact
    def __call__(self, x, train: bool):
        y = self.conv(self.features, (3, 3), stride=self.stride, padding=1, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y, train))
        y = self.conv(self.features, (3, 3), padding=1, name="conv2")(y)
        y = self.norm(scale_init=self.last_scale_init, name="bn2")(y, train)
        return nn.relu(_shortcut(self, x, y.shape[-1], train) + y)


class Bottleneck(nn.Module):
    """1×1 down, 3×3 (which strides, as in torchvision), 1×1 up by four, around a shortcut."""

    features: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    last_scale_init: nn.initializers.Initializer = ones
    expansion = 4

    @nn.compact
    def __call__(self, x, train: bool):
        y = nn.relu(self.norm(name="bn1")(self.conv(self.features, (1, 1), name="conv1")(x), train))
        y = self.conv(self.features, (3, 3), stride=self.stride, padding=1, name="conv2")(y)
        y = nn.relu(self.norm(name="bn2")(y, train))
        y = self.conv(self.features * self.expansion, (1, 1), name="conv3")(y)
        y = self.norm(scale_init=self.last_scale_init, name="bn3")(y, train)
        return nn.relu(_shortcut(self, x, y.shape[-1], train) + y)


def _shortcut(block: nn.Module, x, features: int, train: bool):
    """The identity; a strided 1×1 convolution with BatchNorm where the shape changes (option B of the paper)."""
    if block.stride == 1 and x.shape[-1] == features:
        return x
    x = block.conv(features, (1, 1), stride=block.stride, padding=0, name="shortcut_conv")(x)
    return block.norm(name="shortcut_bn")(x, train)


class ResNet(nn.Module):
    """A residual network: [b, h, w, c] images -> [b, num_outputs] in float32.

    Attributes:
      num_outputs: classes, or the size of an embedding.
      stage_sizes: blocks in each stage; each stage after the first halves the resolution and doubles the width.
      block: `BasicBlock` or `Bottleneck`.
      stem: "imagenet", 7×7 with stride 2 and a 3×3 max pool with stride 2; "small", one 3×3 for images up to about 64².
      width: features of the first stage (a bottleneck's output has four times as many).
      zero_init_residual: each block starts as the identity (Goyal et al. 2017), its last BatchNorm scale being zero.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: the device axis of BatchNorm, under pmap only.

    Raises:
      ValueError: a width or a number of blocks below one.
    """

    num_outputs: int
    stage_sizes: tuple[int, ...]
    block: Callable[..., nn.Module]
    stem: Literal["imagenet", "small"] = "imagenet"
    width: int = 64
    zero_init_residual: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        if min(self.width, *self.stage_sizes, len(self.stage_sizes)) < 1:
            raise ValueError(f"width={self.width} and each of stage_sizes={self.stage_sizes} must be at least 1")
        conv = partial(Conv, use_bias=False, dtype=self.dtype)
        norm = partial(BatchNorm, axis_name=self.axis_name)
        last_scale_init = zeros if self.zero_init_residual else ones
        x = jnp.asarray(x, self.dtype)
        if self.stem == "imagenet":
            x = conv(self.width, (7, 7), stride=2, padding=3, name="stem_conv")(x)
            x = max_pool(nn.relu(norm(name="stem_bn")(x, train)), 3, stride=2, padding=1)
        else:
            x = conv(self.width, (3, 3), padding=1, name="stem_conv")(x)
            x = nn.relu(norm(name="stem_bn")(x, train))
        for i, num_blocks in enumerate(self.stage_sizes):
            for j in range(num_blocks):
                stride = 2 if i > 0 and j == 0 else 1
                block = partial(self.block, conv=conv, norm=norm, last_scale_init=last_scale_init)
                x = block(self.width * 2**i, stride, name=f"stage{i + 1}_block{j + 1}")(x, train)
        x = global_average_pool(x)
        return Head(self.num_outputs, dtype=self.dtype, name="head")(x)


resnet18 = partial(ResNet, stage_sizes=(2, 2, 2, 2), block=BasicBlock)
resnet34 = partial(ResNet, stage_sizes=(3, 4, 6, 3), block=BasicBlock)
resnet50 = partial(ResNet, stage_sizes=(3, 4, 6, 3), block=Bottleneck)
resnet101 = partial(ResNet, stage_sizes=(3, 4, 23, 3), block=Bottleneck)
resnet152 = partial(ResNet, stage_sizes=(3, 8, 36, 3), block=Bottleneck)

# The thin three-stage nets of section 4.2 (6n + 2 layers): for images of 8² to 32² and little data.
resnet8 = partial(ResNet, stage_sizes=(1, 1, 1), block=BasicBlock, stem="small", width=16)
resnet20 = partial(ResNet, stage_sizes=(3, 3, 3), block=BasicBlock, stem="small", width=16)
resnet56 = partial(ResNet, stage_sizes=(9, 9, 9), block=BasicBlock, stem="small", width=16)
