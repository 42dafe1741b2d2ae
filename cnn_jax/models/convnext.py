"""ConvNeXt (Liu et al. 2022, "A ConvNet for the 2020s"): a residual net made over in the image of a transformer; torchvision's layout."""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import constant, normal

from cnn_jax.layers import Conv, Head, LayerNorm, StochasticDepth
from cnn_jax.models.checks import check_network
from cnn_jax.ops.activations import gelu
from cnn_jax.ops.arguments import check_number
from cnn_jax.ops.pool import global_average_pool

# The authors' "truncated normal, 0.02" cuts at ±2, not at two deviations: that is the normal distribution.
_init = normal(0.02)


class ConvNeXtBlock(nn.Module):
    """x + scale · (1×1 down ∘ GELU ∘ 1×1 up by four ∘ LayerNorm ∘ depthwise 7×7)(x), with one learned scale a channel.

    Parameters beside the layers': `scale` [c].

    Attributes:
      layer_scale: what the scale starts from.
      drop_rate: of stochastic depth, in [0, 1].
      dtype: of the computation; parameters are float32.
      axis_name: the device axis of stochastic depth, under pmap only.

    Raises:
      ValueError: the rate lies outside [0, 1].

    >>> from cnn_jax.features import feature_names
    >>> shapes = feature_names(ConvNeXtBlock(layer_scale=1e-6, drop_rate=0.1), (14, 14, 96))
    >>> shapes["depthwise"], shapes["expand"], shapes["project"]
    ((14, 14, 96), (14, 14, 384), (14, 14, 96))
    """

    layer_scale: float
    drop_rate: float
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        c = x.shape[-1]
        conv = partial(Conv, kernel_init=_init, dtype=self.dtype)
        y = conv(c, (7, 7), padding=3, groups=c, name="depthwise")(x)
        y = conv(4 * c, (1, 1), name="expand")(LayerNorm(name="norm")(y))
        y = conv(c, (1, 1), name="project")(gelu(y))
        scale = self.param("scale", constant(self.layer_scale), (c,), jnp.float32)
        y = y * jnp.asarray(scale, self.dtype).reshape(1, 1, 1, c)
        return x + StochasticDepth(self.drop_rate, axis_name=self.axis_name, name="stochastic_depth")(y, train)


class ConvNeXt(nn.Module):
    """A ConvNeXt: [b, h, w, c] images -> [b, num_outputs] in float32.

    Attributes:
      num_outputs: classes, or the size of an embedding; 0 for the features.
      stage_sizes: blocks in each stage; each stage after the first halves the resolution.
      widths: features of each stage.
      patch: side and stride of the stem's windows: 4, or 1 or 2 for images up to about 64².
      stochastic_depth: rate of the last block; the others' grow to it linearly from 0.
      layer_scale: what each block's scale starts from: nearly the identity.
      dtype: of the computation; parameters are float32.
      axis_name: the device axis of stochastic depth, under pmap only.

    Raises:
      ValueError: not one width for each stage, or a width, patch or number of blocks below one; images too small to be halved so often.

    >>> from cnn_jax.features import feature_names
    >>> feature_names(ConvNeXt(num_outputs=10, stage_sizes=(1, 2), widths=(8, 16)), (32, 32, 3))["stage2_block2"]
    (4, 4, 16)
    """

    num_outputs: int
    stage_sizes: tuple[int, ...]
    widths: tuple[int, ...]
    patch: int = 4
    stochastic_depth: float = 0.1
    layer_scale: float = 1e-6
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        check_network(self, x)
        self._check(x.shape)
        conv = partial(Conv, padding="VALID", kernel_init=_init, dtype=self.dtype)
        x = conv(self.widths[0], (self.patch, self.patch), stride=self.patch, name="stem_conv")(jnp.asarray(x, self.dtype))
        x = LayerNorm(name="stem_norm")(x)
        num_before, last = 0, max(1, sum(self.stage_sizes) - 1)
        for i, (num_blocks, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            if i > 0:
                x = conv(width, (2, 2), stride=2, name=f"down{i}_conv")(LayerNorm(name=f"down{i}_norm")(x))
            for j in range(num_blocks):
                drop_rate = self.stochastic_depth * num_before / last
                name = f"stage{i + 1}_block{j + 1}"
                x = ConvNeXtBlock(self.layer_scale, drop_rate, self.dtype, self.axis_name, name=name)(x, train)
                num_before += 1
        x = LayerNorm(name="last_norm")(global_average_pool(x))
        return Head(self.num_outputs, kernel_init=_init, dtype=self.dtype, name="head")(x)

    def _check(self, shape: tuple[int, ...]) -> None:
        check_number("layer_scale", self.layer_scale, math.isfinite, "finite")
        if len(self.widths) != len(self.stage_sizes):
            raise ValueError(f"widths={self.widths} must have one number for each stage of stage_sizes={self.stage_sizes}")
        if min(self.patch, *self.widths, *self.stage_sizes, len(self.stage_sizes)) < 1:
            raise ValueError(f"patch={self.patch}, each of widths={self.widths} and of stage_sizes={self.stage_sizes} must be at least 1")
        least = self.patch * 2 ** (len(self.stage_sizes) - 1)
        if min(shape[1:-1]) < least:
            raise ValueError(f"images of {shape[1]}×{shape[2]} are too small for this ConvNeXt: each side must be at least {least}")


# Section 3 of the paper; the rates of stochastic depth are torchvision's and, for ImageNet-1K from scratch, the authors'.
convnext_tiny = partial(ConvNeXt, stage_sizes=(3, 3, 9, 3), widths=(96, 192, 384, 768), stochastic_depth=0.1)  # ConvNeXt-T
convnext_small = partial(ConvNeXt, stage_sizes=(3, 3, 27, 3), widths=(96, 192, 384, 768), stochastic_depth=0.4)  # ConvNeXt-S
convnext_base = partial(ConvNeXt, stage_sizes=(3, 3, 27, 3), widths=(128, 256, 512, 1024), stochastic_depth=0.5)  # ConvNeXt-B
convnext_large = partial(ConvNeXt, stage_sizes=(3, 3, 27, 3), widths=(192, 384, 768, 1536), stochastic_depth=0.5)  # ConvNeXt-L
