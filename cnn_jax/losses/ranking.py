"""Losses over pairs of a list: of two examples the one that should rank higher must score higher.

The batch is the list. For lists [m, b], vmap: `jax.vmap(lambda_rank)(scores, targets).mean()`.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_margin, check_rows, check_same_shape
from cnn_jax.losses.comparison import spread_mean
from cnn_jax.losses.examples import hide, read
from cnn_jax.ops.discounted_gain import dcg, gains, rank_discounts


def margin_ranking(
    scores: Float[Array, "b"],
    targets: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    margin: float = 1.0,
) -> Float[Array, "b"]:
    """Returns max(0, margin − (s_i − s_j)) over all pairs of the batch with target_i > target_j, summed for each i.

    Sums are scaled: the batch mean is the mean over such pairs. Targets are numbers [b]; equal ones ask for nothing.

    Raises:
      ValueError: scores are no floats [b], targets not [b], or the margin is negative or not finite.

    Reference: Herbrich et al., "Large margin rank boundaries for ordinal regression", 2000.

    >>> margin_ranking(jnp.array([2.0, 0.0, 1.5]), jnp.array([2, 1, 1])).mean().item()
    0.25
    """
    check_margin(margin)
    ahead, ordered = _pairs(scores, targets, where)
    losses = jnp.maximum(margin - ahead, 0)
    return spread_mean(jnp.where(ordered, losses, 0).sum(1), ordered.sum(1), where).astype(scores.dtype)


def pairwise_logistic(scores: Float[Array, "b"], targets: Array, *, where: Bool[Array, "b"] | None = None) -> Float[Array, "b"]:
    """Returns log(1 + exp(s_j − s_i)) over all pairs of the batch with target_i > target_j, summed for each i (RankNet).

    Sums are scaled: the batch mean is the mean over such pairs. Targets are numbers [b]; equal ones ask for nothing.

    Raises:
      ValueError: scores are no floats [b], or targets not [b].

    Reference: Burges et al., "Learning to rank using gradient descent", 2005.

    >>> loss = pairwise_logistic(jnp.array([0.0, 0.0, 5.0]), jnp.array([2, 1, 1])).mean()  # log 2 and log(1 + e⁵)
    >>> round(loss.item(), 2)
    2.85
    """
    ahead, ordered = _pairs(scores, targets, where)
    return spread_mean(jnp.where(ordered, jax.nn.softplus(-ahead), 0).sum(1), ordered.sum(1), where).astype(scores.dtype)


def lambda_rank(
    scores: Float[Array, "b"], targets: Array, *, where: Bool[Array, "b"] | None = None, k: int | None = None
) -> Float[Array, "b"]:
    """Returns |ΔNDCG_ij|·log(1 + exp(s_j − s_i)) over all pairs of the batch with target_i > target_j, summed for each i.

    Sums are scaled: the batch mean is the sum over such pairs. ΔNDCG_ij is what NDCG would lose or win if i and j changed places; it
    is a constant to the gradient. Equal scores are ranked in the batch's order, or nothing would ever part them.

    Args:
      k: how many places count for NDCG; all, if None.

    Raises:
      ValueError: scores are no floats [b], targets not [b] or negative (under jit: NaN), or k is no whole number of at least 1.

    Reference: Burges, "From RankNet to LambdaRank to LambdaMART: an overview", 2010, section 4. Rax's pairwise_logistic_loss with its
    normalised dcg_lambdaweight is b times this, summed over pairs.

    >>> loss = lambda_rank(jnp.array([0.0, 0.0]), jnp.array([0, 1])).mean()  # (1 − 1 / log₂ 3) · log 2
    >>> round(loss.item(), 3)
    0.256
    """
    ahead, ordered = _pairs(scores, targets, where)
    s, gain = hide(scores, where, fill=-jnp.inf), hide(gains(hide(targets, where)), where)
    best = dcg(gain, gain, k=k)
    places = jnp.argsort(jnp.argsort(-s))
    discount = rank_discounts(len(s), k=k)[places]
    change = jnp.abs((gain[:, None] - gain[None, :]) * (discount[:, None] - discount[None, :])) / jnp.where(best > 0, best, 1)
    losses = jnp.where(ordered, jax.nn.softplus(-ahead) * lax.stop_gradient(change), 0)
    num_examples = len(s) if where is None else where.sum()
    return (losses.sum(1) * num_examples).astype(scores.dtype)


def _pairs(scores: Array, targets: Array, where: Array | None) -> tuple[Float[Array, "b b"], Bool[Array, "b b"]]:
    """How far each example is ahead of each other, and whether it should be."""
    check_rows("scores", scores, "[b]")
    check_same_shape(scores=scores, targets=targets)
    s = read("scores", scores, where)
    ordered = targets[:, None] > targets[None, :]
    if where is not None:
        ordered &= where[:, None] & where[None, :]
    return s[:, None] - s[None, :], ordered
