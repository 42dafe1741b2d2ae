"""Contrastive loss: pairs of one class are drawn together, pairs of two classes pushed apart up to a margin."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cnn_jax.losses.batch_pairs import pair_masks, spread_mean
from cnn_jax.losses.examples import hide
from cnn_jax.losses.explicit_pairs import contrastive_pair
from cnn_jax.ops.distance import euclidean_distances


def contrastive(
    embeddings: Float[Array, "b e"], labels: Int[Array, "b"], *, where: Bool[Array, "b"] | None = None, margin: float = 1.0
) -> Float[Array, "b"]:
    """Returns `contrastive_pair` over all pairs of the batch, summed for each example; the batch mean is the mean over
    positive pairs plus the mean over negative pairs, so that the many negatives do not outweigh the rest.

    >>> contrastive(jnp.array([[0.0], [0.5], [0.75]]), jnp.array([0, 0, 1])).mean().item()
    0.28125
    """
    embeddings = hide(embeddings, where)
    distances = euclidean_distances(embeddings, embeddings)
    positives, negatives = pair_masks(labels, where)
    losses = contrastive_pair(distances, positives, margin=margin)
    return sum(
        spread_mean(jnp.where(mask, losses, 0).sum(1), mask.sum(1), where) for mask in (positives, negatives)
    )
