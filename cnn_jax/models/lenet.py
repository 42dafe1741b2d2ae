"""LeNet-5, as published in 1998 and as it is usually built today."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import Initializer, variance_scaling, zeros

from cnn_jax.layers import Conv, Dense, Head
from cnn_jax.models.checks import check_network
from cnn_jax.ops.conv import correlate
from cnn_jax.ops.pool import average_pool, max_pool

# Table 1 of the paper: row i lists the six maps of S2 that map i of C3 sees.
_C3_INPUTS = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip

# Variance 1 / fan_in. The paper's uniform ±2.4 / fan_in is smaller and relied on its second-order learning rates.
_tanh_init = variance_scaling(1.0, "fan_in", "uniform")


class LeNet5(nn.Module):
    """LeNet-5 as in LeCun et al. 1998 ("Gradient-based learning applied to document recognition"), 60,000 parameters.

    Learned sub-sampling, the partial connection table of C3, the scaled tanh, and radial basis units at the end. Their
    targets are ±1 codes that are drawn, not learned: the paper allows that beside its hand-drawn bitmaps, and it serves
    any number of classes. The logits are minus the squared distances, so that softmax gives the paper's MAP criterion;
    they are divided by √84, without which some seeds saturate early and stay there (0.83 instead of 0.98 on digits).

    Images [b, h, w, c] of another size than 32×32 are resized; 28×28 get a border of two, as in the paper.

    Attributes:
      num_outputs: classes; 0 gives the layer f6.
      dtype: of the computation; parameters are float32.
      axis_name: not used: there are no batch statistics.

    Raises:
      ValueError: inputs are no images, or a field is not of its kind.

    >>> from cnn_jax.features import feature_names
    >>> shapes = feature_names(LeNet5(num_outputs=10), (32, 32, 1))
    >>> shapes["c1"], shapes["s2"], shapes["c3"], shapes["f6"]
    ((28, 28, 6), (14, 14, 6), (10, 10, 16), (84,))
    """

    num_outputs: int
    dtype: Any = jnp.float32
    axis_name: str | None = None  # unused: no batch statistics

    @nn.compact
    def __call__(self, x, train: bool):
        del train
        check_network(self, x)
        x = _fit_to_32(jnp.asarray(x, self.dtype))
        x = _squash(Conv(6, (5, 5), padding="VALID", kernel_init=_tanh_init, dtype=self.dtype, name="c1")(x))
        x = _squash(_Subsample(self.dtype, name="s2")(x))
        x = _squash(_TableConv(_C3_INPUTS, (5, 5), self.dtype, name="c3")(x))
        x = _squash(_Subsample(self.dtype, name="s4")(x))
        x = _squash(Conv(120, (5, 5), padding="VALID", kernel_init=_tanh_init, dtype=self.dtype, name="c5")(x))
        x = _squash(Dense(84, kernel_init=_tanh_init, dtype=self.dtype, name="f6")(x.reshape(x.shape[0], -1)))
        if self.num_outputs == 0:
            return jnp.asarray(x, jnp.float32)
        codes = jax.random.rademacher(jax.random.key(1998), (self.num_outputs, 84), jnp.float32)
        return -jnp.square(jnp.asarray(x, jnp.float32)[:, None, :] - codes[None]).sum(-1) / 84**0.5


class LeNet5Modern(nn.Module):
    """The LeNet-5 of today's tutorials: full connections, ReLU, max pooling, a linear end. 61,706 parameters (grey, 10 classes).

    Images as for `LeNet5`.

    Attributes:
      num_outputs: classes, or the size of an embedding; 0 gives the second dense layer.
      dtype: of the computation; parameters are float32.
      axis_name: not used: there are no batch statistics.

    Raises:
      ValueError: inputs are no images, or a field is not of its kind.

    >>> from cnn_jax.features import feature_names
    >>> shapes = feature_names(LeNet5Modern(num_outputs=10), (32, 32, 1))
    >>> shapes["conv1"], shapes["conv2"], shapes["dense2"]
    ((28, 28, 6), (10, 10, 16), (84,))
    """

    num_outputs: int
    dtype: Any = jnp.float32
    axis_name: str | None = None  # unused: no batch statistics

    @nn.compact
    def __call__(self, x, train: bool):
        del train
        check_network(self, x)
        x = _fit_to_32(jnp.asarray(x, self.dtype))
        for features, name in ((6, "conv1"), (16, "conv2")):
            x = max_pool(nn.relu(Conv(features, (5, 5), padding="VALID", dtype=self.dtype, name=name)(x)), 2)
        x = x.reshape(x.shape[0], -1)
        for features, name in ((120, "dense1"), (84, "dense2")):
            x = nn.relu(Dense(features, dtype=self.dtype, name=name)(x))
        return Head(self.num_outputs, dtype=self.dtype, name="head")(x)


class _Subsample(nn.Module):
    """The mean of each 2×2 window, times a learned coefficient, plus a learned bias, for each map."""

    dtype: Any

    @nn.compact
    def __call__(self, x):
        # The paper sums the window; with the mean, a coefficient of 1 starts where its sum would with 1/4.
        coefficient = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", zeros, (x.shape[-1],), jnp.float32)
        scale, bias = (jnp.asarray(p, self.dtype).reshape(1, 1, 1, -1) for p in (coefficient, bias))
        return average_pool(x, 2) * scale + bias


class _TableConv(nn.Module):
    """Correlation in which each output map sees only the input maps that a table lists, holding no weights for others."""

    table: tuple[tuple[int, ...], ...]
    window: tuple[int, int]
    dtype: Any
    kernel_init: Initializer = _tanh_init

    @nn.compact
    def __call__(self, x):
        columns = []
        for i, inputs in enumerate(self.table):
            weights = self.param(f"kernel{i}", self.kernel_init, (*self.window, len(inputs), 1), jnp.float32)
            columns.append(jnp.zeros((*self.window, x.shape[-1], 1)).at[:, :, jnp.array(inputs)].set(weights))
        kernel = jnp.asarray(jnp.concatenate(columns, -1), self.dtype)
        bias = self.param("bias", zeros, (len(self.table),), jnp.float32)
        return correlate(x, kernel) + jnp.asarray(bias, self.dtype).reshape(1, 1, 1, -1)


def _squash(x):
    """1.7159·tanh(2x/3): the paper's, so that f(±1) = ±1 and the slope is largest where the signal is."""
    return 1.7159 * jnp.tanh(x * (2 / 3))


def _fit_to_32(images):
    """28×28 images get the paper's border of two; any other size is resized to the 32×32 the network is made for."""
    b, h, w, c = images.shape
    if (h, w) == (28, 28):
        return jnp.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    return images if (h, w) == (32, 32) else jax.image.resize(images, (b, 32, 32, c), "linear")
