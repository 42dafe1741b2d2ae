"""Activations with a parameter."""

import math

import flax.linen as nn
import jax.numpy as jnp

from cnn_jax.ops.arguments import check_array, check_flag, check_number
from cnn_jax.ops.rectifiers import prelu


class PReLU(nn.Module):
    """x where it is positive, slope · x elsewhere, the slope being learned. Parameter: `slope`, shape [] or [c].

    Decay of the weights draws it to zero, towards a ReLU; the paper decays it not.

    Attributes:
      per_channel: a slope for each channel rather than one for all, which is torch's default.
      slope_init: the slope to start from.

    Raises:
      ValueError: x is no array, or a field is not of its kind.

    Reference: He et al., "Delving deep into rectifiers", 2015.

    >>> import jax
    >>> y, variables = PReLU(per_channel=True).init_with_output(jax.random.key(0), jnp.array([[-4.0, 8.0]]))
    >>> y.tolist(), variables["params"]["slope"].tolist()
    ([[-1.0, 8.0]], [0.25, 0.25])
    """

    per_channel: bool = False
    slope_init: float = 0.25

    @nn.compact
    def __call__(self, x):
        check_array("x", x)
        check_flag("per_channel", self.per_channel)
        check_number("slope_init", self.slope_init, math.isfinite, "finite")
        shape = (x.shape[-1],) if self.per_channel else ()
        return prelu(x, self.param("slope", nn.initializers.constant(self.slope_init), shape, jnp.float32))
