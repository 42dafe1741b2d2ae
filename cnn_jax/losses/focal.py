"""Focal losses: cross-entropy with less weight on what is already right, so that the many easy examples do not drown the few hard ones."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_same_shape, fractions
from cnn_jax.losses.class_weights import Weights
from cnn_jax.losses.examples import hide, per_example, read
from cnn_jax.losses.labelled import labelled, of_label, weight_of_label
from cnn_jax.ops.arguments import check_number


def focal(
    logits: Float[Array, "b *space k"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    gamma: float = 2.0,
    class_weights: Weights | None = None,
    ignore_index: int | None = -100,
) -> Float[Array, "b"]:
    """Returns −w_y·(1 − p_y)^γ·log p_y for int labels y [b] and p = softmax(logits); γ = 0 is cross-entropy.

    Dense predictions [b, *space, k] take labels [b, *space]; an example's value is the mean over the places that count.

    Args:
      class_weights: w, the paper's α, one for each class.
      ignore_index: the label of what does not count, with value and gradient 0.

    Raises:
      ValueError: gamma is negative, a label is out of range (under jit: NaN) or not an int, or shapes or numbers of weights do not fit.

    Reference: Lin et al., "Focal loss for dense object detection", 2017, section 3.

    >>> focal(jnp.zeros((1, 2)), jnp.array([0])).item() == jnp.log(2.0).item() / 4
    True
    """
    z, index, counts = labelled("logits", logits, labels, where, ignore_index)
    log_p = of_label(jax.nn.log_softmax(z), index)
    values = -log_p * focus(-jnp.expm1(log_p), gamma)
    if class_weights is not None:
        values *= weight_of_label(class_weights, index, z)
    return per_example(values, where, logits, counts=counts)


def sigmoid_focal(
    logits: Float[Array, "b *n"],
    targets: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
) -> Float[Array, "b"]:
    """Returns −α_t·(1 − p_t)^γ·log p_t, where a target of 1 says yes, 0 no; p_t = σ(z), α_t = α for yes, 1 − σ(z), 1 − α for no.

    torchvision's `sigmoid_focal_loss`, whose α of −1 is None here. Detectors divide the sum by the number of positives.

    Raises:
      ValueError: alpha lies outside [0, 1], gamma is negative, a target lies outside [0, 1] (under jit: NaN), or shapes differ.

    Reference: Lin et al., "Focal loss for dense object detection", 2017, equation 5.

    >>> sigmoid_focal(jnp.array([0.0]), jnp.array([1]), alpha=None).item() == jnp.log(2.0).item() / 4
    True
    """
    if alpha is not None:
        check_number("alpha", alpha, lambda v: 0 <= v <= 1, "from 0 to 1, or None")
    check_same_shape(logits=logits, targets=targets)
    z = read("logits", logits, where)
    t = fractions("targets", hide(targets, where), z.dtype)
    values = -t * jax.nn.log_sigmoid(z) - (1 - t) * jax.nn.log_sigmoid(-z)
    values *= focus(t * jax.nn.sigmoid(-z) + (1 - t) * jax.nn.sigmoid(z), gamma)
    if alpha is not None:
        values *= alpha * t + (1 - alpha) * (1 - t)
    return per_example(values, where, logits)


def focus(missing: Float[Array, "..."], gamma: float) -> Float[Array, "..."]:
    """Returns missing^γ, the focal losses' factor, with a finite gradient for every γ ≥ 0.

    Raises:
      ValueError: gamma is negative.

    >>> focus(jnp.array([0.0, 0.5]), 2.0).tolist()
    [0.0, 0.25]
    """
    missing = read("missing", missing)
    check_number("gamma", gamma, lambda v: 0 <= v < math.inf, "finite and not negative")
    if gamma == 0:
        return jnp.ones_like(missing)
    # Below 1 the power's derivative at 0 is infinite; times the loss, which is 0 there too, it would be NaN.
    there = ~(missing <= jnp.finfo(missing.dtype).tiny)
    return jnp.where(there, jnp.where(there, missing, 1) ** gamma, 0)
