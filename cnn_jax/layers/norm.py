"""Normalisation layers. Parameters and statistics are float32 whatever the inputs' type."""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import Initializer, ones, zeros

from cnn_jax.initialisers import check_initialiser
from cnn_jax.ops.arguments import check_array, check_flag, check_number
from cnn_jax.ops.batch_norm import batch_normalise
from cnn_jax.ops.norm import batch_moments, group_norm, instance_norm, layer_norm, nearby_mean, normalise, num_values, rms_norm


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last; statistics in float32 whatever the inputs' type.

    Parameters: `scale`, `bias`. State, collection `batch_stats`: `mean` and `var` (unbiased, as torch keeps it), moved by
    new = momentum · old + (1 − momentum) · batch. Note that `momentum` is the fraction *kept*: torch's 0.1 is 0.9 here.

    Under `jit` over a mesh the batch is the global one and `axis_name` must be None; under pmap it is required.

    Called with `where` [b], the examples it marks False count in no statistic; where none counts, the running statistics are
    used and stay. With `frozen` they are used and stay in training too; `scale` and `bias` are the optimizer's to freeze.

    A collection `batch_moments`, if mutable, receives (number of values, mean, biased variance) of each call in training.

    Attributes:
      epsilon: added to the variance.
      scale_init: (key, shape, dtype) -> array, what the scale starts from; the bias starts at zero.

    Raises:
      ValueError: the momentum lies outside [0, 1], ε is negative, or `where` is not of one boolean an example.

    Reference: Ioffe & Szegedy, "Batch normalization", 2015.

    >>> import jax
    >>> x, norm = jnp.array([[1.0], [3.0]]), BatchNorm(momentum=0.5, epsilon=0.0)
    >>> y, state = norm.apply(norm.init(jax.random.key(0), x, train=False), x, train=True, mutable=["batch_stats"])
    >>> y.tolist(), state["batch_stats"]["mean"].tolist(), state["batch_stats"]["var"].tolist()  # from 0 and 1 half-way to 2 and 2
    ([[-1.0], [1.0]], [1.0], [1.5])
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: Initializer = ones
    axis_name: str | None = None
    frozen: bool = False

    @nn.compact
    def __call__(self, x, train: bool, where=None):
        check_number("momentum", self.momentum, lambda v: 0 <= v <= 1, "in [0, 1]: it is the fraction of the old statistics that is kept")
        check_flag("frozen", self.frozen)
        _check(self, x)
        c = x.shape[-1]
        scale = self.param("scale", self.scale_init, (c,), jnp.float32)
        bias = self.param("bias", zeros, (c,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (c,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (c,), jnp.float32)
        if not train or self.frozen:
            return normalise(x, running_mean.value, running_var.value, scale, bias, epsilon=self.epsilon)
        axis_name = None if self.is_initializing() else self.axis_name  # initialisation runs outside any mapped axis
        if where is None:
            y, mean, var = batch_normalise(x, scale, bias, epsilon=self.epsilon, axis_name=axis_name)
        else:
            mean, var = batch_moments(x, nearby_mean(x, where=where, axis_name=axis_name), where=where, axis_name=axis_name)
        if not self.is_initializing():
            num = num_values(x, where=where, axis_name=axis_name)
            self.sow("batch_moments", "moments", (jnp.asarray(num, jnp.float32), mean, var))
            if where is None:
                unbiased, keep = var * (num / max(num - 1, 1)), self.momentum
            else:
                mean, var = jnp.where(num > 0, mean, running_mean.value), jnp.where(num > 0, var, running_var.value)
                unbiased, keep = var * (num / jnp.maximum(num - 1, 1)), jnp.where(num > 0, self.momentum, 1.0)
            for running, batch in ((running_mean, mean), (running_var, unbiased)):  # of float64 inputs, too, the state stays float32
                running.value = (keep * running.value + (1 - keep) * batch).astype(running.value.dtype)
        return y if where is None else normalise(x, mean, var, scale, bias, epsilon=self.epsilon)


class GroupNorm(nn.Module):
    """`ops.norm.group_norm` over each example's groups of channels and all space. Parameters: `scale`, `bias`.

    Raises:
      ValueError: as `ops.norm.group_norm`.

    Reference: Wu & He, "Group normalization", 2018.

    >>> import jax
    >>> norm = GroupNorm(groups=2, epsilon=0.0)
    >>> norm.init_with_output(jax.random.key(0), jnp.array([[1.0, 3.0, 10.0, 30.0]]))[0].round(4).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """

    groups: int = 32
    epsilon: float = 1e-5
    scale_init: Initializer = ones

    @nn.compact
    def __call__(self, x):
        return group_norm(x, *_scale_and_bias(self, x), groups=self.groups, epsilon=self.epsilon)


class LayerNorm(nn.Module):
    """`ops.norm.layer_norm` over the channels of each position. Parameters: `scale`, `bias`.

    ε is that of ConvNeXt and of the transformers; torch's default is 1e-5.

    Raises:
      ValueError: as `ops.norm.layer_norm`.

    Reference: Ba et al., "Layer normalization", 2016.

    >>> import jax
    >>> LayerNorm(epsilon=0.0).init_with_output(jax.random.key(0), jnp.array([[1.0, 3.0], [10.0, 30.0]]))[0].round(4).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """

    epsilon: float = 1e-6
    scale_init: Initializer = ones

    @nn.compact
    def __call__(self, x):
        return layer_norm(x, *_scale_and_bias(self, x), epsilon=self.epsilon)


class InstanceNorm(nn.Module):
    """`ops.norm.instance_norm` over all space, for each example and channel. Parameters: `scale`, `bias`.

    torch's has none by default; `affine=False` gives that.

    Raises:
      ValueError: as `ops.norm.instance_norm`.

    Reference: Ulyanov et al., "Instance normalization: the missing ingredient for fast stylization", 2016.

    >>> InstanceNorm(affine=False, epsilon=0.0).apply({}, jnp.array([[[1.0, 10.0], [3.0, 30.0]]])).round(4).tolist()
    [[[-1.0, -1.0], [1.0, 1.0]]]
    """

    epsilon: float = 1e-5
    scale_init: Initializer = ones
    affine: bool = True

    @nn.compact
    def __call__(self, x):
        check_flag("affine", self.affine)
        return instance_norm(x, *(_scale_and_bias(self, x) if self.affine else ()), epsilon=self.epsilon)


class RMSNorm(nn.Module):
    """`ops.norm.rms_norm` over the channels of each position, which takes no mean away. Parameter: `scale`.

    Raises:
      ValueError: as `ops.norm.rms_norm`.

    Reference: Zhang & Sennrich, "Root mean square layer normalization", 2019.

    >>> import jax
    >>> RMSNorm().init_with_output(jax.random.key(0), jnp.array([[2.0, -2.0, 2.0]]))[0].round(4).tolist()
    [[1.0, -1.0, 1.0]]
    """

    epsilon: float = 2**-23  # torch's: float32's step at 1
    scale_init: Initializer = ones

    @nn.compact
    def __call__(self, x):
        _check(self, x)
        return rms_norm(x, self.param("scale", self.scale_init, (x.shape[-1],), jnp.float32), epsilon=self.epsilon)


def _scale_and_bias(layer: nn.Module, x):
    _check(layer, x)
    shape = (x.shape[-1],)
    return layer.param("scale", layer.scale_init, shape, jnp.float32), layer.param("bias", zeros, shape, jnp.float32)


def _check(layer: nn.Module, x) -> None:
    check_array("x", x)
    check_initialiser("scale_init", layer.scale_init)
    if x.ndim < 1:
        raise ValueError("x must have a last axis of channels, got shape ()")
