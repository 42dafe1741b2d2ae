"""Layers that are random in training and the identity in evaluation. No parameters; keys from the sequence "dropout"."""

from collections.abc import Callable

import flax.linen as nn
import jax

from cnn_jax.ops.arguments import check_array
from cnn_jax.ops.dropout import check_options, drop_block, dropout, gaussian_noise, spatial_dropout, stochastic_depth
from cnn_jax.ops.precision import as_floats


class Dropout(nn.Module):
    """`ops.dropout.dropout`: values zero with probability `rate` in training, the others scaled up.

    Under pmap `axis_name` names the device axis, here and below; the draw is then that of the global batch.
    """

    rate: float = 0.5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        return _random(self, dropout, x, train, rate=self.rate)


class SpatialDropout(nn.Module):
    """`ops.dropout.spatial_dropout`: whole channels zero with probability `rate` in training, the others scaled up."""

    rate: float = 0.5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        return _random(self, spatial_dropout, x, train, rate=self.rate)


class DropBlock(nn.Module):
    """`ops.dropout.drop_block`: blocks of `size` in each spatial axis zero in training, about `rate` of all values."""

    rate: float = 0.1
    size: int = 7
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        return _random(self, drop_block, x, train, rate=self.rate, size=self.size)


class StochasticDepth(nn.Module):
    """`ops.dropout.stochastic_depth`: in training an example's whole residual branch is zero with probability `rate`."""

    rate: float = 0.5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        return _random(self, stochastic_depth, x, train, rate=self.rate)


class GaussianNoise(nn.Module):
    """`ops.dropout.gaussian_noise`: normal noise of this standard deviation on each value in training, for inputs as a rule."""

    deviation: float = 0.1
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        return _random(self, gaussian_noise, x, train, deviation=self.deviation)


def _random(layer: nn.Module, op: Callable[..., jax.Array], x, train: bool, **options):
    check_options(**options)
    check_array("x", x)
    if not train or 0 in (options.get("rate"), options.get("deviation")):
        return as_floats(x)  # of one type, in training or not
    axis_name = None if layer.is_initializing() else layer.axis_name  # initialisation runs outside any mapped axis
    return op(layer.make_rng("dropout"), x, **options, axis_name=axis_name)
