"""How residual nets begin: from the pixels to the features of the first stage."""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax

from cnn_jax.layers import BatchNorm, Conv
from cnn_jax.ops.pool import blur_pool, max_pool
from cnn_jax.ops.windows import spatial_sizes

Stem = Literal["imagenet", "small", "deep", "antialiased"]  # how a residual net begins: see `begin`


def begin(stem: Stem, x: jax.Array, train: bool, *, width: int, conv: Callable[..., Conv], norm: Callable[..., BatchNorm]) -> jax.Array:
    """Returns the features of the first stage. To be called within a module, whose layers `stem_*` it makes.

    Args:
      stem: "imagenet", 7×7 with stride 2 and a 3×3 max pool with stride 2; "small", one 3×3 for images up to about 64²;
        "deep", three 3×3 in place of the 7×7 (He et al. 2018, "Bag of tricks", net C); "antialiased", as "imagenet" with the
        max pool's stride taken by a blur (Zhang 2019, "Making convolutional networks shift-invariant again").
      x: images [b, h, w, c].
      train: whether BatchNorm uses the batch's statistics.
      width: features that come out; with "deep", half as many in the first two layers.
      conv, norm: what makes the layers.

    Raises:
      ValueError: an unknown stem, or a width that cannot be halved.

    >>> from cnn_jax.features import feature_names
    >>> from cnn_jax.models.resnet import resnet50d
    >>> [name for name in feature_names(resnet50d(num_outputs=10), (64, 64, 3)) if "stem_conv" in name]
    ['stem_conv1', 'stem_conv2', 'stem_conv3']
    """
    layers = {"imagenet": [(7, 2, width)], "antialiased": [(7, 2, width)], "small": [(3, 1, width)]}
    layers["deep"] = [(3, 2, width // 2), (3, 1, width // 2), (3, 1, width)]
    if stem not in layers:
        raise ValueError(f"stem={stem!r} must be one of {', '.join(layers)}")
    if stem == "deep" and width < 2:
        raise ValueError(f"width={width} must be at least 2 with stem='deep', whose first layers have half of it")
    for i, (window, stride, features) in enumerate(layers[stem]):
        number = i + 1 if stem == "deep" else ""
        x = conv(features, (window, window), stride=stride, padding=window // 2, name=f"stem_conv{number}")(x)
        x = nn.relu(norm(name=f"stem_bn{number}")(x, train))
    if stem == "antialiased":
        return blur(max_pool(x, 3, stride=1, padding=1), stride=2)
    return x if stem == "small" else max_pool(x, 3, stride=2, padding=1)


def blur(x: jax.Array, *, stride: int) -> jax.Array:
    """Returns every `stride`-th position of x blurred by the binomial 1 2 1 / 4.

    Raises:
      ValueError: the stride is below 1.

    Reference: Zhang, "Making convolutional networks shift-invariant again", 2019.

    >>> blur(jax.numpy.array([0.0, 0.0, 4.0, 0.0, 0.0]).reshape(1, 5, 1), stride=2)[0, :, 0].tolist()
    [0.0, 2.0, 0.0]
    """
    border = "reflect" if min(spatial_sizes(x)) > 1 else "replicate"  # a single position has no neighbour to reflect
    return blur_pool(x, stride=stride, border=border)
