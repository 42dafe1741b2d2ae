"""Losses on numbers: scores and targets of one shape, [b] or [b, *n]. An example's value is the mean over its elements.

Targets may be ints (they are converted), so that a network with one output can be trained on labels that are amounts.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_same_shape
from cnn_jax.losses.examples import hide, per_example, read
from cnn_jax.ops.arguments import check_flag, check_number, check_values


def mean_squared_error(scores: Float[Array, "b *n"], targets: Array, *, where: Bool[Array, "b"] | None = None) -> Float[Array, "b"]:
    """Returns (s − t)² for each example. Scores and targets are numbers of one shape, in one unit.

    Raises:
      ValueError: scores are no floats, or targets have another shape.

    Reference: torch's `mse_loss`.

    >>> mean_squared_error(jnp.array([1.0, 2.0]), jnp.array([1, 5])).tolist()
    [0.0, 9.0]
    """
    return per_example(jnp.square(_difference(scores, targets, where)), where, scores)


def mean_absolute_error(scores: Float[Array, "b *n"], targets: Array, *, where: Bool[Array, "b"] | None = None) -> Float[Array, "b"]:
    """Returns |s − t| for each example; its gradient is 0 where they agree. Scores and targets are numbers of one shape.

    Raises:
      ValueError: scores are no floats, or targets have another shape.

    Reference: torch's `l1_loss`.

    >>> mean_absolute_error(jnp.array([1.0, 2.0]), jnp.array([1, 5])).tolist()
    [0.0, 3.0]
    """
    difference = _difference(scores, targets, where)
    # jnp.abs has the derivative 1 at 0.
    return per_example(difference * jnp.sign(difference), where, scores)


def huber(
    scores: Float[Array, "b *n"], targets: Array, *, where: Bool[Array, "b"] | None = None, delta: float = 1.0
) -> Float[Array, "b"]:
    """Returns ½·d² where |d| = |s − t| ≤ δ and δ·(|d| − ½·δ) beyond. Scores and targets are numbers of one shape.

    Raises:
      ValueError: delta is not positive.

    Reference: Huber, "Robust estimation of a location parameter", 1964.

    >>> huber(jnp.array([1.0, 5.0]), jnp.array([0, 0]), delta=2.0).tolist()
    [0.5, 8.0]
    """
    check_number("delta", delta, lambda v: v > 0, "positive")
    size = jnp.abs(_difference(scores, targets, where))
    near = jnp.minimum(size, delta)
    return per_example(near * (size - 0.5 * near), where, scores)


def smooth_l1(
    scores: Float[Array, "b *n"], targets: Array, *, where: Bool[Array, "b"] | None = None, beta: float = 1.0
) -> Float[Array, "b"]:
    """Returns d² / (2·β) where |d| = |s − t| < β and |d| − ½·β beyond: `huber(delta=β) / β`, and |d| for β = 0.

    Raises:
      ValueError: beta is negative.

    Reference: Girshick, "Fast R-CNN", 2015, equation 3 (β = 1).

    >>> smooth_l1(jnp.array([1.0, 5.0]), jnp.array([0, 0]), beta=2.0).tolist()
    [0.25, 4.0]
    """
    check_number("beta", beta, lambda v: 0 <= v < math.inf, "finite and not negative")
    if beta == 0:
        return mean_absolute_error(scores, targets, where=where)
    size = jnp.abs(_difference(scores, targets, where))
    near = jnp.minimum(size, beta)
    return per_example(near / beta * (size - 0.5 * near), where, scores)


def log_cosh(scores: Float[Array, "b *n"], targets: Array, *, where: Bool[Array, "b"] | None = None) -> Float[Array, "b"]:
    """Returns log cosh(s − t): ½·d² for small differences, |d| − log 2 for large. Scores and targets are numbers of one shape.

    Raises:
      ValueError: scores are no floats, or targets have another shape.

    Reference: Keras' LogCosh.

    >>> losses = log_cosh(jnp.array([0.0, 100.0]), jnp.array([0, 0]))
    >>> losses[0].item(), round(losses[1].item(), 3)
    (0.0, 99.307)
    """
    size = jnp.abs(_difference(scores, targets, where))
    # |d| + log(1 + e^(−2|d|)) − log 2 cancels near 0; log(1 + 2·sinh²(d/2)) overflows far from it.
    close = size < 1
    small = jnp.log1p(2 * jnp.square(jnp.sinh(jnp.where(close, size, 0) / 2)))
    large = size + jnp.log1p(jnp.exp(-2 * size)) - math.log(2)
    return per_example(jnp.where(close, small, large), where, scores)


def quantile(
    scores: Float[Array, "b *n"], targets: Array, *, where: Bool[Array, "b"] | None = None, level: float = 0.5
) -> Float[Array, "b"]:
    """Returns max(q·(t − s), (q − 1)·(t − s)) for the level q: what is least for the q-quantile of the targets.

    Too low a score costs q, too high a score 1 − q; q = ½ is half the absolute error. Also called the pinball loss.

    Raises:
      ValueError: the level does not lie between 0 and 1.

    Reference: Koenker and Bassett, "Regression quantiles", 1978.

    >>> quantile(jnp.array([0.0, 5.0]), jnp.array([1, 4]), level=0.75).tolist()
    [0.75, 0.25]
    """
    check_number("level", level, lambda v: 0 < v < 1, "between 0 and 1")
    short = -_difference(scores, targets, where)
    return per_example(jnp.where(short > 0, level * short, (level - 1) * short), where, scores)


def poisson_nll(
    scores: Float[Array, "b *n"],
    targets: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    log_input: bool = True,
    full: bool = False,
    epsilon: float = 1e-8,
) -> Float[Array, "b"]:
    """Returns the negative log-likelihood of counts: e^s − t·s, or s − t·log(s + ε) where `log_input` is False.

    The scores are logarithms of the expected counts (beyond 88 their exponential overflows), or without `log_input` the expected counts.

    Args:
      targets: counts, not negative.
      full: add Stirling's approximation of log t!, t·log t − t + ½·log(2πt), where t > 1; it does not change the gradient.
      epsilon: keeps the logarithm from 0, without `log_input`.

    Raises:
      ValueError: a target is negative (under jit: NaN), without `log_input` a score is (under jit: NaN below −ε), or epsilon is not
        positive.

    Reference: torch's `poisson_nll_loss`.

    >>> poisson_nll(jnp.array([0.0, 2.0]), jnp.array([3, 0]), log_input=True)[0].item()
    1.0
    >>> poisson_nll(jnp.array([0.0, 2.0]), jnp.array([3, 0]), log_input=False)[1].item()
    2.0
    """
    check_flag("log_input", log_input)
    check_flag("full", full)
    check_number("epsilon", epsilon, lambda v: 0 < v < math.inf, "positive and finite")
    check_same_shape(scores=scores, targets=targets)
    s, t = read("scores", scores, where), hide(targets, where)
    check_values("targets", t, lambda v: v >= 0, "counts, not negative")
    t = jnp.where(t >= 0, t.astype(s.dtype), jnp.nan)
    if not log_input:
        check_values("scores", s, lambda v: ~(v < 0), "expected counts, not negative, where log_input is False")
    # Hidden scores are 0, whose logarithm is finite thanks to ε.
    values = jnp.exp(s) - t * s if log_input else s - t * jnp.log(s + epsilon)
    if full:
        many = jnp.where(t > 1, t, 1)
        values += jnp.where(t > 1, many * jnp.log(many) - many + 0.5 * jnp.log(2 * math.pi * many), 0)
    return per_example(values, where, scores)


def gaussian_nll(
    scores: Float[Array, "b *n"],
    targets: Array,
    variances: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    full: bool = False,
    epsilon: float = 1e-6,
) -> Float[Array, "b"]:
    """Returns ½·(log v + (s − t)² / v) for the variance v, at least ε: a network that says how sure it is.

    As in torch, a variance below ε counts as ε but keeps the gradient that it would have there, so that it can grow again.

    Args:
      variances: of the shape of the scores, not negative.
      full: add ½·log 2π.

    Raises:
      ValueError: a variance is negative (under jit it counts as ε), epsilon is not positive, or shapes differ.

    Reference: Nix and Weigend, "Estimating the mean and variance of the target probability distribution", 1994.

    >>> gaussian_nll(jnp.array([1.0, 1.0]), jnp.array([1, 3]), jnp.array([1.0, 1.0])).tolist()
    [0.0, 2.0]
    """
    check_flag("full", full)
    check_number("epsilon", epsilon, lambda v: 0 < v < math.inf, "positive and finite")
    check_same_shape(scores=scores, targets=targets, variances=variances)
    difference = _difference(scores, targets, where)
    v = read("variances", variances, where)
    check_values("variances", v, lambda v: v >= 0, "not negative")
    v = v + lax.stop_gradient(jnp.maximum(v, epsilon) - v)
    values = 0.5 * (jnp.log(v) + jnp.square(difference) / v)
    return per_example(values + 0.5 * math.log(2 * math.pi) if full else values, where, scores)


def _difference(scores: Array, targets: Array, where: Array | None) -> jax.Array:
    check_same_shape(scores=scores, targets=targets)
    s = read("scores", scores, where)
    return s - hide(targets, where).astype(s.dtype)
