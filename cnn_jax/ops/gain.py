"""How much an activation shrinks signals, for initial weights that make up for it."""

import math

from cnn_jax.ops.arguments import check_number, check_word


def gain(activation: str, *, negative_slope: float = 0.01) -> float:
    """Returns the factor by which weights must be larger so that signals keep their size through the activation; torch's table.

    Multiply a deviation by it, or `scale` of `orthogonal` and `delta_orthogonal`.

    Args:
      activation: linear, sigmoid, tanh, relu, leaky_relu or selu.
      negative_slope: of leaky_relu.

    Raises:
      ValueError: another activation.

    Reference: torch.nn.init.calculate_gain; He et al., "Delving deep into rectifiers", 2015, equations 10 and 15.

    >>> round(gain("relu") ** 2, 6), gain("linear")
    (2.0, 1.0)
    """
    check_number("negative_slope", negative_slope, math.isfinite, "finite")
    gains = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + negative_slope**2)),
        "selu": 3 / 4,
    }
    check_word("activation", activation, gains)
    return gains[activation]
