"""How well scores rank a list by graded relevance."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.metrics.checks import check_where
from cnn_jax.metrics.mean import Mean
from cnn_jax.ops.arguments import check_array
from cnn_jax.ops.discounted_gain import dcg, gains
from cnn_jax.ops.precision import as_floats


def ndcg(scores: Float[Array, "b"], targets: Array, *, where: Bool[Array, "b"] | None = None, k: int | None = None) -> Mean:
    """Returns DCG@k over the best that is possible, for the batch as one list; a list without anything relevant is not counted.

    Gains are 2^y − 1 for targets y ≥ 0. Equal scores give the mean over their orders. With several batches: the mean over lists.

    Args:
      k: how many places count; all, if None.

    Raises:
      ValueError: scores are not [b], targets not [b] or negative (under jit: NaN), or k is no whole number of at least 1.

    Reference: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002, with Burges' gains. scikit-learn's
    `ndcg_score`, whose gains are the targets as they are.

    >>> ndcg(jnp.array([0.1, 0.7, 0.4]), jnp.array([2, 0, 1]), k=1).result(), ndcg(jnp.array([3.0, 1.0]), jnp.array([1, 0])).result()
    (0.0, 1.0)
    """
    check_array("scores", scores)
    check_array("targets", targets)
    if scores.ndim != 1 or targets.shape != scores.shape:
        raise ValueError(f"scores {list(scores.shape)} and targets {list(targets.shape)} must both be [b], one number for each example")
    check_where(where, len(scores))
    where = jnp.ones(scores.shape, bool) if where is None else where
    gain = jnp.where(where, gains(jnp.where(where, targets, jnp.zeros((), targets.dtype))), 0)
    scores = jnp.where(where, as_floats(scores), -jnp.inf)
    best = dcg(gain, gain, k=k)
    # Where a score is NaN there is no order.
    value = jnp.where(jnp.isnan(scores).any(), jnp.nan, dcg(scores, gain, k=k) / jnp.where(best > 0, best, 1))
    return Mean.of(value[None], (best != 0)[None])
