"""Discounted cumulative gain: how much of what matters stands high in a ranking. What NDCG and LambdaRank are made of."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn_jax.ops.arguments import check_array, check_values, check_whole


def gains(targets: Array) -> Float[Array, "b"]:
    """Returns 2^y − 1 for graded targets y ≥ 0, each grade twice the one below it and 1 more.

    Raises:
      ValueError: a target is negative (under jit: NaN).

    Reference: Burges et al., "Learning to rank using gradient descent", 2005, section 7.

    >>> gains(jnp.array([0, 1, 3])).tolist()
    [0.0, 1.0, 7.0]
    """
    check_array("targets", targets)
    check_values("targets", targets, lambda y: y >= 0, "not negative")
    y = targets.astype(jnp.result_type(targets, jnp.float32))
    return jnp.where(y >= 0, jnp.exp2(y) - 1, jnp.nan)


def rank_discounts(num: int, *, k: int | None = None) -> Float[Array, "num"]:
    """Returns 1 / log₂(1 + r) for places r = 1 … num, and 0 for places after k.

    Raises:
      ValueError: k is no whole number of at least 1.

    >>> rank_discounts(4, k=3).round(2).tolist()[::3]
    [1.0, 0.0]
    """
    if k is not None:
        check_whole("k", k)
    places = jnp.arange(num)
    return jnp.where(places < (num if k is None else k), 1 / jnp.log2(places + 2.0), 0)


def dcg(scores: Float[Array, "b"], gain: Float[Array, "b"], *, k: int | None = None) -> Float[Array, ""]:
    """Returns Σ gain / log₂(1 + place), highest scores first, over the first k places; the mean over all orders of equal scores.

    What does not count has score −∞ and gain 0. `dcg(gain, gain)` is the best that any scores can reach.

    Raises:
      ValueError: k is no whole number of at least 1.

    Reference: Järvelin and Kekäläinen 2002; McSherry and Najork, "Computing information retrieval performance measures efficiently in the
    presence of tied scores", 2008.

    >>> dcg(jnp.array([0.5, 0.5, 0.1]), jnp.array([3.0, 1.0, 7.0]), k=1).item()
    2.0
    """
    totals = jnp.pad(jnp.cumsum(rank_discounts(len(scores), k=k)), (1, 0))
    falling = jnp.sort(-scores)
    first, last = (jnp.searchsorted(falling, -scores, side=side) for side in ("left", "right"))
    return (gain * (totals[last] - totals[first]) / (last - first)).sum()
