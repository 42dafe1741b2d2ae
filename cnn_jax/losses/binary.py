"""Losses on yes or no, an element at a time: targets of the outputs' shape, [b] or [b, *n]. An example's value is the mean of its elements.

Polarity: 0 and 1 for the losses on probabilities and logits (anything between is a soft target), −1 and +1 for those on `scores`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_same_shape, fractions, signs
from cnn_jax.losses.class_weights import Weights, weights_array
from cnn_jax.losses.examples import hide, per_example, read
from cnn_jax.ops.arguments import check_number


def binary_cross_entropy(
    probabilities: Float[Array, "b *n"], targets: Array, *, where: Bool[Array, "b"] | None = None
) -> Float[Array, "b"]:
    """Returns −t·log p − (1 − t)·log(1 − p), where a target of 1 says yes, 0 no.

    As in torch, a logarithm is at least −100 and the gradient (p − t) / max(p·(1 − p), 1e-12), so both are finite at p of 0 and 1. A
    network that ends in logits is better served by `binary_cross_entropy_with_logits`.

    Raises:
      ValueError: a probability or target lies outside [0, 1] (under jit: NaN), or shapes differ.

    Reference: torch's `binary_cross_entropy`.

    >>> binary_cross_entropy(jnp.array([0.5, 0.0]), jnp.array([1, 1])).tolist()
    [0.6931471824645996, 100.0]
    """
    check_same_shape(probabilities=probabilities, targets=targets)
    p = read("probabilities", probabilities, where)
    p = fractions("probabilities", p, p.dtype)
    return per_example(_cross_entropy(p, fractions("targets", hide(targets, where), p.dtype)), where, probabilities)


def binary_cross_entropy_with_logits(
    logits: Float[Array, "b *n"],
    targets: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    pos_weight: Weights | float | None = None,
    class_weights: Weights | None = None,
    smoothing: float = 0.0,
) -> Float[Array, "b"]:
    """Returns −w·t·log σ(z) − (1 − t)·log σ(−z), where a target of 1 says yes, 0 no. Nothing overflows.

    Args:
      pos_weight: w, one for each place of the last axis, or one for all: above 1 for recall, below for precision.
      class_weights: weights of the whole term, likewise (torch's `weight`).
      smoothing: draws targets towards ½, t·(1 − s) + ½·s.

    Raises:
      ValueError: a target lies outside [0, 1] (under jit: NaN), smoothing outside [0, 1), or shapes or numbers of weights do not fit.

    Reference: torch's `binary_cross_entropy_with_logits`, which has no smoothing.

    >>> binary_cross_entropy_with_logits(jnp.array([0.0, -1e4]), jnp.array([1, 1])).tolist()
    [0.6931471824645996, 10000.0]
    """
    check_number("smoothing", smoothing, lambda v: 0 <= v < 1, "at least 0 and less than 1")
    check_same_shape(logits=logits, targets=targets)
    z = read("logits", logits, where)
    t = fractions("targets", hide(targets, where), z.dtype) * (1 - smoothing) + 0.5 * smoothing
    yes = t if pos_weight is None else t * _along_last("pos_weight", pos_weight, z)
    values = -yes * jax.nn.log_sigmoid(z) - (1 - t) * jax.nn.log_sigmoid(-z)
    if class_weights is not None:
        values *= _along_last("class_weights", class_weights, z)
    return per_example(values, where, logits)


def soft_margin(scores: Float[Array, "b *n"], targets: Array, *, where: Bool[Array, "b"] | None = None) -> Float[Array, "b"]:
    """Returns log(1 + e^(−t·s)), where a target of +1 asks for a high score, −1 for a low one. The logistic loss.

    Raises:
      ValueError: a target is neither +1 nor −1 (under jit: NaN), targets are booleans, or shapes differ.

    Reference: torch's `soft_margin_loss`.

    >>> soft_margin(jnp.array([0.0, 1e4]), jnp.array([1, -1])).tolist()
    [0.6931471824645996, 10000.0]
    """
    return per_example(-jax.nn.log_sigmoid(_agreement(scores, targets, where)), where, scores)


def hinge(scores: Float[Array, "b *n"], targets: Array, *, where: Bool[Array, "b"] | None = None) -> Float[Array, "b"]:
    """Returns max(0, 1 − t·s), where a target of +1 asks for a high score, −1 for a low one: the support vector machine's loss.

    Raises:
      ValueError: a target is neither +1 nor −1 (under jit: NaN), targets are booleans, or shapes differ.

    Reference: Cortes and Vapnik, "Support-vector networks", 1995.

    >>> hinge(jnp.array([0.25, 0.25]), jnp.array([1, -1])).tolist()
    [0.75, 1.25]
    """
    return per_example(jnp.maximum(1 - _agreement(scores, targets, where), 0), where, scores)


def squared_hinge(scores: Float[Array, "b *n"], targets: Array, *, where: Bool[Array, "b"] | None = None) -> Float[Array, "b"]:
    """Returns max(0, 1 − t·s)², where a target of +1 asks for a high score, −1 for a low one.

    Raises:
      ValueError: a target is neither +1 nor −1 (under jit: NaN), targets are booleans, or shapes differ.

    Reference: Keras' SquaredHinge.

    >>> squared_hinge(jnp.array([0.5, 0.5]), jnp.array([1, -1])).tolist()
    [0.25, 2.25]
    """
    return per_example(jnp.square(jnp.maximum(1 - _agreement(scores, targets, where), 0)), where, scores)


def _agreement(scores: Array, targets: Array, where: Array | None) -> jax.Array:
    check_same_shape(scores=scores, targets=targets)
    s = read("scores", scores, where)
    return s * signs("targets", hide(targets, where, fill=1.0), s.dtype)


def _along_last(name: str, weights: Weights | float, z: Array) -> jax.Array:
    """Weights of the last axis, in a shape that multiplies z. With one output an example there is one weight."""
    size = z.shape[-1] if z.ndim > 1 else 1
    return weights_array(name, weights, size, z.dtype).reshape((1,) * (z.ndim - 1) + (size,))


@jax.custom_jvp
def _cross_entropy(p: jax.Array, t: jax.Array) -> jax.Array:
    return -t * jnp.maximum(jnp.log(p), -100) - (1 - t) * jnp.maximum(jnp.log1p(-p), -100)


@_cross_entropy.defjvp
def _cross_entropy_jvp(primals, tangents):
    (p, t), (dp, dt) = primals, tangents
    by_target = jnp.maximum(jnp.log1p(-p), -100) - jnp.maximum(jnp.log(p), -100)
    return _cross_entropy(p, t), (p - t) / jnp.maximum(p * (1 - p), 1e-12) * dp + by_target * dt
