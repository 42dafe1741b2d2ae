"""The all-convolutional network (Springenberg et al. 2015, "Striving for simplicity: the all convolutional net")."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from cnn_jax.layers import Conv, Dropout
from cnn_jax.models.checks import check_network
from cnn_jax.ops.pool import global_average_pool


class AllCNN(nn.Module):
    """All-CNN-C: nine convolutions, the third and sixth with stride 2 in place of pooling. 1,369,738 parameters (colour, 10 classes).

    [b, h, w, c] images -> [b, num_outputs] in float32. The head is a 1×1 convolution, whose maps are averaged over all space.

    Attributes:
      num_outputs: classes, or the size of an embedding; 0 gives the average of what the head would read.
      width: features of the first three layers; the others have twice as many.
      input_dropout, dropout: rates on the image, and after each convolution with stride 2.
      rectified_head: a rectifier after the head too, as published. Embeddings and scores that should take both signs want it off.
      dtype: of the computation; parameters are float32.
      axis_name: the device axis of dropout, under pmap only.

    Raises:
      ValueError: a width below one; images smaller than 9×9.

    >>> from cnn_jax.features import feature_names
    >>> shapes = feature_names(AllCNN(num_outputs=10), (32, 32, 3))
    >>> shapes["conv6"], shapes["head"]
    ((8, 8, 192), (6, 6, 10))
    """

    num_outputs: int
    width: int = 96
    input_dropout: float = 0.2
    dropout: float = 0.5
    rectified_head: bool = True
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        check_network(self, x)
        if self.width < 1:
            raise ValueError(f"width={self.width} must be at least 1")
        if min(x.shape[1:-1]) < 9:  # the seventh convolution is not padded
            raise ValueError(f"images of {x.shape[1]}×{x.shape[2]} are too small for All-CNN-C: each side must be at least 9")
        x = Dropout(self.input_dropout, axis_name=self.axis_name, name="dropout0")(jnp.asarray(x, self.dtype), train)
        for i in range(1, 9):
            features, window = self.width * (1 if i <= 3 else 2), 1 if i == 8 else 3
            stride, padding = 2 if i in (3, 6) else 1, 0 if i >= 7 else 1
            x = Conv(features, (window, window), stride=stride, padding=padding, dtype=self.dtype, name=f"conv{i}")(x)
            x = nn.relu(x)
            if stride == 2:
                x = Dropout(self.dropout, axis_name=self.axis_name, name=f"dropout{i}")(x, train)
        if self.num_outputs:
            x = Conv(self.num_outputs, (1, 1), dtype=self.dtype, name="head")(x)
            x = nn.relu(x) if self.rectified_head else x
        return global_average_pool(jnp.asarray(x, jnp.float32))
