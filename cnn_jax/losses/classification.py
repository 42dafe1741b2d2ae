"""Losses of one class among k: logits [b, k] and int labels [b].

Dense predictions [b, *space, k] take labels [b, *space]; an example's value is then the mean over its places that count.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_log_probabilities, check_rows, check_same_shape, described, fractions
from cnn_jax.losses.class_weights import Weights, weights_array
from cnn_jax.losses.examples import hide, per_example, read
from cnn_jax.losses.labelled import labelled, of_label, weight_of_label
from cnn_jax.ops.arguments import check_array, check_number, check_values


def negative_log_likelihood(
    log_probabilities: Float[Array, "b *space k"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    class_weights: Weights | None = None,
    ignore_index: int | None = -100,
) -> Float[Array, "b"]:
    """Returns −w_y·log p_y for int labels y [b] and log-probabilities [b, k], as from `jax.nn.log_softmax`.

    Args:
      class_weights: w, one for each class. torch's weighted mean is `reduce(losses, weights=w[labels])`.
      ignore_index: the label of what does not count, with value and gradient 0; None for no such label. torch's mean leaves it out:
        for labels [b], `reduce(losses, labels != ignore_index)`.

    Raises:
      ValueError: a label is out of range (under jit: NaN) or not an int, a log-probability above 0 (not noticed under jit), or shapes
        or numbers of weights do not fit.

    Reference: torch's `nll_loss`.

    >>> negative_log_likelihood(jnp.log(jnp.array([[0.25, 0.75]])), jnp.array([1])).item() == -jnp.log(0.75).item()
    True
    """
    log_p, index, counts = labelled("log_probabilities", log_probabilities, labels, where, ignore_index)
    check_log_probabilities("log_probabilities", log_p)
    return per_example(_negative_log(log_p, index, class_weights), where, log_probabilities, counts=counts)


def softmax_cross_entropy(
    logits: Float[Array, "b *space k"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    smoothing: float = 0.0,
    class_weights: Weights | None = None,
    ignore_index: int | None = -100,
) -> Float[Array, "b"]:
    """Returns −Σ_j w_j·q_j·log softmax(logits)_j for int labels [b], or for float probabilities of the logits' shape (mixup, distillation).

    q is the one-hot label, or the given distribution, mixed with the uniform one: (1 − smoothing)·q + smoothing / k. Weights and
    smoothing go together as in torch: w multiplies every term, also those that smoothing adds.

    Args:
      smoothing: at least 0, below 1; torch's `label_smoothing`.
      class_weights: w, one for each class. torch's weighted mean is `reduce(losses, weights=w[labels])`; with probabilities it is the plain
        mean.
      ignore_index: the int label of what does not count, with value and gradient 0; None for no such label. torch's mean leaves it out:
        for labels [b], `reduce(losses, labels != ignore_index)`.

    Raises:
      ValueError: smoothing lies outside [0, 1), a label is out of range or a probability outside [0, 1] (under jit: NaN), probabilities do
        not sum to 1 (not noticed under jit), labels are neither ints nor floats, or shapes or numbers of weights do not fit.

    Reference: Szegedy et al., "Rethinking the Inception architecture", 2015, section 7.

    >>> softmax_cross_entropy(jnp.zeros((1, 4)), jnp.array([2])).item() == jnp.log(4.0).item()
    True
    >>> softmax_cross_entropy(jnp.zeros((1, 4)), jnp.array([[0.5, 0.5, 0.0, 0.0]])).item() == jnp.log(4.0).item()
    True
    """
    check_number("smoothing", smoothing, lambda v: 0 <= v < 1, "at least 0 and less than 1")
    check_array("logits", logits)
    check_array("labels", labels)
    if logits.ndim < 2:
        raise ValueError(f"logits {list(logits.shape)} must be [b, k], or [b, *space, k]")
    if labels.ndim == logits.ndim:
        return _with_distribution(logits, labels, where, smoothing, class_weights)
    z, index, counts = labelled("logits", logits, labels, where, ignore_index)
    log_p = jax.nn.log_softmax(z)
    values = _negative_log(log_p, index, class_weights)
    if smoothing:  # without it a class that is all but impossible (log p of −inf) must not enter as 0 · −inf
        values = (1 - smoothing) * values - smoothing * _weighted(log_p, class_weights).mean(-1)
    return per_example(values, where, logits, counts=counts)


def poly1(
    logits: Float[Array, "b *space k"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    epsilon: float = 1.0,
    class_weights: Weights | None = None,
    ignore_index: int | None = -100,
) -> Float[Array, "b"]:
    """Returns w_y·(−log p_y + ε·(1 − p_y)) for int labels y [b] and p = softmax(logits).

    Cross-entropy is Σ_n (1 − p_y)^n / n; this is it with another weight for the first term.

    Args:
      epsilon: at least −1; above 0 pulls longer at what is nearly right. The paper takes 2 for ImageNet with EfficientNetV2.
      class_weights: w, one for each class.
      ignore_index: the label of what does not count, with value and gradient 0.

    Raises:
      ValueError: epsilon is below −1, a label is out of range (under jit: NaN) or not an int, or shapes or numbers of weights do not fit.

    Reference: Leng et al., "PolyLoss: a polynomial expansion perspective of classification loss functions", 2022, equation 6.

    >>> poly1(jnp.zeros((1, 2)), jnp.array([0])).item() == jnp.log(2.0).item() + 0.5
    True
    """
    check_number("epsilon", epsilon, lambda v: -1 <= v < math.inf, "at least -1 and finite")
    z, index, counts = labelled("logits", logits, labels, where, ignore_index)
    log_p = of_label(jax.nn.log_softmax(z), index)
    values = -log_p - epsilon * jnp.expm1(log_p)
    if class_weights is not None:
        values *= weight_of_label(class_weights, index, z)
    return per_example(values, where, logits, counts=counts)


def multi_margin(
    logits: Float[Array, "b k"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    p: int = 1,
    margin: float = 1.0,
    class_weights: Weights | None = None,
) -> Float[Array, "b"]:
    """Returns Σ_{j ≠ y} w_y·max(0, margin − z_y + z_j)^p / k for int labels y [b]: the hinge loss of several classes.

    Args:
      p: 1 or 2.
      class_weights: w, one for each class. torch's mean does not divide by them.

    Raises:
      ValueError: p is neither 1 nor 2, the margin is not finite, a label is out of range (under jit: NaN) or not an int, or
        shapes or numbers of weights do not fit.

    Reference: Weston and Watkins, "Support vector machines for multi-class pattern recognition", 1999.

    >>> multi_margin(jnp.array([[0.0, 0.5, -3.0]]), jnp.array([0])).tolist()
    [0.5]
    """
    check_number("p", p, lambda v: v in (1, 2), "1 or 2")
    check_number("margin", margin, math.isfinite, "finite")
    check_rows("logits", logits, "[b, k]")
    z, index, _ = labelled("logits", logits, labels, where, None)
    short = jnp.maximum(margin - of_label(z, index)[:, None] + z, 0) ** p
    others = jnp.arange(z.shape[1])[None, :] != index[:, None]
    values = jnp.where(others, short, 0).sum(1) / z.shape[1]
    if class_weights is not None:
        values *= weight_of_label(class_weights, index, z)
    return per_example(values, where, logits)


def _negative_log(log_p: Array, index: Array, class_weights: Weights | None) -> Array:
    values = -of_label(log_p, index)
    return values if class_weights is None else values * weight_of_label(class_weights, index, log_p)


def _weighted(values: Array, class_weights: Weights | None) -> Array:
    """Values times weights along the last axis."""
    if class_weights is None:
        return values
    k = values.shape[-1]
    return values * weights_array("class_weights", class_weights, k, values.dtype).reshape((1,) * (values.ndim - 1) + (k,))


def _with_distribution(logits: Array, probabilities: Array, where: Array | None, smoothing: float, class_weights: Weights | None) -> Array:
    check_same_shape(logits=logits, labels=probabilities)
    if not jnp.issubdtype(probabilities.dtype, jnp.floating):
        wanted = f"ints {list(logits.shape[:-1])}, or floats {list(logits.shape)}, a probability for each class"
        raise ValueError(f"labels {described(probabilities)} must be {wanted}")
    log_p = jax.nn.log_softmax(read("logits", logits, where))
    k = logits.shape[-1]
    q = fractions("labels", hide(probabilities, where), log_p.dtype)
    tolerance = max(1e-3, float(jnp.finfo(probabilities.dtype).eps))  # bfloat16 rounds each by up to half its eps
    sums = hide(q.sum(-1), where, fill=1.0)
    check_values("labels.sum(-1)", sums, lambda v: abs(v - 1) <= tolerance, "1, the labels being a distribution")
    q = q * (1 - smoothing) + smoothing / k
    impossible = (q == 0) & jnp.isneginf(log_p)  # 0 · −∞ is 0 here
    terms = q * _weighted(jnp.where(impossible, 0, log_p), class_weights)
    return per_example(-terms.sum(-1), where, logits)
