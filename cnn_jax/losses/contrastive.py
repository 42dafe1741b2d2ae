"""Contrastive loss: pairs of one class are drawn together, pairs of two classes pushed apart up to a margin."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.batch_pairs import pair_masks, read_batch, spread_mean
from cnn_jax.losses.explicit_pairs import contrastive_pair
from cnn_jax.ops.distance import euclidean_distances
from cnn_jax.ops.precision import result_type


def contrastive(
    embeddings: Float[Array, "b e"], labels: Array, *, where: Bool[Array, "b"] | None = None, margin: float = 1.0
) -> Float[Array, "b"]:
    """Returns `contrastive_pair` over all pairs of the batch, those of equal int labels [b] being similar, summed for each example.

    Sums are scaled: the batch mean is the mean over positive pairs plus the mean over negative pairs, so that the many negatives do not
    outweigh the rest.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], or the margin is negative or not finite.

    Reference: Hadsell et al., "Dimensionality reduction by learning an invariant mapping", 2006.

    >>> contrastive(jnp.array([[0.0], [0.5], [0.75]]), jnp.array([0, 0, 1])).mean().item()
    0.28125
    """
    x = read_batch(embeddings, labels, where, margin)
    distances = euclidean_distances(x, x)
    positives, negatives = pair_masks(labels, where)
    losses = contrastive_pair(distances, positives, margin=margin)
    values = sum(spread_mean(jnp.where(mask, losses, 0).sum(1), mask.sum(1), where) for mask in (positives, negatives))
    return values.astype(result_type(embeddings))
