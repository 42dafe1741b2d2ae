"""VGG networks (Simonyan & Zisserman 2014, "Very deep convolutional networks for large-scale image recognition"), torchvision's layout."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from cnn_jax.layers import BatchNorm, Conv, Dense, Dropout, Head
from cnn_jax.models.checks import check_network
from cnn_jax.ops.pool import adaptive_average_pool, max_pool


class VGG(nn.Module):
    """Stages of 3×3 convolutions and a 2×2 max pool, then two wide dense layers: [b, h, w, c] -> [b, num_outputs] in float32.

    Attributes:
      num_outputs: classes, or the size of an embedding; 0 gives the second dense layer.
      stage_sizes: convolutions in each stage. A stage doubles the width of the one before, up to eight times the first.
      batch_norm: BatchNorm after each convolution, which keeps its bias, as torchvision's does.
      width: features of the first stage.
      grid: the last maps are averaged, or repeated, to so many places on each side. For small images and few data, 1 does.
      hidden: units of each dense layer.
      dropout: rate after each dense layer.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: the device axis of BatchNorm and dropout, under pmap only.

    Raises:
      ValueError: a size below one, images too small to be halved in each stage.

    >>> from cnn_jax.features import feature_names
    >>> feature_names(VGG(num_outputs=1000, stage_sizes=(1, 1, 2, 2, 2)), (224, 224, 3))["stage5_conv2"]
    (14, 14, 512)
    """

    num_outputs: int
    stage_sizes: tuple[int, ...]
    batch_norm: bool = False
    width: int = 64
    grid: int = 7
    hidden: int = 4096
    dropout: float = 0.5
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        check_network(self, x)
        self._check(x.shape)
        x = jnp.asarray(x, self.dtype)
        for i, num_convs in enumerate(self.stage_sizes):
            for j in range(num_convs):
                name = f"stage{i + 1}_conv{j + 1}"
                x = Conv(self.width * 2 ** min(i, 3), (3, 3), padding=1, dtype=self.dtype, name=name)(x)
                if self.batch_norm:
                    x = BatchNorm(axis_name=self.axis_name, name=name.replace("conv", "bn"))(x, train)
                x = nn.relu(x)
            x = max_pool(x, 2)
        x = adaptive_average_pool(x, self.grid)
        x = x.reshape(x.shape[0], -1)
        for i in (1, 2):
            x = nn.relu(Dense(self.hidden, kernel_init=nn.initializers.he_normal(), dtype=self.dtype, name=f"dense{i}")(x))
            x = Dropout(self.dropout, axis_name=self.axis_name, name=f"dropout{i}")(x, train)
        return Head(self.num_outputs, dtype=self.dtype, name="head")(x)

    def _check(self, shape: tuple[int, ...]) -> None:
        if min(self.width, self.grid, self.hidden, *self.stage_sizes, len(self.stage_sizes)) < 1:
            raise ValueError(
                f"width={self.width}, grid={self.grid}, hidden={self.hidden} and each of stage_sizes={self.stage_sizes} must be at least 1"
            )
        least = 2 ** len(self.stage_sizes)
        if min(shape[1:-1]) < least:
            raise ValueError(f"images of {shape[1]}×{shape[2]} are too small for this VGG: each side must be at least {least}")


vgg11 = partial(VGG, stage_sizes=(1, 1, 2, 2, 2))  # VGG with 11 layers, configuration A of the paper
vgg13 = partial(VGG, stage_sizes=(2, 2, 2, 2, 2))  # VGG with 13 layers, configuration B of the paper
vgg16 = partial(VGG, stage_sizes=(2, 2, 3, 3, 3))  # VGG with 16 layers, configuration D of the paper
vgg19 = partial(VGG, stage_sizes=(2, 2, 4, 4, 4))  # VGG with 19 layers, configuration E of the paper

vgg11_bn = partial(vgg11, batch_norm=True)  # VGG-11 with BatchNorm
vgg13_bn = partial(vgg13, batch_norm=True)  # VGG-13 with BatchNorm
vgg16_bn = partial(vgg16, batch_norm=True)  # VGG-16 with BatchNorm
vgg19_bn = partial(vgg19, batch_norm=True)  # VGG-19 with BatchNorm
