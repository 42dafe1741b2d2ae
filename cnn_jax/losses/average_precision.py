"""Losses that are 1 − a smooth average precision of each example as a query, the rest of the batch ranked by its cosine to it."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.comparison import Miner, References, compare, mean_over_anchors, similarities_of, weigh
from cnn_jax.losses.each_positive import at, sum_over_positives
from cnn_jax.ops.arguments import check_number, check_whole


def fast_ap(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    num_bins: int = 10,
) -> Float[Array, "b"]:
    """Returns 1 − (1/|P|)·Σ_l h⁺_l·H⁺_l / H_l for each anchor, averaged over anchors that have a positive.

    h⁺_l is how many positives lie at bin l of squared distances of unit-length embeddings, H⁺_l and H_l how many positives and how many
    examples lie there or nearer. An example between two of the L + 1 bins, at 0, 4/L, …, 4, is shared between them.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], or `num_bins` is no whole number of at least 1.

    Reference: Cakir et al., "Deep metric learning to rank", 2019, equations 8 to 10. PyTorch Metric Learning's FastAPLoss.

    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> fast_ap(x, jnp.array([0, 0, 1])).round(4).tolist()  # the negative is nearer than the positive; as near
    [0.75, 0.75, 0.0]
    """
    check_whole("num_bins", num_bins)
    comparison = compare(embeddings, labels, where, references, miner)
    places = (2 - 2 * similarities_of(comparison)) * (num_bins / 4)

    @jax.checkpoint  # or the gradient would keep [b, n] for every bin
    def counted(centre):
        pulse = jnp.maximum(1 - jnp.abs(places - centre), 0)
        return weigh(pulse, comparison.positives).sum(1), weigh(pulse, comparison.negatives).sum(1)

    positives, negatives = lax.map(counted, jnp.arange(num_bins + 1, dtype=places.dtype))
    nearer, all_nearer = jnp.cumsum(positives, axis=0), jnp.cumsum(positives + negatives, axis=0)
    precision = nearer / jnp.where(all_nearer > 0, all_nearer, 1)
    num = comparison.positives.sum(1).astype(places.dtype)
    has = num > 0
    values = 1 - (positives * precision).sum(0) / jnp.where(has, num, 1)
    return mean_over_anchors(values, has, where).astype(embeddings.dtype)


def smooth_ap(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    temperature: float = 0.01,
) -> Float[Array, "b"]:
    """Returns 1 − the mean over p of (rank of p among positives) / (rank among all), averaged over anchors that have a positive.

    A rank is 1 + Σ_j σ((s_j − s_p) / τ) over the others j. The anchor itself is retrieved too, as a positive, as in the authors' program.
    Time is O(P·b²) for P positives an anchor, memory O(b²).

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], or the temperature is not above 0.

    Reference: Brown et al., "Smooth-AP: smoothing the path towards large-scale image retrieval", 2020, equation 5. PyTorch Metric
    Learning's SmoothAPLoss (2.9) is the same only for as many classes as each has examples: it takes one number for the other.

    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> smooth_ap(x, jnp.array([0, 0, 1])).round(4).tolist()  # positives at ranks 1 and 3: 1 − (1/1 + 2/3) / 2
    [0.25, 0.25, 0.0]
    """
    check_number("temperature", temperature, lambda v: 0 < v < math.inf, "above 0 and finite")
    comparison = compare(embeddings, labels, where, references, miner)
    s = similarities_of(comparison)
    itself = jnp.eye(*s.shape, dtype=s.dtype)
    positives = comparison.positives.astype(s.dtype) + itself
    all_ = positives + comparison.negatives.astype(s.dtype)
    (sums,) = sum_over_positives(partial(_precision, temperature), s, positives, positives, all_)
    has = (comparison.positives != 0).any(1)
    return mean_over_anchors(1 - sums / positives.sum(1), has, where).astype(embeddings.dtype)


def _precision(temperature, similarities, indices, positives, all_):
    ahead = jax.nn.sigmoid((similarities - at(similarities, indices)[:, None]) / temperature)
    # The sum holds σ(0) = ½ for the example itself.
    num_positives, num = (0.5 + (ahead * weights).sum(1) for weights in (positives, all_))
    return (num_positives / num,)
