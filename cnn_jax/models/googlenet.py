"""GoogLeNet, Inception v1 (Szegedy et al. 2014, "Going deeper with convolutions"), with BatchNorm and torchvision's layout."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from cnn_jax.layers import BatchNorm, Conv, Dense, Dropout, Head
from cnn_jax.models.checks import check_network
from cnn_jax.ops.pool import adaptive_average_pool, global_average_pool, max_pool

# Table 1 of the paper: features of 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool projection. A max pool stands before 4a and 5a.
_BLOCKS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_AUXILIARY_AFTER = {"4a": "auxiliary1", "4d": "auxiliary2"}
_AUXILIARY_WEIGHT = 0.3  # section 5 of the paper


class ConvUnit(nn.Module):
    """Convolution without bias, BatchNorm with epsilon 1e-3, ReLU: what both Inception networks are made of.

    By default the window is padded so that the size stays.

    Attributes:
      padding: of the convolution, as in `layers.Conv`; None for half the window on each side.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: the device axis of BatchNorm, under pmap only.

    Raises:
      ValueError: as `layers.Conv`.

    >>> from cnn_jax.features import feature_names
    >>> feature_names(ConvUnit(features=64, window=(7, 7), stride=2), (224, 224, 3))["conv"]
    (112, 112, 64)
    """

    features: int
    window: tuple[int, int]
    stride: int = 1
    padding: int | tuple[int, int] | None = None
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        padding = tuple(size // 2 for size in self.window) if self.padding is None else self.padding
        conv = Conv(self.features, self.window, stride=self.stride, padding=padding, use_bias=False, dtype=self.dtype, name="conv")
        return nn.relu(BatchNorm(epsilon=1e-3, axis_name=self.axis_name, name="bn")(conv(x), train))


class Inception(nn.Module):
    """Four branches side by side: 1×1; 1×1 and 3×3; 1×1 and a large window; 3×3 max pool and 1×1. Their channels are concatenated.

    Attributes:
      features: of the 1×1, the 3×3's reduction, the 3×3, the large window's reduction, the large window, the pooled branch's 1×1.
      large_window: side of the large window, odd.
      unit: makes a `ConvUnit`.

    >>> from cnn_jax.features import feature_names
    >>> shapes = feature_names(Inception(features=(64, 96, 128, 16, 32, 32), large_window=5, unit=ConvUnit), (28, 28, 192))
    >>> [shapes[f"branch{i}"][-1] for i in (1, 2, 3, 4)]
    [64, 128, 32, 32]
    """

    features: tuple[int, ...]
    large_window: int
    unit: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x, train: bool):
        single, reduce3, window3, reduce5, window5, pooled = self.features
        large = (self.large_window, self.large_window)
        branch1 = self.unit(single, (1, 1), name="branch1")(x, train)
        branch2 = self.unit(reduce3, (1, 1), name="branch2_reduce")(x, train)
        branch2 = self.unit(window3, (3, 3), name="branch2")(branch2, train)
        branch3 = self.unit(reduce5, (1, 1), name="branch3_reduce")(x, train)
        branch3 = self.unit(window5, large, name="branch3")(branch3, train)
        branch4 = self.unit(pooled, (1, 1), name="branch4")(max_pool(x, 3, stride=1, padding=1), train)
        return jnp.concatenate([branch1, branch2, branch3, branch4], axis=-1)


class Auxiliary(nn.Module):
    """A classifier on features half-way up, so that gradients reach the lower layers: 4×4 means, 1×1, two dense layers.

    In training it sows ("auxiliary", "logits") with the pair of its logits, float32, and the weight of their loss.

    Attributes:
      num_outputs: classes, at least 1.
      dropout: rate before the head.
      unit: makes a `ConvUnit`.
      dtype, axis_name: as in `GoogLeNet`.

    Raises:
      ValueError: the rate lies outside [0, 1].

    >>> from cnn_jax.features import feature_names
    >>> feature_names(Auxiliary(num_outputs=10, dropout=0.7, unit=ConvUnit, dtype=jnp.float32, axis_name=None), (14, 14, 512))["unit"]
    (4, 4, 128)
    """

    num_outputs: int
    dropout: float
    unit: Callable[..., nn.Module]
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x, train: bool):
        # The paper takes the mean of 5×5 windows with stride 3, which gives 4×4 only from 14×14; torchvision's means do from any size.
        x = self.unit(128, (1, 1), name="unit")(adaptive_average_pool(x, 4), train)
        x = nn.relu(Dense(1024, dtype=self.dtype, name="dense")(x.reshape(x.shape[0], -1)))
        x = Dropout(self.dropout, axis_name=self.axis_name, name="dropout")(x, train)
        logits = Head(self.num_outputs, dtype=self.dtype, name="head")(x)
        if train and not self.is_initializing():
            self.sow("auxiliary", "logits", (logits, _AUXILIARY_WEIGHT))
        return logits


class GoogLeNet(nn.Module):
    """GoogLeNet: [b, h, w, c] images -> [b, num_outputs] in float32. 6,624,904 parameters at 1000 classes, 13,004,888 with `auxiliary`.

    Attributes:
      num_outputs: classes, or the size of an embedding; 0 for the features.
      auxiliary: two further classifiers, `auxiliary1` and `auxiliary2` on the outputs of 4a and 4d. In training their logits and the
        weight of their loss, 0.3, are sown in the collection "auxiliary"; in evaluation they are not computed. With `num_outputs=0`
        there are none.
      large_window: side of the blocks' large windows, odd. 3 as in TensorFlow's and torchvision's; the paper's is 5.
      dropout: rate before the head.
      auxiliary_dropout: rate before those of the auxiliary classifiers.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: the device axis of BatchNorm and dropout, under pmap only.

    Raises:
      ValueError: images smaller than 15×15; an even large_window.

    >>> from cnn_jax.features import feature_names
    >>> feature_names(GoogLeNet(num_outputs=1000), (224, 224, 3))["inception5b"]
    (7, 7, 1024)
    """

    num_outputs: int
    auxiliary: bool = False
    large_window: int = 3
    dropout: float = 0.2
    auxiliary_dropout: float = 0.7
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        check_network(self, x)
        if min(x.shape[1:-1]) < 15:
            raise ValueError(f"images of {x.shape[1]}×{x.shape[2]} are too small for GoogLeNet: each side must be at least 15")
        if self.large_window < 1 or self.large_window % 2 == 0:
            raise ValueError(f"large_window={self.large_window} must be odd and positive")
        unit = partial(ConvUnit, dtype=self.dtype, axis_name=self.axis_name)
        halve = partial(max_pool, stride=2, ceil_mode=True)
        wanted = self.auxiliary and self.num_outputs > 0 and (train or self.is_initializing())
        auxiliary = partial(Auxiliary, self.num_outputs, self.auxiliary_dropout, unit, self.dtype, self.axis_name) if wanted else None
        x = unit(64, (7, 7), stride=2, name="conv1")(jnp.asarray(x, self.dtype), train)
        x = unit(64, (1, 1), name="conv2_reduce")(halve(x, 3), train)
        x = halve(unit(192, (3, 3), name="conv2")(x, train), 3)
        for block, features in _BLOCKS.items():
            if block in ("4a", "5a"):
                x = halve(x, 3 if block == "4a" else 2)  # 2×2 as in torchvision; in the paper both are 3×3
            x = Inception(features, self.large_window, unit, name=f"inception{block}")(x, train)
            if auxiliary and block in _AUXILIARY_AFTER:
                auxiliary(name=_AUXILIARY_AFTER[block])(x, train)
        x = Dropout(self.dropout, axis_name=self.axis_name, name="dropout")(global_average_pool(x), train)
        return Head(self.num_outputs, dtype=self.dtype, name="head")(x)
