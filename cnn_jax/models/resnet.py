"""Residual networks (He et al. 2015, "Deep residual learning for image recognition") with torchvision's layout, and their variants."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import ones, zeros

from cnn_jax.layers import BatchNorm, Conv, Head, SqueezeExcitation, StochasticDepth
from cnn_jax.models.checks import check_network
from cnn_jax.models.pooling import Pooling, pool_to_vector
from cnn_jax.models.stems import Stem, begin, blur
from cnn_jax.ops.pool import average_pool


def projection(block: nn.Module, x: jax.Array, features: int, train: bool, *, pool: Callable[..., jax.Array] | None = None) -> jax.Array:
    """Returns the shortcut: the identity; where the shape changes, a 1×1 convolution with BatchNorm (option B of the paper).

    The convolution takes the block's stride, or `pool` takes it before the convolution.

    Args:
      block: whose `stride`, `conv` and `norm` are used; to be called within it, whose layers `shortcut_*` it makes.
      x: what enters the block, [b, h, w, c].
      features: channels that leave it.
      train: whether BatchNorm uses the batch's statistics.
      pool: (x, stride=) -> x.

    >>> x = jnp.ones((1, 4, 4, 16))
    >>> projection(BasicBlock(features=16, stride=1, conv=Conv, norm=BatchNorm), x, 16, train=False) is x
    True
    """
    if block.stride == 1 and x.shape[-1] == features:
        return x
    stride = block.stride
    if pool is not None and stride > 1:
        x, stride = pool(x, stride=stride), 1
    x = block.conv(features, (1, 1), stride=stride, padding=0, name="shortcut_conv")(x)
    return block.norm(name="shortcut_bn")(x, train)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut: relu(x + f(x)).

    Attributes:
      conv, norm, drop: what makes the convolutions, their BatchNorm, and the drop of the branch (stochastic depth).
      last_scale_init: of the branch's last BatchNorm.
      shortcut: (block, x, features, train) -> what is added to the branch.
      recalibrate: applied to the branch before the sum, as in squeeze-and-excitation.
      subsample: takes the stride after convolution and rectifier, (x, stride=) -> x; None lets the convolution stride.

    >>> from cnn_jax.features import feature_names
    >>> list(feature_names(BasicBlock(features=16, stride=2, conv=Conv, norm=BatchNorm), (8, 8, 16)))
    ['conv1', 'bn1', 'conv2', 'bn2', 'drop', 'shortcut_conv', 'shortcut_bn']
    """

    features: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    drop: Callable[..., nn.Module] = partial(StochasticDepth, 0.0)
    last_scale_init: nn.initializers.Initializer = ones
    shortcut: Callable[..., jax.Array] = projection
    recalibrate: Callable[[jax.Array], jax.Array] | None = None
    subsample: Callable[..., jax.Array] | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        y = _unit(self, x, train, 1, self.features, (3, 3), stride=self.stride)
        return _joined(self, x, y, train, 2, self.features, (3, 3))


class Bottleneck(nn.Module):
    """1×1 down, 3×3, 1×1 up to four times the features, around a shortcut.

    Attributes:
      stride_in: which convolution strides: the 3×3, as in torchvision, or the first 1×1, as in the paper.
      groups, group_width: the 3×3 has `groups` groups (ResNeXt) of features · group_width / 64 features each.
      others: as in `BasicBlock`.

    Raises:
      ValueError: the 3×3 would have no features.

    >>> from cnn_jax.features import feature_names
    >>> shapes = feature_names(Bottleneck(features=16, stride=2, conv=Conv, norm=BatchNorm), (8, 8, 32))
    >>> [shapes[name] for name in ("conv1", "conv2", "conv3")]
    [(8, 8, 16), (4, 4, 16), (4, 4, 64)]
    """

    features: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    drop: Callable[..., nn.Module] = partial(StochasticDepth, 0.0)
    last_scale_init: nn.initializers.Initializer = ones
    shortcut: Callable[..., jax.Array] = projection
    recalibrate: Callable[[jax.Array], jax.Array] | None = None
    subsample: Callable[..., jax.Array] | None = None
    stride_in: Literal["3x3", "1x1"] = "3x3"
    groups: int = 1
    group_width: int = 64

    @nn.compact
    def __call__(self, x, train: bool):
        inner = self.features * self.group_width // 64 * self.groups
        if inner < 1:
            raise ValueError(f"width={self.features} leaves groups without features: it must be at least {-(-64 // self.group_width)}")
        first, second = (self.stride, 1) if self.stride_in == "1x1" else (1, self.stride)
        y = _unit(self, x, train, 1, inner, (1, 1), stride=first)
        y = _unit(self, y, train, 2, inner, (3, 3), stride=second, groups=self.groups)
        return _joined(self, x, y, train, 3, self.features * 4, (1, 1))


def _unit(block: nn.Module, x, train: bool, number: int, features: int, window: tuple[int, int], *, stride: int = 1, groups: int = 1):
    """Convolution, BatchNorm, rectifier, and the stride where the block takes it apart from the convolution."""
    apart = block.subsample is not None and stride > 1
    options = {"stride": 1 if apart else stride, "padding": window[0] // 2, "groups": groups}
    x = block.conv(features, window, **options, name=f"conv{number}")(x)
    x = nn.relu(block.norm(name=f"bn{number}")(x, train))
    return block.subsample(x, stride=stride) if apart else x


def _joined(block: nn.Module, x, y, train: bool, number: int, features: int, window: tuple[int, int]):
    """The last convolution and BatchNorm of branch y, and its sum with the shortcut of x."""
    y = block.conv(features, window, padding=window[0] // 2, name=f"conv{number}")(y)
    y = block.norm(scale_init=block.last_scale_init, name=f"bn{number}")(y, train)
    if block.recalibrate is not None:
        y = block.recalibrate(y)
    y = block.drop(name="drop")(y, train)
    return nn.relu(block.shortcut(block, x, features, train) + y)


class ResNet(nn.Module):
    """A residual network: [b, h, w, c] images -> [b, num_outputs] in float32.

    Attributes:
      num_outputs: classes, or the size of an embedding; 0 gives the features.
      stage_sizes: blocks in each stage; each stage after the first halves the resolution and doubles the width.
      block: `BasicBlock` or `Bottleneck`, or a partial of them: what makes a variant.
      stem: see `stems.begin`.
      width: features of the first stage (a bottleneck's output has four times as many).
      stride_in: with bottlenecks, the convolution that strides: the 3×3, as in torchvision, or the first 1×1, as published.
      zero_init_residual: each block starts as the identity (Goyal et al. 2017), its last BatchNorm scale being zero.
      stochastic_depth: probability with which training drops the last block's branch for an example; falls linearly to
        the first block's, block l of L having l/L of it (Huang et al. 2016, "Deep networks with stochastic depth").
      pooling: see `pooling.pool_to_vector`: how the last features become what the head reads.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: the device axis of BatchNorm, under pmap only.

    Raises:
      ValueError: a width or a number of blocks below one, a probability outside [0, 1), an unknown stem or pooling, a stride in a 1×1
        that is not there.

    >>> from cnn_jax.features import feature_names
    >>> feature_names(ResNet(num_outputs=10, stage_sizes=(1, 1), block=BasicBlock, stem="small", width=16), (32, 32, 3))["stage2_block1"]
    (16, 16, 32)
    """

    num_outputs: int
    stage_sizes: tuple[int, ...]
    block: Callable[..., nn.Module]
    stem: Stem = "imagenet"
    width: int = 64
    stride_in: Literal["3x3", "1x1"] = "3x3"
    zero_init_residual: bool = False
    stochastic_depth: float = 0.0
    pooling: Pooling = "average"
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        check_network(self, x)
        check_sizes(self.width, self.stage_sizes)
        conv = partial(Conv, use_bias=False, dtype=self.dtype)
        norm = partial(BatchNorm, axis_name=self.axis_name)
        block = partial(self.block, conv=conv, norm=norm, last_scale_init=zeros if self.zero_init_residual else ones)
        if self.stride_in != "3x3":
            if "stride_in" not in inspect.signature(self.block).parameters or self.stride_in != "1x1":
                raise ValueError(f"stride_in={self.stride_in!r} must be '3x3', or '1x1' in a net of bottlenecks: others have no 1×1")
            block = partial(block, stride_in=self.stride_in)
        drops = linear_drops(self.stochastic_depth, sum(self.stage_sizes), self.axis_name)
        x = begin(self.stem, jnp.asarray(x, self.dtype), train, width=self.width, conv=conv, norm=norm)
        for i, num_blocks in enumerate(self.stage_sizes):
            for j in range(num_blocks):
                stride = 2 if i > 0 and j == 0 else 1
                x = block(self.width * 2**i, stride, drop=next(drops), name=f"stage{i + 1}_block{j + 1}")(x, train)
        return Head(self.num_outputs, dtype=self.dtype, name="head")(pool_to_vector(self.pooling, x))


def check_sizes(width: int, stage_sizes: tuple[int, ...]) -> None:
    """Raises ValueError unless there are stages, and width and blocks in each.

    >>> check_sizes(16, (2, 0))
    Traceback (most recent call last):
    ValueError: width=16 and each of stage_sizes=(2, 0) must be at least 1
    """
    if min(width, *stage_sizes, len(stage_sizes)) < 1:
        raise ValueError(f"width={width} and each of stage_sizes={stage_sizes} must be at least 1")


def linear_drops(rate: float, num_blocks: int, axis_name: str | None):
    """Returns an iterator over what makes each block's `drop`: stochastic depth whose rate rises linearly to `rate`.

    Args:
      rate: of the last block, the first of n having 1/n of it.
      num_blocks: blocks of the whole net.
      axis_name: the device axis, under pmap only.

    Raises:
      ValueError: the rate is not at least 0 and below 1; the net calls it `stochastic_depth`.

    Reference: Huang et al., "Deep networks with stochastic depth", 2016, section 3.

    >>> [drop().rate for drop in linear_drops(0.5, 2, None)]
    [0.25, 0.5]
    """
    if not 0 <= rate < 1:
        raise ValueError(f"stochastic_depth={rate} must be at least 0 and below 1")
    return (partial(StochasticDepth, rate * (i + 1) / num_blocks, axis_name=axis_name) for i in range(num_blocks))


def squeeze_excitation(x: jax.Array) -> jax.Array:
    """Returns x with its channels weighed by their global means through a sixteenth as many units. Makes the layer `se`.

    Reference: Hu et al., "Squeeze-and-excitation networks", 2018.

    >>> from cnn_jax.features import feature_names
    >>> feature_names(seresnet18(num_outputs=10), (64, 64, 3))["stage1_block1/se/reduce"]
    (1, 1, 4)
    """
    return SqueezeExcitation(max(x.shape[-1] // 16, 1), dtype=x.dtype, name="se")(x)


resnet18 = partial(ResNet, stage_sizes=(2, 2, 2, 2), block=BasicBlock)  # ResNet with 18 layers
resnet34 = partial(ResNet, stage_sizes=(3, 4, 6, 3), block=BasicBlock)  # ResNet with 34 layers
resnet50 = partial(ResNet, stage_sizes=(3, 4, 6, 3), block=Bottleneck)  # ResNet with 50 layers, in bottlenecks
resnet101 = partial(ResNet, stage_sizes=(3, 4, 23, 3), block=Bottleneck)  # ResNet with 101 layers, in bottlenecks
resnet152 = partial(ResNet, stage_sizes=(3, 8, 36, 3), block=Bottleneck)  # ResNet with 152 layers, in bottlenecks

# The thin three-stage nets of section 4.2 (6n + 2 layers): for images of 8² to 32² and little data.
resnet8 = partial(ResNet, stage_sizes=(1, 1, 1), block=BasicBlock, stem="small", width=16)  # thin ResNet-8, for small images
resnet20 = partial(ResNet, stage_sizes=(3, 3, 3), block=BasicBlock, stem="small", width=16)  # thin ResNet-20, for small images
resnet56 = partial(ResNet, stage_sizes=(9, 9, 9), block=BasicBlock, stem="small", width=16)  # thin ResNet-56, for small images
resnet110 = partial(ResNet, stage_sizes=(18, 18, 18), block=BasicBlock, stem="small", width=16)  # thin ResNet-110, for small images

# Xie et al. 2017, "Aggregated residual transformations for deep neural networks": many narrow groups.
resnext50_32x4d = partial(resnet50, block=partial(Bottleneck, groups=32, group_width=4))  # ResNeXt-50, 32 groups of 4 features
resnext101_32x8d = partial(resnet101, block=partial(Bottleneck, groups=32, group_width=8))  # ResNeXt-101, 32 groups of 8 features
resnext101_64x4d = partial(resnet101, block=partial(Bottleneck, groups=64, group_width=4))  # ResNeXt-101, 64 groups of 4 features

# Zagoruyko & Komodakis 2016, "Wide residual networks", section 3.4: twice the features in the 3×3.
wide_resnet50_2 = partial(resnet50, block=partial(Bottleneck, group_width=128))  # ResNet-50, its 3×3 layers twice as wide
wide_resnet101_2 = partial(resnet101, block=partial(Bottleneck, group_width=128))  # ResNet-101, its 3×3 layers twice as wide

# Hu et al. 2018, "Squeeze-and-excitation networks".
seresnet18 = partial(resnet18, block=partial(BasicBlock, recalibrate=squeeze_excitation))  # ResNet-18 with squeeze-and-excitation
seresnet50 = partial(resnet50, block=partial(Bottleneck, recalibrate=squeeze_excitation))  # ResNet-50 with squeeze-and-excitation

# He et al. 2018, "Bag of tricks for image classification with convolutional neural networks", net D.
_averaged = partial(projection, pool=partial(average_pool, window=2, ceil_mode=True))
resnet50d = partial(resnet50, stem="deep", block=partial(Bottleneck, shortcut=_averaged))  # ResNet-50-D: deep stem, averaging shortcuts
resnet101d = partial(resnet101, stem="deep", block=partial(Bottleneck, shortcut=_averaged))  # ResNet-101-D: deep stem, averaging shortcuts

# Zhang 2019, "Making convolutional networks shift-invariant again": every stride but the first is a blur's.
_antialiased = {"subsample": blur, "shortcut": partial(projection, pool=blur)}
resnet18_antialiased = partial(resnet18, stem="antialiased", block=partial(BasicBlock, **_antialiased))  # ResNet-18 without aliasing
resnet50_antialiased = partial(resnet50, stem="antialiased", block=partial(Bottleneck, **_antialiased))  # ResNet-50 without aliasing
