"""Multi-similarity loss: soft maxima over the positives that are far and the negatives that are near."""

import math

import jax
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_positive
from cnn_jax.losses.comparison import Miner, References, compare, similarities_of
from cnn_jax.losses.log_sum_exp import log_sum_exp
from cnn_jax.ops.arguments import check_number
from cnn_jax.ops.precision import result_type


def multi_similarity(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
) -> Float[Array, "b"]:
    """Returns log(1 + Σ_p exp(−α(c_ap − λ)))/α + log(1 + Σ_n exp(β(c_an − λ)))/β for each anchor, c being cosines.

    The mean is over all examples: one without positives has the second part alone, one without either 0. A pair that a miner gives
    several times counts once.

    Args:
      base: λ, the cosine that parts positives from negatives.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], α or β is not finite and positive, or λ not finite.

    Reference: Wang et al., "Multi-similarity loss with general pair weighting for deep metric learning", 2019. PyTorch Metric
    Learning's MultiSimilarityLoss.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> multi_similarity(x, jnp.array([0, 1]), beta=1.0, base=0.0).tolist() == [jnp.log(2.0).item()] * 2
    True
    """
    check_positive("alpha", alpha)
    check_positive("beta", beta)
    check_number("base", base, math.isfinite, "finite")
    comparison = compare(embeddings, labels, where, references, miner)
    above = similarities_of(comparison) - base
    drawn = jax.nn.softplus(log_sum_exp(-alpha * above, comparison.positives != 0)) / alpha
    pushed = jax.nn.softplus(log_sum_exp(beta * above, comparison.negatives != 0)) / beta
    return (drawn + pushed).astype(result_type(embeddings))
