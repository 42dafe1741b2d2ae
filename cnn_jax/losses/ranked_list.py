"""The ranked list loss: positives within a ball around the anchor, negatives beyond its margin, each kind averaged by how far it is off."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_margin
from cnn_jax.losses.comparison import Miner, References, compare, distances_of, weigh
from cnn_jax.losses.log_sum_exp import log_sum_exp
from cnn_jax.ops.arguments import check_number
from cnn_jax.ops.distance import DistanceName
from cnn_jax.ops.precision import result_type


def ranked_list(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    margin: float = 0.4,
    alpha: float = 1.2,
    positive_temperature: float = 0.0,
    negative_temperature: float = 10.0,
    imbalance: float = 0.5,
    distance: DistanceName = "euclidean",
) -> Float[Array, "b"]:
    """Returns (1 − λ)·L₊ + λ·L₋: what is above zero of d(a, p) − (α − m), and of α − d(a, n), averaged for each anchor.

    Such violations v are weighed by exp(T·v), so that large ones count for more; the gradient goes through the weights as well. Where an
    anchor has none, that part is 0. Defaults are the paper's.

    Args:
      imbalance: λ, the share of the negatives.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], not 0 ≤ margin ≤ alpha, a temperature is negative or not finite,
        or the imbalance is not from 0 to 1.

    Reference: Wang et al., "Ranked list loss for deep metric learning", 2019, equations 3 to 8. PyTorch Metric Learning's RankedListLoss
    adds 1e-5 for each example to the divisors, and leaves out negatives at distance 0.

    >>> values = ranked_list(jnp.array([[0.0], [1.0], [1.0]]), jnp.array([0, 0, 1]))
    >>> [round(v, 2) for v in values.tolist()]
    [0.2, 0.7, 0.6]
    """
    check_margin(alpha, "alpha")
    check_number("margin", margin, lambda v: 0 <= v <= alpha, f"from 0 to alpha={alpha}")
    check_margin(positive_temperature, "positive_temperature")
    check_margin(negative_temperature, "negative_temperature")
    check_number("imbalance", imbalance, lambda v: 0 <= v <= 1, "from 0 to 1")
    comparison = compare(embeddings, labels, where, references, miner)
    d = distances_of(comparison, distance)
    drawn = _weighed_mean(d - (alpha - margin), comparison.positives, positive_temperature)
    pushed = _weighed_mean(alpha - d, comparison.negatives, negative_temperature)
    return ((1 - imbalance) * drawn + imbalance * pushed).astype(result_type(embeddings))


def _weighed_mean(violations: Float[Array, "b n"], weights: Array, temperature: float) -> Float[Array, "b"]:
    active = jnp.where(violations > 0, weights, jnp.zeros((), weights.dtype))
    total = log_sum_exp(temperature * violations, active)[:, None]
    shares = jnp.exp(jnp.where(active != 0, temperature * violations - jnp.where(jnp.isfinite(total), total, 0), -jnp.inf))
    return weigh(shares * violations, active).sum(1)
