"""Inception v3 (Szegedy et al. 2015, "Rethinking the Inception architecture for computer vision") with torchvision's layout."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import normal

from cnn_jax.layers import Dropout, Head
from cnn_jax.models.checks import check_network
from cnn_jax.models.googlenet import ConvUnit
from cnn_jax.ops.pool import adaptive_average_pool, average_pool, global_average_pool, max_pool

_1x1, _3x3, _5x5, _1x7, _7x1, _1x3, _3x1 = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1), (1, 3), (3, 1)

# A block is the features of its pooled branch (0: the block halves the resolution) and its other branches; a branch is a row of steps;
# a step is its features and its window, or two windows that stand side by side on the same input.


def _wide(pooled: int):
    """At 35×35: a 5×5, and two 3×3 in the place of another. Figure 5 of the paper."""
    return pooled, (((64, _1x1),), ((48, _1x1), (64, _5x5)), ((64, _1x1), (96, _3x3), (96, _3x3)))


def _factored(c: int):
    """At 17×17: 7×7 windows factored into 1×7 and 7×1. Figure 6 of the paper."""
    once = ((c, _1x1), (c, _1x7), (192, _7x1))
    twice = ((c, _1x1), (c, _7x1), (c, _1x7), (c, _7x1), (192, _1x7))
    return 192, (((192, _1x1),), once, twice)


# At 8×8: the last windows stand side by side, for wide representations. Figure 7 of the paper.
_FORKED = 192, (((320, _1x1),), ((384, _1x1), (384, _1x3, _3x1)), ((448, _1x1), (384, _3x3), (384, _1x3, _3x1)))

# Names and numbers as in the authors' code; mixed6a and mixed7a are figure 10 of the paper.
_BLOCKS = {
    "mixed5b": _wide(32),
    "mixed5c": _wide(64),
    "mixed5d": _wide(64),
    "mixed6a": (0, (((384, _3x3),), ((64, _1x1), (96, _3x3), (96, _3x3)))),
    "mixed6b": _factored(128),
    "mixed6c": _factored(160),
    "mixed6d": _factored(160),
    "mixed6e": _factored(192),
    "mixed7a": (0, (((192, _1x1), (320, _3x3)), ((192, _1x1), (192, _1x7), (192, _7x1), (192, _3x3)))),
    "mixed7b": _FORKED,
    "mixed7c": _FORKED,
}
_AUXILIARY_WEIGHT = 0.4  # of the authors' code


class Mixed(nn.Module):
    """Branches side by side and a pooled one, their channels concatenated.

    Attributes:
      pooled: features of the 1×1 after a 3×3 mean. With 0 the block halves the resolution instead: each branch's last window
        strides without padding, and the pooled branch is a 3×3 maximum with stride 2.
      branches: the others, as written above.
      unit: makes a `ConvUnit`.

    Raises:
      ValueError: no 3×3 window fits into the images.

    >>> from cnn_jax.features import feature_names
    >>> feature_names(Mixed(*_wide(32), unit=ConvUnit), (35, 35, 192))["branch_pool"]  # 64 + 64 + 96 + 32 channels in all
    (35, 35, 32)
    """

    pooled: int
    branches: tuple[tuple[tuple[Any, ...], ...], ...]
    unit: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x, train: bool):
        outputs = []
        for i, steps in enumerate(self.branches):
            y = x
            for j, (features, *windows) in enumerate(steps):
                halves = not self.pooled and j == len(steps) - 1
                unit = partial(self.unit, features, stride=2, padding=0) if halves else partial(self.unit, features)
                suffixes = ("",) if len(windows) == 1 else ("a", "b")
                named = zip(windows, suffixes, strict=True)
                y = jnp.concatenate([unit(window, name=f"branch{i + 1}_{j + 1}{suffix}")(y, train) for window, suffix in named], -1)
            outputs.append(y)
        if self.pooled:
            outputs.append(self.unit(self.pooled, _1x1, name="branch_pool")(average_pool(x, 3, stride=1, padding=1), train))
        else:
            outputs.append(max_pool(x, 3, stride=2))
        return jnp.concatenate(outputs, axis=-1)


class Auxiliary(nn.Module):
    """A classifier on the last 17×17 features: 5×5 means with stride 3, 1×1, 5×5, global mean.

    In training it sows ("auxiliary", "logits") with the pair of its logits, float32, and the weight of their loss.

    Attributes:
      num_outputs: classes, at least 1.
      unit: makes a `ConvUnit`.
      dtype: of the computation; parameters and statistics are float32.

    >>> from cnn_jax.features import feature_names
    >>> feature_names(Auxiliary(num_outputs=1000, unit=ConvUnit, dtype=jnp.float32), (17, 17, 768))["unit2"]
    (1, 1, 768)
    """

    num_outputs: int
    unit: Callable[..., nn.Module]
    dtype: Any

    @nn.compact
    def __call__(self, x, train: bool):
        # Below 17×17 (images below 299×299) too little would be left for the 5×5; its input is then made 5×5 in another way.
        x = average_pool(x, 5, stride=3) if min(x.shape[1:-1]) >= 17 else adaptive_average_pool(x, 5)
        x = self.unit(128, _1x1, name="unit1")(x, train)
        x = self.unit(768, _5x5, padding=0, name="unit2")(x, train)
        logits = Head(self.num_outputs, kernel_init=normal(0.001), dtype=self.dtype, name="head")(global_average_pool(x))
        if train and not self.is_initializing():
            self.sow("auxiliary", "logits", (logits, _AUXILIARY_WEIGHT))
        return logits


class InceptionV3(nn.Module):
    """Inception v3: [b, h, w, c] images -> [b, num_outputs] in float32, made for 299×299.

    23,834,568 parameters at 1000 classes, 27,161,264 with `auxiliary`.

    Attributes:
      num_outputs: classes, or the size of an embedding; 0 for the features.
      auxiliary: a further classifier, `auxiliary` on the output of mixed6e. In training its logits and the weight of their loss, 0.4,
        are sown in the collection "auxiliary"; in evaluation they are not computed. With `num_outputs=0` there is none.
      dropout: rate before the head.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: the device axis of BatchNorm and dropout, under pmap only.

    Raises:
      ValueError: images smaller than 75×75.

    >>> from cnn_jax.features import feature_names
    >>> feature_names(InceptionV3(num_outputs=1000), (299, 299, 3))["mixed7c"]
    (8, 8, 2048)
    """

    num_outputs: int
    auxiliary: bool = False
    dropout: float = 0.5
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        check_network(self, x)
        if min(x.shape[1:-1]) < 75:
            raise ValueError(f"images of {x.shape[1]}×{x.shape[2]} are too small for Inception v3: each side must be at least 75")
        unit = partial(ConvUnit, dtype=self.dtype, axis_name=self.axis_name)
        x = unit(32, _3x3, stride=2, padding=0, name="conv1a")(jnp.asarray(x, self.dtype), train)
        x = unit(32, _3x3, padding=0, name="conv2a")(x, train)
        x = max_pool(unit(64, _3x3, name="conv2b")(x, train), 3, stride=2)
        x = unit(80, _1x1, name="conv3b")(x, train)
        x = max_pool(unit(192, _3x3, padding=0, name="conv4a")(x, train), 3, stride=2)
        for name, (pooled, branches) in _BLOCKS.items():
            x = Mixed(pooled, branches, unit, name=name)(x, train)
            if name == "mixed6e" and self.auxiliary and self.num_outputs and (train or self.is_initializing()):
                Auxiliary(self.num_outputs, unit, self.dtype, name="auxiliary")(x, train)
        x = Dropout(self.dropout, axis_name=self.axis_name, name="dropout")(global_average_pool(x), train)
        return Head(self.num_outputs, dtype=self.dtype, name="head")(x)
