"""Activations: pure functions of one array, with torch's formulas and defaults.

Half precision is computed in float32 and rounded once; integers give float32 (`ops.precision`). Values and gradients are finite at
±10⁴. `ACTIVATIONS` holds, by name, those that keep the shape and need no parameter; `rectifiers.prelu` has one (learned in
`layers.PReLU`), `glu` halves an axis.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn_jax.errors import unknown
from cnn_jax.ops.arguments import check_number, is_whole
from cnn_jax.ops.precision import in_float32
from cnn_jax.ops.rectifiers import celu, elu, hard_sigmoid, hard_swish, hard_tanh, leaky_relu, relu, relu6, selu


def identity(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x.

    >>> identity(jnp.array([-1.0, 2.0])).tolist()
    [-1.0, 2.0]
    """
    return x


@in_float32
def sigmoid(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns 1 / (1 + e^−x), in (0, 1).

    >>> sigmoid(jnp.array([-1e4, 0.0, 1e4])).tolist()
    [0.0, 0.5, 1.0]
    """
    return jax.nn.sigmoid(x)


@in_float32
def tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns (e^x − e^−x) / (e^x + e^−x), in (−1, 1).

    >>> tanh(jnp.array([-1e4, 0.0, 1e4])).tolist()
    [-1.0, 0.0, 1.0]
    """
    return jnp.tanh(x)


@in_float32
def scaled_tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns 1.7159 · tanh(2x / 3): ±1 at ±1, where its second derivative is largest.

    Reference: LeCun et al., "Gradient-based learning applied to document recognition", 1998, appendix A.

    >>> [round(y, 3) for y in scaled_tanh(jnp.array([-1.0, 0.0, 1.0])).tolist()]
    [-1.0, 0.0, 1.0]
    """
    return 1.7159 * jnp.tanh(x * (2 / 3))


@in_float32
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x·Φ(x), Φ being the distribution function of the standard normal: the exact form, torch's default.

    Reference: Hendrycks & Gimpel, "Gaussian error linear units", 2016.

    >>> [round(y, 4) for y in gelu(jnp.array([-1.0, 0.0, 1.0])).tolist()]
    [-0.1587, 0.0, 0.8413]
    """
    return jax.nn.gelu(x, approximate=False)


@in_float32
def gelu_tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x·(1 + tanh u) / 2 with u = √(2/π)·(x + 0.044715·x³), the approximation of `gelu` that GPT-2 was trained with.

    Reference: Hendrycks & Gimpel, "Gaussian error linear units", 2016.

    >>> [round(y, 4) for y in gelu_tanh(jnp.array([-1.0, 0.0, 1.0])).tolist()]
    [-0.1588, 0.0, 0.8412]
    """
    u = (2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)
    return x * jax.nn.sigmoid(2 * u)  # the same, and nothing cancels where tanh u is near −1


@in_float32
def silu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x·sigmoid(x), also called swish.

    References: Elfwing et al., "Sigmoid-weighted linear units", 2017; Ramachandran et al., "Searching for activation functions", 2017.

    >>> [round(y, 4) for y in silu(jnp.array([-1.0, 0.0, 1.0])).tolist()]
    [-0.2689, 0.0, 0.7311]
    """
    return x * jax.nn.sigmoid(x)


@in_float32
def mish(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x·tanh(softplus(x)).

    Reference: Misra, "Mish: a self regularized non-monotonic activation function", 2019.

    >>> [round(y, 4) for y in mish(jnp.array([-1.0, 0.0, 1.0])).tolist()]
    [-0.3034, 0.0, 0.8651]
    """
    return x * jnp.tanh(jax.nn.softplus(x))


@in_float32
def softplus(x: Float[Array, "*shape"], *, beta: float = 1.0) -> Float[Array, "*shape"]:
    """Returns log(1 + e^(βx)) / β, a smooth `relu`.

    torch goes over to x at βx > 20; nothing needs it here, and the difference is below 2.1·10⁻⁹ / β.

    Raises:
      ValueError: β is not positive and finite.

    Reference: Dugas et al., "Incorporating second-order functional knowledge for better option pricing", 2001.

    >>> [round(y, 4) for y in softplus(jnp.array([-1e4, 0.0, 1e4])).tolist()]
    [0.0, 0.6931, 10000.0]
    """
    check_number("beta", beta, lambda v: 0 < v < math.inf, "positive and finite")
    return jax.nn.softplus(beta * x) / beta


@in_float32
def softsign(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x / (1 + |x|).

    Reference: Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.

    >>> softsign(jnp.array([-1.0, 0.0, 3.0])).tolist()
    [-0.5, 0.0, 0.75]
    """
    return x / (1 + jnp.abs(x))


@in_float32
def log_sigmoid(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns log(1 / (1 + e^−x)) as −softplus(−x), which is x, not −∞, for large negative x.

    >>> log_sigmoid(jnp.array([-1e4, 1e4])).tolist()
    [-10000.0, -0.0]
    """
    return -jax.nn.softplus(-x)


@in_float32
def softmax(x: Float[Array, "*shape"], *, axis: int = -1) -> Float[Array, "*shape"]:
    """Returns e^x / Σ e^x along an axis: positive numbers that add up to 1.

    Raises:
      ValueError: x has no such axis.

    Reference: Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.

    >>> softmax(jnp.array([0.0, 0.0, -1e4])).tolist()
    [0.5, 0.5, 0.0]
    """
    _check_axis(axis, x)
    return jax.nn.softmax(x, axis=axis)


@in_float32
def softmin(x: Float[Array, "*shape"], *, axis: int = -1) -> Float[Array, "*shape"]:
    """Returns e^−x / Σ e^−x along an axis: the smallest gets most.

    Raises:
      ValueError: x has no such axis.

    >>> softmin(jnp.array([0.0, 0.0, 1e4])).tolist()
    [0.5, 0.5, 0.0]
    """
    _check_axis(axis, x)
    return jax.nn.softmax(-x, axis=axis)


@in_float32
def log_softmax(x: Float[Array, "*shape"], *, axis: int = -1) -> Float[Array, "*shape"]:
    """Returns x − log Σ e^x along an axis: the logarithm of `softmax`, finite where that is 0.

    Raises:
      ValueError: x has no such axis.

    >>> log_softmax(jnp.array([0.0, -1e4])).tolist()
    [0.0, -10000.0]
    """
    _check_axis(axis, x)
    return jax.nn.log_softmax(x, axis=axis)


@in_float32
def glu(x: Float[Array, "..."], *, axis: int = -1) -> Float[Array, "..."]:
    """Returns a·sigmoid(b), a and b being the halves of x along an axis.

    Raises:
      ValueError: there is no such axis, or it has an odd size.

    Reference: Dauphin et al., "Language modeling with gated convolutional networks", 2017.

    >>> glu(jnp.array([3.0, 4.0, 0.0, 1e4])).tolist()
    [1.5, 4.0]
    """
    _check_axis(axis, x)
    if x.shape[axis] % 2:
        raise ValueError(f"axis={axis} must have an even size to be halved, got shape {x.shape}")
    a, b = jnp.split(x, 2, axis=axis)
    return a * jax.nn.sigmoid(b)


# Activations by name.
ACTIVATIONS: dict[str, Callable[..., jax.Array]] = {
    function.__name__: function
    for function in (
        identity, sigmoid, tanh, scaled_tanh, relu, relu6, leaky_relu, elu, selu, celu, gelu, gelu_tanh, silu, mish,
        hard_sigmoid, hard_swish, hard_tanh, softplus, softsign, log_sigmoid, softmax, softmin, log_softmax,
    )
} | {"swish": silu}  # fmt: skip


def named_activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """Returns the activation of that name in `ACTIVATIONS`.

    Raises:
      ValueError: there is none; names the nearest, then all.

    >>> named_activation("relu")(jnp.array([-1.0])).tolist()
    [0.0]
    """
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(str(unknown("activation", name, ACTIVATIONS)))
    return ACTIVATIONS[name]


def _check_axis(axis: int, x: jax.Array) -> None:
    if not is_whole(axis) or not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis={axis!r} is none of the {x.ndim} axes of shape {x.shape}: it must be in [{-x.ndim}, {x.ndim - 1}]")
