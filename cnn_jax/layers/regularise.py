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

    Raises:
      ValueError: as `ops.dropout.dropout`, in evaluation too.

    Reference: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.

    >>> y = Dropout(0.5).apply({}, jax.numpy.ones((4, 8)), train=True, rngs={"dropout": jax.random.key(0)})
    >>> sorted(set(y.ravel().tolist()))
    [0.0, 2.0]
    """

    rate: float = 0.5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        return _random(self, dropout, x, train, rate=self.rate)


class SpatialDropout(nn.Module):
    """`ops.dropout.spatial_dropout`: whole channels zero with probability `rate` in training, the others scaled up.

    Raises:
      ValueError: as `ops.dropout.spatial_dropout`, in evaluation too.

    Reference: Tompson et al., "Efficient object localization using convolutional networks", 2015.

    >>> y = SpatialDropout(0.5).apply({}, jax.numpy.ones((2, 3, 5)), train=True, rngs={"dropout": jax.random.key(0)})
    >>> bool((y == y[:, :1]).all())
    True
    """

    rate: float = 0.5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        return _random(self, spatial_dropout, x, train, rate=self.rate)


class DropBlock(nn.Module):
    """`ops.dropout.drop_block`: blocks of `size` in each spatial axis zero in training, about `rate` of all values.

    Raises:
      ValueError: as `ops.dropout.drop_block`, in evaluation too.

    Reference: Ghiasi et al., "DropBlock: a regularization method for convolutional networks", 2018.

    >>> y = DropBlock(rate=0.5, size=3).apply({}, jax.numpy.ones((1, 6, 1)), train=True, rngs={"dropout": jax.random.key(6)})
    >>> y.ravel().tolist()
    [2.0, 2.0, 2.0, 0.0, 0.0, 0.0]
    """

    rate: float = 0.1
    size: int = 7
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        return _random(self, drop_block, x, train, rate=self.rate, size=self.size)


class StochasticDepth(nn.Module):
    """`ops.dropout.stochastic_depth`: in training an example's whole residual branch is zero with probability `rate`.

    Raises:
      ValueError: as `ops.dropout.stochastic_depth`, in evaluation too.

    Reference: Huang et al., "Deep networks with stochastic depth", 2016.

    >>> y = StochasticDepth(0.5).apply({}, jax.numpy.ones((8, 2)), train=True, rngs={"dropout": jax.random.key(0)})
    >>> sorted({tuple(row) for row in y.tolist()})
    [(0.0, 0.0), (2.0, 2.0)]
    """

    rate: float = 0.5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        return _random(self, stochastic_depth, x, train, rate=self.rate)


class GaussianNoise(nn.Module):
    """`ops.dropout.gaussian_noise`: normal noise of this standard deviation on each value in training, for inputs as a rule.

    Raises:
      ValueError: as `ops.dropout.gaussian_noise`, in evaluation too.

    Reference: Bishop, "Training with noise is equivalent to Tikhonov regularization", 1995.

    >>> GaussianNoise(0.1).apply({}, jax.numpy.ones((1, 2)), train=False).tolist()
    [[1.0, 1.0]]
    """

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
