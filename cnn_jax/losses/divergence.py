"""Distances between distributions over classes, and learning from another network's."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_log_probabilities, check_rows, check_same_shape, fractions
from cnn_jax.losses.classification import softmax_cross_entropy
from cnn_jax.losses.examples import hide, per_example, read
from cnn_jax.ops.arguments import check_flag, check_number
from cnn_jax.ops.precision import result_type


def kl_divergence(
    log_probabilities: Float[Array, "b *n"], targets: Array, *, where: Bool[Array, "b"] | None = None, log_target: bool = False
) -> Float[Array, "b"]:
    """Returns Σ_j t_j·(log t_j − log p_j), how far the network's log p lies from the target distribution t; 0·log 0 is 0.

    The first argument holds *logarithms*, as from `jax.nn.log_softmax`, the targets probabilities: torch's order and polarity. Elements are
    summed, so that the mean over examples is torch's `reduction="batchmean"`, which is the divergence; its "mean" is not.

    Args:
      log_target: the targets are logarithms too.

    Raises:
      ValueError: a log-probability is above 0 (not noticed under jit), a target lies outside [0, 1] (under jit: NaN), or shapes differ.

    Reference: Kullback and Leibler, "On information and sufficiency", 1951.

    >>> kl_divergence(jnp.log(jnp.array([[0.5, 0.5]])), jnp.array([[1.0, 0.0]])).item() == jnp.log(2.0).item()
    True
    """
    check_flag("log_target", log_target)
    check_same_shape(log_probabilities=log_probabilities, targets=targets)
    log_p = read("log_probabilities", log_probabilities, where)
    check_log_probabilities("log_probabilities", log_p)
    t = hide(targets, where)
    if log_target:
        check_log_probabilities("targets", t)
        log_t = t.astype(log_p.dtype)
        t = jnp.exp(log_t)
    else:
        t = fractions("targets", t, log_p.dtype)
        log_t = jnp.log(jnp.where(t == 0, 1, t))
    # What the target rules out costs nothing, even where log p is −∞.
    terms = t * jnp.where(t == 0, 0, log_t - log_p)
    return per_example(terms.sum(tuple(range(1, terms.ndim))), where, log_probabilities)


def jensen_shannon(
    log_probabilities: Float[Array, "b k"], others: Array, *, where: Bool[Array, "b"] | None = None
) -> Float[Array, "b"]:
    """Returns ½·KL(p ‖ m) + ½·KL(q ‖ m) with m = ½·(p + q), from log p and log q; symmetric, from 0 to log 2.

    Raises:
      ValueError: a log-probability is above 0 (not noticed under jit), or shapes differ.

    Reference: Lin, "Divergence measures based on the Shannon entropy", 1991.

    >>> jensen_shannon(jnp.log(jnp.array([[1.0, 1e-30]])), jnp.log(jnp.array([[1e-30, 1.0]]))).item() == jnp.log(2.0).item()
    True
    """
    check_rows("log_probabilities", log_probabilities, "[b, k]")
    check_same_shape(log_probabilities=log_probabilities, others=others)
    log_p, log_q = read("log_probabilities", log_probabilities, where), read("others", others, where)
    check_log_probabilities("log_probabilities", log_p)
    check_log_probabilities("others", log_q)
    # Below this a probability is 0 in float32; a log of −∞ would make NaN of 0 · −∞ here and in the derivative.
    log_p, log_q = jnp.maximum(log_p, -200), jnp.maximum(log_q, -200)
    log_m = jnp.logaddexp(log_p, log_q) - math.log(2)
    terms = jnp.exp(log_p) * (log_p - log_m) + jnp.exp(log_q) * (log_q - log_m)
    return per_example(0.5 * terms.sum(1), where, log_probabilities)


def distillation(
    logits: Float[Array, "b k"],
    teacher_logits: Array,
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    temperature: float = 4.0,
    weight: float = 0.9,
) -> Float[Array, "b"]:
    """Returns weight·T²·KL(softmax(teacher / T) ‖ softmax(logits / T)) + (1 − weight)·cross-entropy(logits, labels), labels being ints [b].

    T² keeps the soft part's gradient of one size whatever T. The teacher gets no gradient.

    Args:
      temperature: T, positive: higher shows more of what the teacher holds likely besides its first choice.
      weight: from 0 to 1; 1 learns from the teacher alone. The defaults are those of Cho and Hariharan, 2019.

    Raises:
      ValueError: the temperature is not positive, the weight outside [0, 1], a label is out of range (under jit: NaN) or not an int, or
        shapes differ.

    Reference: Hinton et al., "Distilling the knowledge in a neural network", 2015, section 2.

    >>> distillation(jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 2.0]]), jnp.array([1]), weight=1.0).tolist()
    [0.0]
    """
    check_number("temperature", temperature, lambda v: 0 < v < math.inf, "positive and finite")
    check_number("weight", weight, lambda v: 0 <= v <= 1, "from 0 to 1")
    check_rows("logits", logits, "[b, k]")
    check_same_shape(logits=logits, teacher_logits=teacher_logits)
    student, teacher = read("logits", logits, where), read("teacher_logits", lax.stop_gradient(teacher_logits), where)
    log_p, log_t = jax.nn.log_softmax(student / temperature), jax.nn.log_softmax(teacher / temperature)
    soft = temperature**2 * kl_divergence(log_p, log_t, where=where, log_target=True)
    hard = softmax_cross_entropy(student, labels, where=where, ignore_index=None)
    return (weight * soft + (1 - weight) * hard).astype(result_type(logits))
