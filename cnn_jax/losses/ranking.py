"""Margin ranking: of two examples the one that should rank higher must score higher, by a margin."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cnn_jax.losses.batch_pairs import spread_mean
from cnn_jax.losses.examples import hide


def margin_ranking(
    scores: Float[Array, "b"],
    targets: Int[Array, "b"] | Float[Array, "b"],
    *,
    where: Bool[Array, "b"] | None = None,
    margin: float = 1.0,
) -> Float[Array, "b"]:
    """Returns max(0, margin − (s_i − s_j)) over all pairs of the batch with target_i > target_j, summed for each i; the
    batch mean is the mean over such pairs. Equal targets ask for nothing.

    >>> margin_ranking(jnp.array([2.0, 0.0, 1.5]), jnp.array([2, 1, 1])).mean().item()
    0.25
    """
    scores = hide(scores, where)
    ordered = targets[:, None] > targets[None, :]
    if where is not None:
        ordered &= where[:, None] & where[None, :]
    losses = jnp.maximum(margin - (scores[:, None] - scores[None, :]), 0)
    return spread_mean(jnp.where(ordered, losses, 0).sum(1), ordered.sum(1), where)
