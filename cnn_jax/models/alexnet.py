"""AlexNet, as built today on one device and as published in 2012 on two."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from cnn_jax.layers import Conv, Dense, Dropout, Head
from cnn_jax.models.checks import check_network
from cnn_jax.ops.arguments import check_array
from cnn_jax.ops.pool import adaptive_average_pool, max_pool


class AlexNet(nn.Module):
    """The one tower of Krizhevsky 2014 ("One weird trick for parallelizing convolutional neural networks"), with torchvision's layout.

    61,100,840 parameters at 1000 classes. [b, h, w, c] images -> [b, num_outputs] in float32.

    Attributes:
      num_outputs: classes, or the size of an embedding; 0 gives the second dense layer.
      hidden: units of each dense layer.
      dropout: rate before each of the two hidden dense layers.
      dtype: of the computation; parameters are float32.
      axis_name: the device axis of dropout, under pmap only.

    Raises:
      ValueError: no hidden units; images smaller than 63×63.

    >>> from cnn_jax.features import feature_names
    >>> feature_names(AlexNet(num_outputs=1000), (224, 224, 3))["conv5"]
    (13, 13, 256)
    """

    num_outputs: int
    hidden: int = 4096
    dropout: float = 0.5
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        check_network(self, x)
        _check(x.shape, self.hidden)
        x = nn.relu(Conv(64, (11, 11), stride=4, padding=2, dtype=self.dtype, name="conv1")(x))
        x = max_pool(x, 3, stride=2)
        x = nn.relu(Conv(192, (5, 5), padding=2, dtype=self.dtype, name="conv2")(x))
        x = max_pool(x, 3, stride=2)
        for i, features in ((3, 384), (4, 256), (5, 256)):
            x = nn.relu(Conv(features, (3, 3), padding=1, dtype=self.dtype, name=f"conv{i}")(x))
        x = adaptive_average_pool(max_pool(x, 3, stride=2), 6)
        x = x.reshape(x.shape[0], -1)
        for i in (1, 2):
            x = Dropout(self.dropout, axis_name=self.axis_name, name=f"dropout{i}")(x, train)
            x = nn.relu(Dense(self.hidden, kernel_init=nn.initializers.he_normal(), dtype=self.dtype, name=f"dense{i}")(x))
        return Head(self.num_outputs, dtype=self.dtype, name="head")(x)


class AlexNet2012(nn.Module):
    """AlexNet as in Krizhevsky et al. 2012 ("ImageNet classification with deep convolutional neural networks"), 60,965,224 parameters.

    Its two devices are two groups: convolutions 2, 4 and 5 see only their own half. Channels are normalised by their neighbours after
    the first two, and dropout stands after the hidden dense layers. The paper's "224×224" needs 227, or the padding of two used here;
    its constant deviations and its biases of one, which served its learning rates, are left for today's first values.

    Attributes: those of `AlexNet`.

    Raises:
      ValueError: no hidden units; images smaller than 63×63.

    >>> from cnn_jax.features import feature_names
    >>> feature_names(AlexNet2012(num_outputs=1000), (224, 224, 3))["conv3"]
    (13, 13, 384)
    """

    num_outputs: int
    hidden: int = 4096
    dropout: float = 0.5
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        check_network(self, x)
        _check(x.shape, self.hidden)
        x = nn.relu(Conv(96, (11, 11), stride=4, padding=2, dtype=self.dtype, name="conv1")(x))
        x = max_pool(local_response(x), 3, stride=2)
        x = nn.relu(Conv(256, (5, 5), padding=2, groups=2, dtype=self.dtype, name="conv2")(x))
        x = max_pool(local_response(x), 3, stride=2)
        for i, features, groups in ((3, 384, 1), (4, 384, 2), (5, 256, 2)):
            x = nn.relu(Conv(features, (3, 3), padding=1, groups=groups, dtype=self.dtype, name=f"conv{i}")(x))
        x = adaptive_average_pool(max_pool(x, 3, stride=2), 6)
        x = x.reshape(x.shape[0], -1)
        for i in (1, 2):
            x = nn.relu(Dense(self.hidden, kernel_init=nn.initializers.he_normal(), dtype=self.dtype, name=f"dense{i}")(x))
            x = Dropout(self.dropout, axis_name=self.axis_name, name=f"dropout{i}")(x, train)
        return Head(self.num_outputs, dtype=self.dtype, name="head")(x)


def local_response(x):
    """Returns x_i / (2 + 10⁻⁴ · Σ_j x_j²)^0.75, j being the five channels around i (section 3.3). torch and Caffe take their mean.

    Args:
      x: [b, h, w, c].

    Raises:
      ValueError: x is no array [b, h, w, c].

    >>> round(local_response(jnp.full((1, 1, 1, 1), 100.0)).item(), 3), round(100 / 3**0.75, 3)
    (43.869, 43.869)
    """
    check_array("x", x)
    if x.ndim != 4:
        raise ValueError(f"x must be [b, h, w, c], got shape {x.shape}")
    squares = jnp.square(jnp.asarray(x, jnp.float32))
    sums = lax.reduce_window(squares, 0.0, lax.add, (1, 1, 1, 5), (1, 1, 1, 1), ((0, 0), (0, 0), (0, 0), (2, 2)))
    return jnp.asarray(x * (2 + 1e-4 * sums) ** -0.75, x.dtype)


def _check(shape: tuple[int, ...], hidden: int) -> None:
    if hidden < 1:
        raise ValueError(f"hidden={hidden} must be at least 1")
    if min(shape[1:-1]) < 63:  # a stride of 4 and three of 2, and windows that lie within
        raise ValueError(f"images of {shape[1]}×{shape[2]} are too small for AlexNet: each side must be at least 63")
