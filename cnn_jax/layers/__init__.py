"""Linen modules over `ops`: the only home of the layers' defaults. Blocks receive them as partials."""

from cnn_jax.layers.conv import Conv, ConvTranspose, SeparableConv, StandardisedConv, he_normal_fan_out
from cnn_jax.layers.dense import Dense, Head, lecun_normal
from cnn_jax.layers.endings import Embedder, Scorer
from cnn_jax.layers.norm import BatchNorm

__all__ = [
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "Dense",
    "Embedder",
    "Head",
    "Scorer",
    "SeparableConv",
    "StandardisedConv",
    "he_normal_fan_out",
    "lecun_normal",
]
