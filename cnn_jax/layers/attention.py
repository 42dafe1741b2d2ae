"""Attention over channels."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from cnn_jax.layers.conv import Conv
from cnn_jax.ops.activations import named_activation
from cnn_jax.ops.arguments import check_array, check_dtype, is_whole


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate that sees the means of all channels: [b, *space, c] -> [b, *space, c].

    y = x · gate(W₂ · activation(W₁ · mean over space + b₁) + b₂).
    Parameters: two 1×1 convolutions with bias, `reduce` to `hidden` channels and `expand` back to c.

    Attributes:
      hidden: channels in between; c / 16 in the paper.
      activation: a name in `ops.activations.ACTIVATIONS`, after the first convolution.
      gate: such a name, after the second.
      dtype: of the computation.

    Raises:
      ValueError: there are no hidden channels, or no activation of that name.

    Reference: Hu et al., "Squeeze-and-excitation networks", 2018.

    >>> import jax
    >>> layer = SqueezeExcitation(hidden=1)
    >>> y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), jnp.ones((1, 4, 4, 16)))
    >>> y.shape, jax.tree.map(jnp.shape, variables["params"]["reduce"])
    ((1, 4, 4, 16), {'bias': (1,), 'kernel': (1, 1, 16, 1)})
    """

    hidden: int
    activation: str = "relu"
    gate: str = "sigmoid"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        if not is_whole(self.hidden) or self.hidden < 1:
            raise ValueError(f"hidden={self.hidden!r} must be at least 1, a whole number")
        check_array("x", x)
        check_dtype("dtype", self.dtype)
        if x.ndim < 3:
            raise ValueError(f"x must be [b, *space, c], got shape {x.shape}")
        activation, gate = named_activation(self.activation), named_activation(self.gate)
        x = jnp.asarray(x, self.dtype)
        window = (1,) * (x.ndim - 2)
        means = x.mean(axis=tuple(range(1, x.ndim - 1)), keepdims=True)
        hidden = activation(Conv(self.hidden, window, dtype=self.dtype, name="reduce")(means))
        return x * gate(Conv(x.shape[-1], window, dtype=self.dtype, name="expand")(hidden))
