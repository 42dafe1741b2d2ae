"""Margin ranking: of two examples the one that should rank higher must score higher, by a margin."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_margin, check_rows, check_same_shape
from cnn_jax.losses.comparison import spread_mean
from cnn_jax.losses.examples import read
from cnn_jax.ops.precision import result_type


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
    check_rows("scores", scores, "[b]")
    check_same_shape(scores=scores, targets=targets)
    check_margin(margin)
    s = read("scores", scores, where)
    ordered = targets[:, None] > targets[None, :]
    if where is not None:
        ordered &= where[:, None] & where[None, :]
    losses = jnp.maximum(margin - (s[:, None] - s[None, :]), 0)
    return spread_mean(jnp.where(ordered, losses, 0).sum(1), ordered.sum(1), where).astype(result_type(scores))
