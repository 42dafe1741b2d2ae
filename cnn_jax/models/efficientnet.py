"""EfficientNet-B0 to B7 (Tan & Le 2019, "Rethinking model scaling for convolutional neural networks") with torchvision's layout."""

import math
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling

from cnn_jax.layers import BatchNorm, Conv, Dropout, Head
from cnn_jax.models.checks import check_network
from cnn_jax.models.mobilenet import InvertedResidual, round_channels, stem_stride
from cnn_jax.ops.activations import silu
from cnn_jax.ops.pool import global_average_pool

# Table 1 of the paper, B0: expansion, window, stride of the first block, features, blocks.
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)

# Uniform in ±1/√num_outputs, as in the authors' code.
_head_init = variance_scaling(1 / 3, "fan_out", "uniform")


class EfficientNet(nn.Module):
    """An EfficientNet: [b, h, w, c] images -> [b, num_outputs] in float32.

    Attributes:
      num_outputs: classes, or the size of an embedding; 0 for the features.
      width: multiplies B0's features, rounded to multiples of eight.
      depth: multiplies B0's blocks, rounded up in each stage.
      stem: "imagenet" starts with stride 2 and ends at 1/32 of the resolution; "small" with stride 1, for images up to about 64².
      dropout: rate before the head.
      stochastic_depth: rate that the residual blocks' rates grow to, linearly from 0 at the first block.
      bn_momentum: the fraction that BatchNorm's statistics keep at an update.
      bn_epsilon: added to BatchNorm's variance.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: the device axis of BatchNorm, dropout and stochastic depth, under pmap only.

    Raises:
      ValueError: a width or a depth that is not positive; an unknown stem.

    >>> from cnn_jax.features import feature_names
    >>> feature_names(EfficientNet(num_outputs=1000, depth=0.1), (224, 224, 3))["stage7_block1"]
    (7, 7, 320)
    """

    num_outputs: int
    width: float = 1.0
    depth: float = 1.0
    stem: Literal["imagenet", "small"] = "imagenet"
    dropout: float = 0.2
    stochastic_depth: float = 0.2
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        check_network(self, x)
        if not (0 < self.width < math.inf and 0 < self.depth < math.inf):
            raise ValueError(f"width={self.width} and depth={self.depth} must be positive")
        conv = partial(Conv, use_bias=False, dtype=self.dtype)
        norm = partial(BatchNorm, momentum=self.bn_momentum, epsilon=self.bn_epsilon, axis_name=self.axis_name)
        x = jnp.asarray(x, self.dtype)
        x = conv(round_channels(32 * self.width), (3, 3), stride=stem_stride(self.stem), padding=1, name="stem_conv")(x)
        x = silu(norm(name="stem_bn")(x, train))
        block = partial(InvertedResidual, activation="silu", conv=conv, norm=norm, dtype=self.dtype, axis_name=self.axis_name)
        sizes = [math.ceil(num_blocks * self.depth) for *_, num_blocks in _STAGES]
        num_before = 0
        for i, (expansion, window, stride, features, _) in enumerate(_STAGES):
            for j in range(sizes[i]):
                x = block(
                    round_channels(features * self.width),
                    stride if j == 0 else 1,
                    expansion,
                    window=window,
                    squeeze=max(1, x.shape[-1] // 4),
                    drop_rate=self.stochastic_depth * num_before / sum(sizes),
                    name=f"stage{i + 1}_block{j + 1}",
                )(x, train)
                num_before += 1
        x = conv(4 * x.shape[-1], (1, 1), name="last_conv")(x)
        x = global_average_pool(silu(norm(name="last_bn")(x, train)))
        x = Dropout(self.dropout, axis_name=self.axis_name, name="dropout")(x, train)
        return Head(self.num_outputs, kernel_init=_head_init, dtype=self.dtype, name="head")(x)


# The authors' width, depth and dropout for the resolutions 224, 240, 260, 300, 380, 456, 528, 600 (torchvision gives its second B1 240,
# its B2 288). BatchNorm from B5 on as in the authors' code; torchvision's smaller ones keep torch's defaults.
_large = partial(EfficientNet, bn_momentum=0.99, bn_epsilon=1e-3)
efficientnet_b0 = partial(EfficientNet, width=1.0, depth=1.0, dropout=0.2)  # EfficientNet-B0, for images of 224²
efficientnet_b1 = partial(EfficientNet, width=1.0, depth=1.1, dropout=0.2)  # EfficientNet-B1, for images of 240²
efficientnet_b2 = partial(EfficientNet, width=1.1, depth=1.2, dropout=0.3)  # EfficientNet-B2, for images of 260²
efficientnet_b3 = partial(EfficientNet, width=1.2, depth=1.4, dropout=0.3)  # EfficientNet-B3, for images of 300²
efficientnet_b4 = partial(EfficientNet, width=1.4, depth=1.8, dropout=0.4)  # EfficientNet-B4, for images of 380²
efficientnet_b5 = partial(_large, width=1.6, depth=2.2, dropout=0.4)  # EfficientNet-B5, for images of 456²
efficientnet_b6 = partial(_large, width=1.8, depth=2.6, dropout=0.5)  # EfficientNet-B6, for images of 528²
efficientnet_b7 = partial(_large, width=2.0, depth=3.1, dropout=0.5)  # EfficientNet-B7, for images of 600²
