"""Losses over a whole list: the scores' softmax is to be the distribution that the targets ask for.

The batch is the list. For lists [m, b], vmap: `jax.vmap(list_net)(scores, targets).mean()`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_rows, check_same_shape
from cnn_jax.losses.comparison import spread_mean
from cnn_jax.losses.examples import hide, read
from cnn_jax.losses.log_sum_exp import log_sum_exp
from cnn_jax.ops.arguments import check_values


def softmax_ranking(scores: Float[Array, "b"], targets: Array, *, where: Bool[Array, "b"] | None = None) -> Float[Array, "b"]:
    """Returns −y_i·log softmax(s)_i for each example of the list, y ≥ 0 being graded relevance; the batch mean is Σ_i of it / Σ_i y_i.

    Where nothing is relevant the loss is 0.

    Raises:
      ValueError: scores are no floats [b], targets not [b] or negative (under jit: NaN).

    Reference: Bruch et al., "An analysis of the softmax cross entropy loss for learning-to-rank with binary relevance", 2019. Rax's
    softmax_loss is Σ_i y_i times the batch mean.

    >>> loss = softmax_ranking(jnp.log(jnp.array([1.0, 2.0, 5.0])), jnp.array([0, 1, 0])).mean()
    >>> round(jnp.exp(-loss).item(), 3)
    0.25
    """
    logs, counted = _log_softmax(scores, targets, where)
    y = hide(targets, where)
    check_values("targets", y, lambda v: v >= 0, "not negative")
    y = jnp.where(y >= 0, y.astype(logs.dtype), jnp.nan)
    return _crossed(y, logs, counted).astype(scores.dtype)


def list_net(scores: Float[Array, "b"], targets: Array, *, where: Bool[Array, "b"] | None = None) -> Float[Array, "b"]:
    """Returns −softmax(y)_i·log softmax(s)_i for each example of the list, scaled: the batch mean is their sum.

    Targets y [b] are any numbers: the scores that a perfect ranker would give.

    Raises:
      ValueError: scores are no floats [b], or targets not [b].

    Reference: Cao et al., "Learning to rank: from pairwise approach to listwise approach", 2007: ListNet, with top one probabilities.

    >>> loss = list_net(jnp.array([0.0, 0.0]), jnp.array([3, 1])).mean()
    >>> round(jnp.exp(loss).item(), 3)
    2.0
    """
    logs, counted = _log_softmax(scores, targets, where)
    wished = jnp.exp(_less_total(hide(targets, where).astype(logs.dtype), counted))
    return _crossed(jnp.where(counted, wished, 0), logs, counted).astype(scores.dtype)


def _log_softmax(scores: Array, targets: Array, where: Array | None) -> tuple[Float[Array, "b"], Bool[Array, "b"]]:
    check_rows("scores", scores, "[b]")
    check_same_shape(scores=scores, targets=targets)
    s = read("scores", scores, where)
    counted = jnp.ones(s.shape, bool) if where is None else where
    return _less_total(s, counted), counted


def _less_total(values: Float[Array, "b"], counted: Bool[Array, "b"]) -> Float[Array, "b"]:
    return values - jnp.where(counted.any(), log_sum_exp(values, counted), 0)


def _crossed(wished: Float[Array, "b"], logs: Float[Array, "b"], counted: Bool[Array, "b"]) -> Float[Array, "b"]:
    return spread_mean(jnp.where(counted, -wished * logs, 0), wished, counted)
