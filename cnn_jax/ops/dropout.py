"""Random omission and noise as pure functions of a key. Each example's draw depends on its place in the global batch only.

Every function is `f(key, inputs, *, <options>, axis_name=None)` on [b, *space, c], or any [b, ...] where neither
space nor channels matter; integers give float32 (`ops.precision`). Under pmap `axis_name` names the device axis,
so that the same global batch meets the same dice on any number of devices. What is kept is scaled up such that the expectation is
the input ("inverted" dropout): evaluation then needs nothing.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from cnn_jax.ops.arguments import check_array, check_number, is_whole
from cnn_jax.ops.precision import as_floats, result_type, widened
from cnn_jax.ops.random import example_keys


def check_options(*, rate: float = 0.0, size: int = 1, deviation: float = 0.0) -> None:
    """Returns nothing where these options are allowed: the functions below ask first, the layers also when they are idle.

    Raises:
      ValueError: the rate is not in [0, 1], the size is no whole number of at least 1, or the deviation is negative or not finite.

    >>> check_options(rate=0.5)
    """
    check_number("rate", rate, lambda v: 0 <= v <= 1, "in [0, 1]: it is the probability of being dropped")
    if not is_whole(size) or size < 1:
        raise ValueError(f"size={size!r} must be at least 1, a whole number: it is the side of a block")
    check_number("deviation", deviation, lambda v: 0 <= v < math.inf, "finite and not negative")


def dropout(
    key: PRNGKeyArray, inputs: Float[Array, "b *rest"], *, rate: float = 0.5, axis_name: str | None = None
) -> Float[Array, "b *rest"]:
    """Returns the inputs with each value zero with probability `rate`, and divided by 1 − rate otherwise.

    Raises:
      ValueError: the rate is not in [0, 1]; at 1 all is zero. The inputs have no axis for the examples.

    Reference: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.

    >>> sorted(set(dropout(jax.random.key(0), jnp.ones((4, 8)), rate=0.5).ravel().tolist()))
    [0.0, 2.0]
    """
    _check_rank(inputs, 1, "[b, ...]")
    return _drop(key, inputs, rate, inputs.shape[1:], axis_name)


def spatial_dropout(
    key: PRNGKeyArray, inputs: Float[Array, "b *space c"], *, rate: float = 0.5, axis_name: str | None = None
) -> Float[Array, "b *space c"]:
    """Returns the inputs with each channel of each example zero as a whole with probability `rate`, else divided by 1 − rate.

    Neighbouring positions of a feature map say nearly the same, so that dropping them one by one leaves the information in.
    It is torch's `Dropout1d`, `Dropout2d` and `Dropout3d`.

    Raises:
      ValueError: the rate is not in [0, 1]; at 1 all is zero. The inputs have fewer than two axes.

    Reference: Tompson et al., "Efficient object localization using convolutional networks", 2015.

    >>> y = spatial_dropout(jax.random.key(0), jnp.ones((2, 3, 5)))
    >>> bool((y == y[:, :1]).all())
    True
    """
    _check_rank(inputs, 2, "[b, *space, c]")
    return _drop(key, inputs, rate, (1,) * (inputs.ndim - 2) + inputs.shape[-1:], axis_name)


def stochastic_depth(
    key: PRNGKeyArray, inputs: Float[Array, "b *rest"], *, rate: float = 0.5, axis_name: str | None = None
) -> Float[Array, "b *rest"]:
    """Returns the inputs with each example zero as a whole with probability `rate`, else divided by 1 − rate.

    For the residual branch f of x + f(x): the example then skips the block. It is torchvision's `StochasticDepth` in mode "row",
    timm's `DropPath`. The paper scales at test time instead, which is the same in expectation.

    Raises:
      ValueError: the rate is not in [0, 1]; at 1 all is zero. The inputs have no axis for the examples.

    Reference: Huang et al., "Deep networks with stochastic depth", 2016.

    >>> sorted({tuple(row) for row in stochastic_depth(jax.random.key(0), jnp.ones((8, 2)), rate=0.75).tolist()})
    [(0.0, 0.0), (4.0, 4.0)]
    """
    _check_rank(inputs, 1, "[b, ...]")
    return _drop(key, inputs, rate, (1,) * (inputs.ndim - 1), axis_name)


def drop_block(
    key: PRNGKeyArray, inputs: Float[Array, "b *space c"], *, rate: float = 0.1, size: int = 7, axis_name: str | None = None
) -> Float[Array, "b *space c"]:
    """Returns the inputs with square blocks of each channel zero, and what is left scaled by values / values kept.

    Each place where a whole block fits starts one with probability γ = rate · Π_i n_i / (size_i · (n_i − size_i + 1)), n_i being the
    extent of spatial axis i and size_i = min(size, n_i): blocks lie inside, and channels draw on their own. Were there no overlaps,
    a fraction `rate` would be dropped; with them it is somewhat less, as in the paper. The scale is of each example (the paper's
    code counts over the batch), so that no example depends on another; one of which nothing is left is zero.

    Raises:
      ValueError: the rate is not in [0, 1], the size is no whole number of at least 1, or there is no spatial axis.

    Reference: Ghiasi et al., "DropBlock: a regularization method for convolutional networks", 2018.

    >>> y = drop_block(jax.random.key(6), jnp.ones((1, 6, 1)), rate=0.5, size=3)
    >>> y.ravel().tolist()
    [2.0, 0.0, 0.0, 0.0, 2.0, 2.0]
    """
    check_options(rate=rate, size=size)
    check_array("inputs", inputs)
    space, axes = inputs.shape[1:-1], tuple(range(1, inputs.ndim))
    if not space:
        raise ValueError(f"inputs must be [b, *space, c] with a spatial axis, got shape {inputs.shape}")
    if rate == 0 or inputs.size == 0:
        return as_floats(inputs)
    block = tuple(min(size, n) for n in space)
    places = tuple(n - k + 1 for n, k in zip(space, block, strict=True))
    start_probability = rate * math.prod(space) / math.prod(block) / math.prod(places)
    keys = example_keys(key, len(inputs), axis_name=axis_name)
    starts = jax.vmap(lambda key: jax.random.bernoulli(key, start_probability, (*places, inputs.shape[-1])))(keys)
    # A value is dropped if a block starts at it or up to size − 1 before.
    margins = ((0, 0), *((k - 1, k - 1) for k in block), (0, 0))
    kept = ~lax.reduce_window(starts, False, lax.bitwise_or, (1, *block, 1), (1,) * inputs.ndim, margins)
    wide = widened(inputs)
    scale = math.prod(inputs.shape[1:]) / jnp.maximum(kept.sum(axes, dtype=wide.dtype, keepdims=True), 1)
    return jnp.where(kept, wide * scale, 0).astype(result_type(inputs))


def gaussian_noise(
    key: PRNGKeyArray, inputs: Float[Array, "b *rest"], *, deviation: float = 0.1, axis_name: str | None = None
) -> Float[Array, "b *rest"]:
    """Returns x + deviation · n with n normally distributed, of mean 0 and variance 1, drawn for each value.

    Raises:
      ValueError: the deviation is negative or not finite. The inputs have no axis for the examples.

    Reference: Bishop, "Training with noise is equivalent to Tikhonov regularization", 1995.

    >>> gaussian_noise(jax.random.key(0), jnp.ones((2, 3)), deviation=0.0).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    check_options(deviation=deviation)
    _check_rank(inputs, 1, "[b, ...]")
    if deviation == 0:
        return as_floats(inputs)
    wide = widened(inputs)
    keys = example_keys(key, len(inputs), axis_name=axis_name)
    noise = jax.vmap(lambda key: jax.random.normal(key, inputs.shape[1:], wide.dtype))(keys)
    return (wide + deviation * noise).astype(result_type(inputs))


def _check_rank(inputs: jax.Array, least: int, allowed: str) -> None:
    check_array("inputs", inputs)
    if inputs.ndim < least:
        raise ValueError(f"inputs must be {allowed}, got shape {inputs.shape}")


def _drop(key, inputs: jax.Array, rate: float, shape: tuple[int, ...], axis_name: str | None) -> jax.Array:
    """One throw for each example and each element of `shape`, which has the rank of an example."""
    check_options(rate=rate)
    if rate in (0, 1):
        return as_floats(inputs) if rate == 0 else jnp.zeros_like(as_floats(inputs))
    keys = example_keys(key, len(inputs), axis_name=axis_name)
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, shape))(keys)
    # In bfloat16, 0.9 is 0.8984: dividing there would be off by as much on average.
    return jnp.where(kept, widened(inputs) / (1 - rate), 0).astype(result_type(inputs))
