"""Margin ranking: of two examples the one that should rank higher must score higher, by a margin."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cnn_jax.losses.pairs import spread_mean


def margin_ranking_pair(
    first: Float[Array, "..."], second: Float[Array, "..."], order: Float[Array, "..."] | Int[Array, "..."], *, margin: float = 0.0
) -> Float[Array, "..."]:
    """Returns max(0, −order·(first − second) + margin) for explicit pairs of scores, of shapes that broadcast; torch's formula.

    `order` is +1 where the first should score higher, −1 where the second should.

    >>> margin_ranking_pair(jnp.array([1.0, 1.0]), jnp.array([3.0, 3.0]), jnp.array([1, -1])).tolist()
    [2.0, 0.0]
    """
    return jnp.maximum(-order * (first - second) + margin, 0)


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
    ordered = targets[:, None] > targets[None, :]
    if where is not None:
        ordered &= where[:, None] & where[None, :]
    losses = margin_ranking_pair(scores[:, None], scores[None, :], jnp.ones((1, 1)), margin=margin)
    return spread_mean(jnp.where(ordered, losses, 0).sum(1), ordered.sum(1), where)
