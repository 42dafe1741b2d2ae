"""Contrastive loss: pairs of one class are drawn together, pairs of two classes pushed apart up to a margin."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cnn_jax.losses.pairs import pair_masks, spread_mean
from cnn_jax.ops.distance import euclidean_distances


def contrastive_pair(distances: Float[Array, "*n"], same: Bool[Array, "*n"], *, margin: float = 1.0) -> Float[Array, "*n"]:
    """Returns ½·d² for explicit pairs of the same class (`same` True) and ½·max(0, margin − d)² for others.

    Note the polarity: the paper's Y is 0 for a similar pair; here True means similar.

    Reference: Hadsell et al., "Dimensionality reduction by learning an invariant mapping", 2006, equation 4.

    >>> contrastive_pair(jnp.array([0.5, 0.5]), jnp.array([True, False])).tolist()
    [0.125, 0.125]
    """
    return 0.5 * jnp.where(same, jnp.square(distances), jnp.square(jnp.maximum(margin - distances, 0)))


def contrastive(
    embeddings: Float[Array, "b e"], labels: Int[Array, "b"], *, where: Bool[Array, "b"] | None = None, margin: float = 1.0
) -> Float[Array, "b"]:
    """Returns `contrastive_pair` over all pairs of the batch, summed for each example; the batch mean is the mean over
    positive pairs plus the mean over negative pairs, so that the many negatives do not outweigh the rest.

    >>> contrastive(jnp.array([[0.0], [0.5], [0.75]]), jnp.array([0, 0, 1])).mean().item()
    0.28125
    """
    distances = euclidean_distances(embeddings, embeddings)
    positives, negatives = pair_masks(labels, where)
    losses = contrastive_pair(distances, positives, margin=margin)
    return sum(
        spread_mean(jnp.where(mask, losses, 0).sum(1), mask.sum(1), where) for mask in (positives, negatives)
    )
