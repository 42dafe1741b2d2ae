"""Neighbourhood components analysis: how probably a stochastic nearest neighbour is of the anchor's class."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.comparison import Miner, References, compare, distances_of, mean_over_anchors
from cnn_jax.losses.log_sum_exp import log_sum_exp
from cnn_jax.ops.arguments import check_number
from cnn_jax.ops.distance import DistanceName
from cnn_jax.ops.precision import result_type


def nca(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    scale: float = 1.0,
    distance: DistanceName = "squared_euclidean",
) -> Float[Array, "b"]:
    """Returns −log(Σ_p exp(−s·d(a, p)) / Σ_j exp(−s·d(a, j))), j ≠ a, for each anchor, averaged over anchors that have a positive.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], or the scale is not above 0.

    Reference: Goldberger et al., "Neighbourhood components analysis", 2004, section 2: its g(A), with the logarithm. PyTorch Metric
    Learning's NCALoss.

    >>> x = jnp.array([[0.0], [1.0], [1.0]])
    >>> probabilities = jnp.exp(-nca(x, jnp.array([0, 0, 1])) * 2 / 3)
    >>> [round(p, 2) for p in probabilities.tolist()]  # ½, e⁻¹ / (e⁻¹ + 1), and no positive
    [0.5, 0.27, 1.0]
    """
    check_number("scale", scale, lambda v: 0 < v < math.inf, "above 0 and finite")
    comparison = compare(embeddings, labels, where, references, miner)
    logits = -scale * distances_of(comparison, distance)
    has = (comparison.positives != 0).any(1)
    of_class = log_sum_exp(logits, comparison.positives)
    of_all = log_sum_exp(logits, comparison.positives + comparison.negatives)
    losses = jnp.where(has, of_all, 0) - jnp.where(has, of_class, 0)
    return mean_over_anchors(losses, has, where).astype(result_type(embeddings))
