"""Angular loss: bounds the angle at the negative in the triangle of a triplet, which no scale changes."""

from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.comparison import Miner, References, compare, spread_mean
from cnn_jax.losses.each_positive import at, sum_over_positives
from cnn_jax.losses.log_sum_exp import log_sum_exp
from cnn_jax.ops.arguments import check_number
from cnn_jax.ops.distance import cosine_similarities
from cnn_jax.ops.precision import result_type


def angular(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    angle: float = 40.0,
) -> Float[Array, "b"]:
    """Returns Σ_p log(1 + Σ_n exp(4t²·(c_an + c_pn) − 2(1 + t²)·c_ap)) for each anchor, with t = tan α, c being cosines.

    Sums are scaled: the batch mean is the mean over all positive pairs. Time is O(P·b²) for P positives an anchor, memory O(b²), of the
    batch and the references together.

    Differs from PyTorch Metric Learning's AngularLoss where negatives are not of unit length, which there are not normalised, and with
    a miner, whose negatives are read here, while all are there.

    Args:
      angle: α, in degrees.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], or the angle is not above 0 and below 90.

    Reference: Wang et al., "Deep metric learning with angular loss", 2017.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # log(1 + exp(4·(0 + 0) − 2·2·1))
    >>> round(angular(x, jnp.array([0, 0, 1]), angle=45.0).mean().item(), 4)
    0.0181
    """
    check_number("angle", angle, lambda v: 0 < v < 90, "above 0 and below 90, in degrees")
    comparison = compare(embeddings, labels, where, references, miner)
    squared_tangent = (np.tan(np.radians(angle)) ** 2).item()
    cosines = cosine_similarities(comparison.references, comparison.references)  # c_pn as well: a row for each that may be a positive
    (sums,) = sum_over_positives(partial(_against_negatives, squared_tangent), cosines, comparison.positives, comparison.negatives)
    return spread_mean(sums, comparison.positives.sum(1), where).astype(result_type(embeddings))


def _against_negatives(squared_tangent, cosines, indices, negatives):
    to_anchor = cosines[: len(indices)]
    near = 4 * squared_tangent * (to_anchor + cosines[indices])
    return (jax.nn.softplus(log_sum_exp(near, negatives) - 2 * (1 + squared_tangent) * at(to_anchor, indices)),)
