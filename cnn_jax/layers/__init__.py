"""Linen modules over `ops`: the only home of the layers' defaults. Blocks receive them as partials."""

from cnn_jax.layers.activation import PReLU
from cnn_jax.layers.attention import SqueezeExcitation
from cnn_jax.layers.conv import Conv, ConvTranspose, SeparableConv, StandardisedConv, he_normal_fan_out
from cnn_jax.layers.dense import Dense, Head, lecun_normal
from cnn_jax.layers.endings import Embedder, Scorer, Siamese
from cnn_jax.layers.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from cnn_jax.layers.regularise import DropBlock, Dropout, GaussianNoise, SpatialDropout, StochasticDepth

__all__ = [
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "Dense",
    "DropBlock",
    "Dropout",
    "Embedder",
    "GaussianNoise",
    "GroupNorm",
    "Head",
    "InstanceNorm",
    "LayerNorm",
    "PReLU",
    "RMSNorm",
    "Scorer",
    "SeparableConv",
    "Siamese",
    "SpatialDropout",
    "SqueezeExcitation",
    "StandardisedConv",
    "StochasticDepth",
    "he_normal_fan_out",
    "lecun_normal",
]
