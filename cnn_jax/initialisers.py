"""Initial weights by name: each is a function (key, shape, dtype) -> array, or makes one.

The axes of a kernel are [*window, c_in / groups, c_out], of a dense one [c_in, c_out]. So fan_in is what one output sums over,
window · c_in / groups, and fan_out is window · c_out, in torch too, where groups are not divided out of it.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer, ones, variance_scaling, zeros
from jax.nn.initializers import constant as _constant
from jax.nn.initializers import normal as _normal
from jax.nn.initializers import orthogonal as _orthogonal
from jax.nn.initializers import truncated_normal as _truncated_normal

from cnn_jax.errors import unknown
from cnn_jax.ops.arguments import check_array, check_function, check_number, is_number, is_several, is_whole

# Glorot & Bengio 2010 ("Understanding the difficulty of training deep feedforward neural networks"), also called Xavier.
glorot_uniform = variance_scaling(1.0, "fan_avg", "uniform")  # uniform, of variance 2 / (fan_in + fan_out)
glorot_normal = variance_scaling(1.0, "fan_avg", "normal")  # normal, of variance 2 / (fan_in + fan_out)
# He et al. 2015 ("Delving deep into rectifiers"), torch's kaiming_*; fan_out is what torchvision's residual nets use.
he_uniform = variance_scaling(2.0, "fan_in", "uniform")  # uniform, of variance 2 / fan_in
he_normal = variance_scaling(2.0, "fan_in", "normal")  # normal, of variance 2 / fan_in
he_normal_fan_out = variance_scaling(2.0, "fan_out", "normal")  # normal, of variance 2 / fan_out
# 1/√fan_in, LeCun et al. 1998: for layers that are not followed by a rectifier. Truncated as in flax and Keras.
lecun_normal = variance_scaling(1.0, "fan_in", "truncated_normal")  # truncated normal, of variance 1 / fan_in
lecun_uniform = variance_scaling(1.0, "fan_in", "uniform")  # uniform, of variance 1 / fan_in
# What torch's convolutions and linear layers start from: kaiming_uniform_(a=√5), which is uniform in ±1/√fan_in.
torch_default = variance_scaling(1 / 3, "fan_in", "uniform")


def constant(value: float) -> Initializer:
    """Returns an initialiser of that value everywhere.

    Raises:
      ValueError: the value is no number or array.

    >>> constant(2.0)(jax.random.key(0), (2,), jnp.float32).tolist()
    [2.0, 2.0]
    """
    if not is_number(value):
        check_array("value", value)
    return _constant(value)


def normal(deviation: float = 0.02) -> Initializer:
    """Returns an initialiser N(0, deviation²); AlexNet had 0.01.

    Raises:
      ValueError: the deviation is negative or not finite.

    >>> normal(0.0)(jax.random.key(0), (2,), jnp.float32).tolist()
    [0.0, 0.0]
    """
    _check("deviation", deviation)
    return _normal(deviation)


def truncated_normal(deviation: float = 0.02) -> Initializer:
    """Returns an initialiser N(0, deviation²) without what is beyond two deviations, which leaves 0.88 of the deviation.

    timm's and torch's trunc_normal_ cut at ±2 whatever the deviation, so with 0.02 not at all: that is `normal`.

    Raises:
      ValueError: the deviation is negative or not finite.

    >>> bool(jnp.abs(truncated_normal(0.5)(jax.random.key(0), (100,), jnp.float32)).max() <= 1.0)
    True
    """
    _check("deviation", deviation)
    return _truncated_normal(deviation)


def uniform(bound: float = 0.05) -> Initializer:
    """Returns an initialiser uniform in [−bound, bound); Keras' default bound.

    Raises:
      ValueError: the bound is negative or not finite.

    >>> uniform(0.0)(jax.random.key(0), (2,), jnp.float32).tolist()
    [0.0, 0.0]
    """
    _check("bound", bound)

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def torch_default_bias(fan_in: int) -> Initializer:
    """Returns the initialiser of the bias that goes with `torch_default`: uniform in ±1/√fan_in, of the *kernel's* fan_in.

    Args:
      fan_in: window · c_in / groups.

    Raises:
      ValueError: fan_in is below 1.

    >>> bool(jnp.abs(torch_default_bias(4)(jax.random.key(0), (100,), jnp.float32)).max() <= 0.5)
    True
    """
    check_number("fan_in", fan_in, lambda v: is_whole(v) and v >= 1, "at least 1, a whole number")
    return uniform(1 / math.sqrt(fan_in))


def lenet_uniform(key, shape, dtype=jnp.float32) -> jax.Array:
    """Returns weights uniform in ±2.4 / fan_in, as LeNet-5 started.

    Args:
      shape: [*window, c_in / groups, c_out].

    Raises:
      ValueError: (from what it returns) a shape without two channel axes, or with an axis that is no whole number of at least 1.

    Reference: LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998, appendix A.

    >>> bool(jnp.abs(lenet_uniform(jax.random.key(0), (5, 5, 1, 6))).max() <= 2.4 / 25)
    True
    """
    _check_shape(shape)
    return uniform(2.4 / math.prod(shape[:-1]))(key, shape, dtype)


def orthogonal(scale: float = 1.0) -> Initializer:
    """Returns an initialiser whose kernel, as a matrix [window · c_in, c_out], has orthonormal columns (or rows, if it is wide) · scale.

    Raises:
      ValueError: the kernel has fewer than two axes.

    Reference: Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks", 2013.

    >>> w = orthogonal()(jax.random.key(0), (3, 2), jnp.float32)
    >>> bool(jnp.allclose(w.T @ w, jnp.eye(2), atol=1e-5))
    True
    """

    check_number("scale", scale, math.isfinite, "finite")

    def init(key, shape, dtype=jnp.float32):
        _check_shape(shape)
        # The decomposition inside knows no half precision.
        return _orthogonal(scale)(key, shape, jnp.promote_types(dtype, jnp.float32)).astype(dtype)

    return init


def delta_orthogonal(scale: float = 1.0) -> Initializer:
    """Returns an initialiser that is orthogonal across channels at the window's middle tap and zero at all others.

    With c_in ≤ c_out the convolution keeps every image's norm (· scale), so that plain nets of ten thousand layers can learn;
    jax's own refuses c_in > c_out, here the rows are then orthonormal.

    Raises:
      ValueError: the kernel has fewer than two axes.

    Reference: Xiao et al., "Dynamical Isometry and a Mean Field Theory of CNNs", 2018, algorithm 1.

    >>> w = delta_orthogonal()(jax.random.key(0), (3, 2, 2), jnp.float32)
    >>> bool(jnp.allclose(w[1].T @ w[1], jnp.eye(2), atol=1e-5)), jnp.abs(w[::2]).max().item()
    (True, 0.0)
    """

    check_number("scale", scale, math.isfinite, "finite")

    def init(key, shape, dtype=jnp.float32):
        middle = _middle(shape)
        return jnp.zeros(shape, dtype).at[middle].set(orthogonal(scale)(key, shape[-2:], dtype))

    return init


def dirac(groups: int = 1) -> Initializer:
    """Returns an initialiser that makes the convolution the identity: output channel i is input channel i, within each group.

    Where a group has more outputs than inputs the rest are zero; where it has fewer, the last inputs are not passed on. A dense
    kernel becomes the identity matrix. torch's dirac_, but at an even window's first middle tap, which is the identity under SAME.

    Raises:
      ValueError: the groups do not divide the outputs, or the kernel has fewer than two axes.

    Reference: Zagoruyko & Komodakis, "DiracNets", 2017.

    >>> dirac()(jax.random.key(0), (3, 1, 1), jnp.float32).ravel().tolist()
    [0.0, 1.0, 0.0]
    """
    check_number("groups", groups, lambda v: is_whole(v) and v >= 1, "at least 1, a whole number")

    def init(key, shape, dtype=jnp.float32):
        del key
        middle = _middle(shape)
        c_in, c_out = shape[-2:]
        if c_out % groups:
            raise ValueError(f"groups={groups} must divide the {c_out} output channels of a kernel of shape {tuple(shape)}")
        outputs = np.arange(c_out) % (c_out // groups)
        return jnp.zeros(shape, dtype).at[middle].set((np.arange(c_in)[:, None] == outputs[None]).astype(dtype))

    return init


def sparse(sparsity: float = 0.9, deviation: float = 0.01) -> Initializer:
    """Returns an initialiser N(0, deviation²) in which every output has the same number of zeros, ⌈sparsity · fan_in⌉, at random.

    torch's sparse_ puts the zeros among the outputs of each input; the paper, and this, among the inputs of each output.

    Raises:
      ValueError: sparsity lies outside [0, 1], or the deviation is negative or not finite.

    Reference: Martens, "Deep learning via Hessian-free optimization", 2010, section 5.

    >>> w = sparse(0.5)(jax.random.key(0), (10, 3), jnp.float32)
    >>> (w == 0).sum(0).tolist()
    [5, 5, 5]
    """
    _check("deviation", deviation)
    check_number("sparsity", sparsity, lambda v: 0 <= v <= 1, "from 0 to 1")

    def init(key, shape, dtype=jnp.float32):
        _check_shape(shape)
        weight_key, order_key = jax.random.split(key)
        fan_in = math.prod(shape[:-1])
        places = jnp.broadcast_to(jnp.arange(fan_in)[:, None], (fan_in, shape[-1]))
        kept = jax.random.permutation(order_key, places, axis=0, independent=True) >= math.ceil(sparsity * fan_in)
        return jnp.where(kept.reshape(shape), _normal(deviation)(weight_key, shape, dtype), 0)

    return init


def _middle(shape) -> tuple[int, ...]:
    _check_shape(shape)
    return tuple((size - 1) // 2 for size in shape[:-2])


def _check(name: str, value: float, least: float = 0) -> None:
    check_number(name, value, lambda v: least <= v < math.inf, f"at least {least} and finite")


def _check_shape(shape) -> None:
    if not is_several(shape) or not all(is_whole(n) and n >= 1 for n in shape):
        raise ValueError(f"shape={shape!r} must be whole numbers of at least 1, [*window, c_in, c_out]")
    if len(shape) < 2:
        raise ValueError(f"a kernel of shape {tuple(shape)} has no channels: it must be [*window, c_in, c_out]")


def check_initialiser(name: str, init: Initializer) -> None:
    """Raises ValueError unless it is a function, as an initialiser is; a name of one is none.

    >>> check_initialiser("kernel_init", "he_normal")
    Traceback (most recent call last):
    ValueError: kernel_init='he_normal' must be a function (key, shape, dtype) -> array, such as named_initialiser("he_normal")
    """
    check_function(name, init, 'a function (key, shape, dtype) -> array, such as named_initialiser("he_normal")')


# (key, shape, dtype) -> array, with the defaults of those that have options.
INITIALISERS: dict[str, Initializer] = {
    "zeros": zeros,
    "ones": ones,
    "normal": normal(),
    "truncated_normal": truncated_normal(),
    "uniform": uniform(),
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "he_normal_fan_out": he_normal_fan_out,
    "lecun_uniform": lecun_uniform,
    "lecun_normal": lecun_normal,
    "lenet_uniform": lenet_uniform,
    "torch_default": torch_default,
    "orthogonal": orthogonal(),
    "delta_orthogonal": delta_orthogonal(),
    "dirac": dirac(),
    "sparse": sparse(),
}


def named_initialiser(name: str) -> Initializer:
    """Returns the initialiser of that name in `INITIALISERS`.

    Raises:
      ValueError: there is none; names the nearest, then all.

    >>> named_initialiser("ones")(jax.random.key(0), (2,), jnp.float32).tolist()
    [1.0, 1.0]
    """
    if not isinstance(name, str) or name not in INITIALISERS:
        raise ValueError(str(unknown("initialiser", name, INITIALISERS)))
    return INITIALISERS[name]
