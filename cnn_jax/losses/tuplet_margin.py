"""Tuplet margin loss: a positive against all negatives, after its angle has been granted some slack."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_positive
from cnn_jax.losses.comparison import Miner, References, compare, similarities_of, spread_mean, weigh
from cnn_jax.losses.log_sum_exp import log_sum_exp
from cnn_jax.ops.arguments import check_number
from cnn_jax.ops.precision import result_type


def tuplet_margin(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    margin: float = 5.73,
    scale: float = 64.0,
) -> Float[Array, "b"]:
    """Returns Σ_p log(1 + Σ_n exp(s·(cos θ_an − cos(θ_ap − β)))) for each anchor, θ being the angles between embeddings.

    Sums are scaled: the batch mean is the mean over all positive pairs. The slack β keeps pairs that are close enough from being drawn
    together on. Parallel and opposite pairs, where an angle has no derivative, are given the gradient of their cosine alone.

    Args:
      margin: β, in degrees.
      scale: s.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], the margin is not from 0 to 90, or the scale is not finite and
        positive.

    Reference: Yu and Tao, "Deep metric learning with tuplet margin loss", 2019. PyTorch Metric Learning's TupletMarginLoss.

    >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # log(1 + exp(2·(0 − cos 60°)))
    >>> round(tuplet_margin(x, jnp.array([0, 0, 1]), margin=60.0, scale=2.0).mean().item(), 4)
    0.3133
    """
    check_number("margin", margin, lambda v: 0 <= v <= 90, "from 0 to 90, in degrees")
    check_positive("scale", scale)
    comparison = compare(embeddings, labels, where, references, miner)
    cosines, slack = similarities_of(comparison), np.radians(margin)
    slackened = cosines * np.cos(slack).item() + _sines(cosines) * np.sin(slack).item()  # cos(θ − β)
    losses = jax.nn.softplus(log_sum_exp(scale * cosines, comparison.negatives)[:, None] - scale * slackened)
    sums = weigh(losses, comparison.positives).sum(1)
    return spread_mean(sums, comparison.positives.sum(1), where).astype(result_type(embeddings))


def _sines(cosines):
    """√(1 − c²); 0, with gradient 0, where that is no more than rounding: of duplicates it would be √ε, and its derivative 1/√ε."""
    squares = (1 - cosines) * (1 + cosines)
    flat = squares <= 16 * jnp.finfo(cosines.dtype).eps  # not "squares > …", which would take NaN for 0
    return jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, squares)))
