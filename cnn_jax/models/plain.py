"""Deep networks without shortcuts: what residual networks are compared with, to see what the identity does for the gradient."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import BatchNorm, Conv, Head
from cnn_jax.models.checks import check_network
from cnn_jax.models.resnet import BasicBlock, check_sizes
from cnn_jax.models.stems import Stem, begin
from cnn_jax.ops.pool import global_average_pool


def no_shortcut(block: nn.Module, x: jax.Array, features: int, train: bool) -> jax.Array:
    """Returns zero, so that only the branch of `block` remains.

    Args:
      block, features, train: not used; they are what `resnet.projection` takes.

    >>> no_shortcut(None, jnp.ones((1, 4, 4, 16)), 16, False).item()
    0.0
    """
    del block, features, train
    return jnp.zeros((), x.dtype)


class PlainNet(nn.Module):
    """The plain network of He et al. 2015 ("Deep residual learning for image recognition", section 3.3): [b, h, w, c] -> [b, num_outputs].

    The convolutions, BatchNorms and rectifiers of the `ResNet` of the same sizes, under the same names and with the same first
    values, without its shortcuts.

    Attributes:
      num_outputs: classes, or the size of an embedding; 0 gives the features.
      stage_sizes: pairs of 3×3 convolutions in each stage; each stage after the first halves the resolution and doubles the width.
      stem: see `stems.begin`.
      width: features of the first stage.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: the device axis of BatchNorm, under pmap only.

    Raises:
      ValueError: a width or a number of pairs below one.

    >>> from cnn_jax.features import feature_names
    >>> feature_names(PlainNet(num_outputs=10, stage_sizes=(1, 1), stem="small", width=16), (32, 32, 3))["stage2_block1"]
    (16, 16, 32)
    """

    num_outputs: int
    stage_sizes: tuple[int, ...]
    stem: Stem = "imagenet"
    width: int = 64
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        check_network(self, x)
        check_sizes(self.width, self.stage_sizes)
        conv = partial(Conv, use_bias=False, dtype=self.dtype)
        norm = partial(BatchNorm, axis_name=self.axis_name)
        pair = partial(BasicBlock, conv=conv, norm=norm, shortcut=no_shortcut)
        x = begin(self.stem, jnp.asarray(x, self.dtype), train, width=self.width, conv=conv, norm=norm)
        for i, num_pairs in enumerate(self.stage_sizes):
            for j in range(num_pairs):
                stride = 2 if i > 0 and j == 0 else 1
                x = pair(self.width * 2**i, stride, name=f"stage{i + 1}_block{j + 1}")(x, train)
        return Head(self.num_outputs, dtype=self.dtype, name="head")(global_average_pool(x))


plain18 = partial(PlainNet, stage_sizes=(2, 2, 2, 2))  # ResNet-18 without its shortcuts
plain34 = partial(PlainNet, stage_sizes=(3, 4, 6, 3))  # ResNet-34 without its shortcuts

# Section 4.2: thin, for CIFAR.
plain20 = partial(PlainNet, stage_sizes=(3, 3, 3), stem="small", width=16)  # thin net of 20 layers without shortcuts, for CIFAR
plain56 = partial(PlainNet, stage_sizes=(9, 9, 9), stem="small", width=16)  # thin net of 56 layers without shortcuts, for CIFAR
