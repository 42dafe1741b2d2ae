"""Residual networks whose shortcuts are left alone: BatchNorm and rectifier before each convolution. Thin, deep ones and wide ones."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from cnn_jax.layers import BatchNorm, Conv, Dropout, Head, StochasticDepth
from cnn_jax.models.checks import check_network
from cnn_jax.models.pooling import Pooling, pool_to_vector
from cnn_jax.models.resnet import check_sizes, linear_drops
from cnn_jax.ops.pool import max_pool


class PreActivationBlock(nn.Module):
    """x + f(x), f being twice BatchNorm, rectifier, 3×3 convolution. Nothing stands on the way from x to the sum.

    Attributes:
      conv, norm: what makes the convolutions and BatchNorm.
      drop, dropout: of the whole branch for an example (stochastic depth), and of single values before the last convolution.
      shared: the first BatchNorm and rectifier stand before the split, as in a net's first block, where x is a bare
        convolution's output. So they do wherever the shape changes, that the 1×1 on the shortcut may see what the branch does.

    >>> from cnn_jax.features import feature_names
    >>> list(feature_names(PreActivationBlock(features=16, stride=1, conv=Conv, norm=BatchNorm), (8, 8, 16)))
    ['bn1', 'conv1', 'bn2', 'dropout', 'conv2', 'drop']
    """

    features: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    drop: Callable[..., nn.Module] = partial(StochasticDepth, 0.0)
    dropout: Callable[..., nn.Module] = partial(Dropout, 0.0)
    shared: bool = False

    @nn.compact
    def __call__(self, x, train: bool):
        shortcut, y = _split(self, x, train, self.features)
        y = self.conv(self.features, (3, 3), stride=self.stride, padding=1, name="conv1")(y)
        y = self.dropout(name="dropout")(nn.relu(self.norm(name="bn2")(y, train)), train)
        y = self.conv(self.features, (3, 3), padding=1, name="conv2")(y)
        return shortcut + self.drop(name="drop")(y, train)


class PreActivationBottleneck(nn.Module):
    """x + f(x), f being 1×1 down, 3×3 (which strides) and 1×1 up by four, each after BatchNorm and rectifier.

    Attributes: those of `PreActivationBlock`.

    >>> from cnn_jax.features import feature_names
    >>> shapes = feature_names(PreActivationBottleneck(features=16, stride=2, conv=Conv, norm=BatchNorm), (8, 8, 32))
    >>> [shapes[name] for name in ("conv1", "conv2", "conv3")]
    [(8, 8, 16), (4, 4, 16), (4, 4, 64)]
    """

    features: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    drop: Callable[..., nn.Module] = partial(StochasticDepth, 0.0)
    dropout: Callable[..., nn.Module] = partial(Dropout, 0.0)
    shared: bool = False

    @nn.compact
    def __call__(self, x, train: bool):
        shortcut, y = _split(self, x, train, self.features * 4)
        y = self.conv(self.features, (1, 1), name="conv1")(y)
        y = nn.relu(self.norm(name="bn2")(y, train))
        y = self.conv(self.features, (3, 3), stride=self.stride, padding=1, name="conv2")(y)
        y = self.dropout(name="dropout")(nn.relu(self.norm(name="bn3")(y, train)), train)
        y = self.conv(self.features * 4, (1, 1), name="conv3")(y)
        return shortcut + self.drop(name="drop")(y, train)


def _split(block: nn.Module, x, train: bool, features: int):
    """The shortcut, and the activation that the branch begins with."""
    y = nn.relu(block.norm(name="bn1")(x, train))
    if block.stride > 1 or x.shape[-1] != features:
        return block.conv(features, (1, 1), stride=block.stride, padding=0, name="shortcut_conv")(y), y
    return (y if block.shared else x), y


class PreActivationResNet(nn.Module):
    """A residual network of pre-activation blocks (He et al. 2016, "Identity mappings in deep residual networks"), in float32.

    The stem is a bare convolution (and a max pool); after the last block there is a last BatchNorm and rectifier.
    With `stem_width=16` and a multiple of 16 as `width` it is a wide residual network (Zagoruyko & Komodakis 2016).

    Attributes:
      num_outputs: classes, or the size of an embedding; 0 gives the features.
      stage_sizes: blocks in each stage; each stage after the first halves the resolution and doubles the width.
      block: `PreActivationBlock` or `PreActivationBottleneck`.
      stem: "imagenet", 7×7 with stride 2 and a 3×3 max pool with stride 2; "small", one 3×3 for images up to about 64².
      width: features of the first stage (a bottleneck's output has four times as many).
      stem_width: features of the stem; none makes it `width`.
      dropout: rate before each block's last convolution.
      stochastic_depth: probability with which training drops the last block's branch for an example; falls linearly to
        the first block's, block l of L having l/L of it (Huang et al. 2016, "Deep networks with stochastic depth").
      pooling: see `pooling.pool_to_vector`: how the last features become what the head reads.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: the device axis of BatchNorm, under pmap only.

    Raises:
      ValueError: a width or a number of blocks below one, a rate outside [0, 1), an unknown stem or pooling.

    >>> from cnn_jax.features import feature_names
    >>> model = PreActivationResNet(num_outputs=10, stage_sizes=(1, 1), block=PreActivationBlock, stem="small", width=16)
    >>> feature_names(model, (32, 32, 3))["stage2_block1"]
    (16, 16, 32)
    """

    num_outputs: int
    stage_sizes: tuple[int, ...]
    block: Callable[..., nn.Module]
    stem: Literal["imagenet", "small"] = "imagenet"
    width: int = 64
    stem_width: int | None = None
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    pooling: Pooling = "average"
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        check_network(self, x)
        stem_width = self.width if self.stem_width is None else self.stem_width
        check_sizes(self.width, self.stage_sizes)
        if stem_width < 1:
            raise ValueError(f"stem_width={stem_width} must be at least 1")
        conv = partial(Conv, use_bias=False, dtype=self.dtype)
        norm = partial(BatchNorm, axis_name=self.axis_name)
        block = partial(self.block, conv=conv, norm=norm, dropout=partial(Dropout, self.dropout, axis_name=self.axis_name))
        drops = linear_drops(self.stochastic_depth, sum(self.stage_sizes), self.axis_name)
        if self.stem not in ("imagenet", "small"):
            raise ValueError(f"stem={self.stem!r} must be 'imagenet' or 'small'")
        window, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = conv(stem_width, (window, window), stride=stride, padding=window // 2, name="stem_conv")(jnp.asarray(x, self.dtype))
        if self.stem == "imagenet":
            x = max_pool(x, 3, stride=2, padding=1)
        for i, num_blocks in enumerate(self.stage_sizes):
            for j in range(num_blocks):
                stride = 2 if i > 0 and j == 0 else 1
                place = {"shared": i == j == 0, "drop": next(drops), "name": f"stage{i + 1}_block{j + 1}"}
                x = block(self.width * 2**i, stride, **place)(x, train)
        x = nn.relu(norm(name="last_bn")(x, train))
        return Head(self.num_outputs, dtype=self.dtype, name="head")(pool_to_vector(self.pooling, x))


preresnet18 = partial(PreActivationResNet, stage_sizes=(2, 2, 2, 2), block=PreActivationBlock)  # pre-activation ResNet-18
preresnet34 = partial(PreActivationResNet, stage_sizes=(3, 4, 6, 3), block=PreActivationBlock)  # pre-activation ResNet-34
preresnet50 = partial(PreActivationResNet, stage_sizes=(3, 4, 6, 3), block=PreActivationBottleneck)  # pre-activation ResNet-50
preresnet101 = partial(PreActivationResNet, stage_sizes=(3, 4, 23, 3), block=PreActivationBottleneck)  # pre-activation ResNet-101
preresnet152 = partial(PreActivationResNet, stage_sizes=(3, 8, 36, 3), block=PreActivationBottleneck)  # pre-activation ResNet-152
preresnet200 = partial(PreActivationResNet, stage_sizes=(3, 24, 36, 3), block=PreActivationBottleneck)  # pre-activation ResNet-200

# For CIFAR: 6n + 2 layers of 3×3, or 9n + 2 in bottlenecks.
_thin = partial(PreActivationResNet, stem="small", width=16)
preresnet20 = partial(_thin, stage_sizes=(3, 3, 3), block=PreActivationBlock)  # thin pre-activation ResNet-20, for CIFAR
preresnet56 = partial(_thin, stage_sizes=(9, 9, 9), block=PreActivationBlock)  # thin pre-activation ResNet-56, for CIFAR
preresnet110 = partial(_thin, stage_sizes=(18, 18, 18), block=PreActivationBlock)  # thin pre-activation ResNet-110, for CIFAR
preresnet164 = partial(_thin, stage_sizes=(18, 18, 18), block=PreActivationBottleneck)  # thin pre-activation ResNet-164, for CIFAR

# WRN-d-k for CIFAR: d = 6n + 4 layers, k times as wide.
_wide = partial(PreActivationResNet, block=PreActivationBlock, stem="small", stem_width=16)
wrn_16_4 = partial(_wide, stage_sizes=(2, 2, 2), width=64)  # WRN-16-4 for CIFAR: 16 layers, 4 times as wide
wrn_16_8 = partial(_wide, stage_sizes=(2, 2, 2), width=128)  # WRN-16-8 for CIFAR: 16 layers, 8 times as wide
wrn_28_10 = partial(_wide, stage_sizes=(4, 4, 4), width=160)  # WRN-28-10 for CIFAR: 28 layers, 10 times as wide
wrn_40_2 = partial(_wide, stage_sizes=(6, 6, 6), width=32)  # WRN-40-2 for CIFAR: 40 layers, 2 times as wide
wrn_40_4 = partial(_wide, stage_sizes=(6, 6, 6), width=64)  # WRN-40-4 for CIFAR: 40 layers, 4 times as wide
