"""Densely connected networks (Huang et al. 2017, "Densely connected convolutional networks"), the BC kind, with torchvision's layout."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling

from cnn_jax.layers import BatchNorm, Conv, Dropout, Head
from cnn_jax.models.checks import check_network
from cnn_jax.ops.pool import average_pool, global_average_pool, max_pool

# He et al. 2015, counted over inputs, as in the authors' code.
_he_normal_fan_in = variance_scaling(2.0, "fan_in", "normal")


class DenseLayer(nn.Module):
    """`growth` new channels, put after those that came in: concatenate(x, f(x)), f being BN-ReLU-1×1-BN-ReLU-3×3.

    Attributes:
      growth: channels that are added.
      bottleneck: the 1×1 has bottleneck·growth features.
      conv, norm, dropout: what makes the layers.

    >>> from cnn_jax.features import feature_names
    >>> layer = DenseLayer(growth=12, bottleneck=4, conv=Conv, norm=BatchNorm, dropout=Dropout)
    >>> shapes = feature_names(layer, (8, 8, 24))  # which gives 24 + 12 channels
    >>> shapes["conv1"], shapes["conv2"]
    ((8, 8, 48), (8, 8, 12))
    """

    growth: int
    bottleneck: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    dropout: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x, train: bool):
        y = nn.relu(self.norm(name="bn1")(x, train))
        y = self.conv(self.bottleneck * self.growth, (1, 1), name="conv1")(y)
        y = nn.relu(self.norm(name="bn2")(y, train))
        y = self.conv(self.growth, (3, 3), padding=1, name="conv2")(y)
        return jnp.concatenate([x, self.dropout(name="dropout")(y, train)], axis=-1)


class Transition(nn.Module):
    """BN-ReLU-1×1 to `features` channels, then the mean of each 2×2 window.

    Attributes:
      features: channels that come out.
      conv, norm: what makes the layers.

    Raises:
      ValueError: no 2×2 window fits into the images.

    >>> from cnn_jax.features import feature_names
    >>> feature_names(Transition(features=12, conv=Conv, norm=BatchNorm), (8, 8, 24))["conv"]  # before the mean
    (8, 8, 12)
    """

    features: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.relu(self.norm(name="bn")(x, train))
        return average_pool(self.conv(self.features, (1, 1), name="conv")(x), 2)


class DenseNet(nn.Module):
    """A DenseNet-BC: [b, h, w, c] images -> [b, num_outputs] in float32.

    Attributes:
      num_outputs: classes, or the size of an embedding; 0 for the features.
      block_sizes: layers in each dense block; between two blocks the resolution and the channels are halved.
      growth: channels that each layer adds, k in the paper.
      width: features of the stem; the paper takes 2·growth.
      bottleneck: the 1×1 of a layer has bottleneck·growth features.
      stem: "imagenet", 7×7 with stride 2, BN, ReLU and a 3×3 max pool with stride 2; "small", one 3×3 for images up to about 64².
      dropout: rate after each layer (the paper's 0.2 without augmentation).
      recompute: a layer's insides are computed again for the gradient instead of being kept (Pleiss et al. 2017): memory grows
        linearly with depth, at about a fifth more time. The result is the same.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: the device axis of BatchNorm and dropout, under pmap only.

    Raises:
      ValueError: a number of layers, growth, width or bottleneck below one; an unknown stem; images too small to be halved so often.

    >>> from cnn_jax.features import feature_names
    >>> shapes = feature_names(DenseNet(num_outputs=10, block_sizes=(2, 2), growth=12, width=24, stem="small"), (32, 32, 3))
    >>> shapes["block1_layer2"], shapes["transition1"], shapes["block2_layer2"]
    ((32, 32, 48), (16, 16, 24), (16, 16, 48))
    """

    num_outputs: int
    block_sizes: tuple[int, ...]
    growth: int = 32
    width: int = 64
    bottleneck: int = 4
    stem: Literal["imagenet", "small"] = "imagenet"
    dropout: float = 0.0
    recompute: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        check_network(self, x)
        self._check(x.shape)
        conv = partial(Conv, use_bias=False, kernel_init=_he_normal_fan_in, dtype=self.dtype)
        norm = partial(BatchNorm, axis_name=self.axis_name)
        x = jnp.asarray(x, self.dtype)
        if self.stem == "imagenet":
            x = conv(self.width, (7, 7), stride=2, padding=3, name="stem_conv")(x)
            x = max_pool(nn.relu(norm(name="stem_bn")(x, train)), 3, stride=2, padding=1)
        else:
            x = conv(self.width, (3, 3), padding=1, name="stem_conv")(x)
        layer = nn.remat(DenseLayer, static_argnums=(2,)) if self.recompute and train else DenseLayer
        dropout = partial(Dropout, self.dropout, axis_name=self.axis_name)
        for i, num_layers in enumerate(self.block_sizes):
            if i > 0:
                x = Transition(x.shape[-1] // 2, conv, norm, name=f"transition{i}")(x, train)
            for j in range(num_layers):
                x = layer(self.growth, self.bottleneck, conv, norm, dropout, name=f"block{i + 1}_layer{j + 1}")(x, train)
        x = global_average_pool(nn.relu(norm(name="last_bn")(x, train)))
        return Head(self.num_outputs, dtype=self.dtype, name="head")(x)

    def _check(self, shape: tuple[int, ...]) -> None:
        if min(self.growth, self.width, self.bottleneck, *self.block_sizes, len(self.block_sizes)) < 1:
            raise ValueError(
                f"growth={self.growth}, width={self.width}, bottleneck={self.bottleneck} and each of "
                f"block_sizes={self.block_sizes} must be at least 1"
            )
        if self.stem not in ("imagenet", "small"):
            raise ValueError(f"stem={self.stem!r} must be one of imagenet, small")
        least = 2 ** (len(self.block_sizes) - 1)
        if self.stem == "imagenet":
            least = max(1, 4 * least - 3)  # both strided layers of the stem round up
        if min(shape[1:-1]) < least:
            raise ValueError(f"images of {shape[1]}×{shape[2]} are too small for this DenseNet: each side must be at least {least}")


densenet121 = partial(DenseNet, block_sizes=(6, 12, 24, 16))  # DenseNet with 121 layers
densenet161 = partial(DenseNet, block_sizes=(6, 12, 36, 24), growth=48, width=96)  # DenseNet with 161 layers, 48 new features a layer
densenet169 = partial(DenseNet, block_sizes=(6, 12, 32, 32))  # DenseNet with 169 layers
densenet201 = partial(DenseNet, block_sizes=(6, 12, 48, 32))  # DenseNet with 201 layers

# DenseNet-BC with L = 100, k = 12 of the paper's table 2, for CIFAR: 6·16 layers of two convolutions, and four more.
densenet100 = partial(DenseNet, block_sizes=(16, 16, 16), growth=12, width=24, stem="small")
