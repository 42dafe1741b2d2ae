"""Losses of k independent questions: logits [b, k] and targets [b, k], 1 where a class applies and 0 where it does not.

`sigmoid_cross_entropy` asks them of examples with one label.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.binary import binary_cross_entropy_with_logits
from cnn_jax.losses.checks import check_rows, check_same_shape, fractions
from cnn_jax.losses.class_weights import Weights
from cnn_jax.losses.examples import hide, per_example, read
from cnn_jax.losses.focal import focus
from cnn_jax.losses.labelled import labelled
from cnn_jax.ops.arguments import check_number
from cnn_jax.ops.precision import result_type


def sigmoid_cross_entropy(
    logits: Float[Array, "b k"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    smoothing: float = 0.0,
    pos_weight: Weights | float | None = None,
    class_weights: Weights | None = None,
) -> Float[Array, "b"]:
    """Returns −Σ_j w_j·(v_j·t_j·log σ(z_j) + (1 − t_j)·log σ(−z_j)) for int labels [b], t being their one-hot form: each class against all.

    Summed over classes, not averaged: at k = 1000 the mean's gradients are a thousandth.

    Args:
      smoothing: t is (1 − smoothing)·one-hot + smoothing / k.
      pos_weight: v, one for each class, or one for all.
      class_weights: w, one for each class.

    Raises:
      ValueError: smoothing lies outside [0, 1), a label is out of range (under jit: NaN) or not an int, or shapes or numbers of weights
        do not fit.

    Reference: Beyer et al., "Are we done with ImageNet?", 2020; Wightman et al., "ResNet strikes back", 2021 (with the mean over classes).

    >>> sigmoid_cross_entropy(jnp.zeros((1, 3)), jnp.array([2])).item() == 3 * jnp.log(2.0).item()
    True
    """
    check_number("smoothing", smoothing, lambda v: 0 <= v < 1, "at least 0 and less than 1")
    check_rows("logits", logits, "[b, k]")
    z, index, _ = labelled("logits", logits, labels, where, None)
    k = logits.shape[1]
    classes = jnp.arange(k)[None, :]
    targets = jnp.where(index[:, None] < k, (classes == index[:, None]).astype(z.dtype), jnp.nan)
    targets = targets * (1 - smoothing) + smoothing / k
    mean = binary_cross_entropy_with_logits(z, targets, where=where, pos_weight=pos_weight, class_weights=class_weights)
    return (mean * k).astype(result_type(logits))


def multi_label_soft_margin(
    logits: Float[Array, "b k"], targets: Array, *, where: Bool[Array, "b"] | None = None, class_weights: Weights | None = None
) -> Float[Array, "b"]:
    """Returns −Σ_j w_j·(t_j·log σ(z_j) + (1 − t_j)·log σ(−z_j)) / k for targets of 1 (applies) and 0.

    torch's name for `binary_cross_entropy_with_logits` on [b, k].

    Raises:
      ValueError: a target lies outside [0, 1] (under jit: NaN), or shapes or numbers of weights do not fit.

    >>> multi_label_soft_margin(jnp.zeros((1, 3)), jnp.array([[1, 0, 1]])).item() == jnp.log(2.0).item()
    True
    """
    return binary_cross_entropy_with_logits(logits, targets, where=where, class_weights=class_weights)


def multi_label_margin(logits: Float[Array, "b k"], targets: Array, *, where: Bool[Array, "b"] | None = None) -> Float[Array, "b"]:
    """Returns Σ_{i applies} Σ_{j does not} max(0, 1 − (z_i − z_j)) / k for targets of 1 (applies) and 0.

    torch's formula; its targets are lists of class numbers that end in −1. Memory is b·k².

    Raises:
      ValueError: a target lies outside [0, 1] (under jit: NaN), or shapes differ.

    >>> multi_label_margin(jnp.array([[0.5, 0.0, 2.0]]), jnp.array([[1, 0, 0]])).tolist()
    [1.0]
    """
    check_rows("logits", logits, "[b, k]")
    check_same_shape(logits=logits, targets=targets)
    z = read("logits", logits, where)
    t = fractions("targets", hide(targets, where), z.dtype)
    short = jnp.maximum(1 - (z[:, :, None] - z[:, None, :]), 0)
    return per_example((t[:, :, None] * (1 - t[:, None, :]) * short).sum((1, 2)) / z.shape[1], where, logits)


def asymmetric(
    logits: Float[Array, "b k"],
    targets: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    gamma_negative: float = 4.0,
    gamma_positive: float = 1.0,
    shift: float = 0.05,
) -> Float[Array, "b"]:
    """Returns −Σ_j (t_j·(1 − p_j)^γ₊·log p_j + (1 − t_j)·m_j^γ₋·log(1 − m_j)) for targets of 1 (applies) and 0.

    p = σ(z) and m = max(0, p − shift): negatives below the shift cost nothing. Summed over classes, as in the paper and in timm, whose
    settings are the defaults.

    Raises:
      ValueError: a gamma is negative, the shift outside [0, 1), a target outside [0, 1] (under jit: NaN), or shapes differ.

    Reference: Ridnik et al., "Asymmetric loss for multi-label classification", 2021, equation 7.

    >>> losses = asymmetric(jnp.zeros((1, 2)), jnp.array([[1, 0]]), gamma_negative=0.0, gamma_positive=0.0, shift=0.0)
    >>> losses.item() == 2 * jnp.log(2.0).item()
    True
    """
    check_number("shift", shift, lambda v: 0 <= v < 1, "at least 0 and less than 1")
    for name, gamma in (("gamma_negative", gamma_negative), ("gamma_positive", gamma_positive)):
        check_number(name, gamma, lambda v: 0 <= v < math.inf, "finite and not negative")
    check_rows("logits", logits, "[b, k]")
    check_same_shape(logits=logits, targets=targets)
    z = read("logits", logits, where)
    t = fractions("targets", hide(targets, where), z.dtype)
    shifted = jnp.maximum(jax.nn.sigmoid(z) - shift, 0)
    yes = focus(jax.nn.sigmoid(-z), gamma_positive) * jax.nn.log_sigmoid(z)
    # 1 − σ(z) cancels to 0 for large z, log σ(−z) does not; with a shift the logarithm's argument is at least that.
    no = focus(shifted, gamma_negative) * (jnp.log1p(-shifted) if shift else jax.nn.log_sigmoid(-z))
    return per_example(-(t * yes + (1 - t) * no).sum(1), where, logits)
