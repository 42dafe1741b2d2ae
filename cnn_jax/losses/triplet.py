"""Triplet margin losses over all triplets of a batch: max(0, d(a, p) − d(a, n) + margin), mined in three ways.

An anchor a is paired with a positive p of its class and a negative n of another. Distances are Euclidean. Where a batch
holds no triplet the loss and its gradient are 0.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.batch_pairs import pair_masks, read_batch, spread_mean
from cnn_jax.ops.distance import euclidean_distances
from cnn_jax.ops.precision import result_type


def triplet_batch_hard(
    embeddings: Float[Array, "b e"], labels: Array, *, where: Bool[Array, "b"] | None = None, margin: float = 0.2
) -> Float[Array, "b"]:
    """Returns max(0, farthest positive − nearest negative + margin) for each anchor, averaged over anchors with both.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], or the margin is negative or not finite.

    Reference: Hermans et al., "In defense of the triplet loss", 2017, equation 5.

    >>> triplet_batch_hard(jnp.array([[0.0], [2.0], [3.0]]), jnp.array([0, 0, 1]), margin=0.0).mean().item()
    0.5
    """
    x = read_batch(embeddings, labels, where, margin)
    distances = euclidean_distances(x, x)
    positives, negatives = pair_masks(labels, where)
    farthest = jnp.max(distances, axis=1, where=positives, initial=0)
    nearest = jnp.min(distances, axis=1, where=negatives, initial=jnp.inf)
    valid = positives.any(1) & negatives.any(1)
    losses = jnp.maximum(farthest - jnp.where(valid, nearest, 0) + margin, 0)
    return spread_mean(jnp.where(valid, losses, 0), valid, where).astype(result_type(embeddings))


def triplet_batch_all(
    embeddings: Float[Array, "b e"], labels: Array, *, where: Bool[Array, "b"] | None = None, margin: float = 0.2
) -> Float[Array, "b"]:
    """Returns each anchor's sum over its triplets with a loss above zero, divided by the number of such triplets.

    The mean over the batch is the mean over the *active* triplets (L_BA≠0 of the reference): the many satisfied ones
    would drown them. Memory is b³.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], or the margin is negative or not finite.

    Reference: Hermans et al., 2017, section 2.

    >>> triplet_batch_all(jnp.array([[0.0], [2.0], [3.0]]), jnp.array([0, 0, 1]), margin=0.5).mean().item()
    1.5
    """
    x = read_batch(embeddings, labels, where, margin)
    distances = euclidean_distances(x, x)
    positives, negatives = pair_masks(labels, where)
    losses = jnp.maximum(distances[:, :, None] - distances[:, None, :] + margin, 0)
    losses = jnp.where(positives[:, :, None] & negatives[:, None, :], losses, 0)
    return spread_mean(losses.sum((1, 2)), (losses > 0).sum((1, 2)), where).astype(result_type(embeddings))


def triplet_semi_hard(
    embeddings: Float[Array, "b e"], labels: Array, *, where: Bool[Array, "b"] | None = None, margin: float = 0.2
) -> Float[Array, "b"]:
    """Returns the triplet loss with, for each (anchor, positive), the nearest negative that is farther than the positive.

    Where no negative is farther, the farthest one is taken, as in FaceNet's public implementations. Averaged over all
    (anchor, positive) pairs that have a negative. Memory is b³.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], or the margin is negative or not finite.

    Reference: Schroff et al., "FaceNet", 2015, section 3.2.

    >>> triplet_semi_hard(jnp.array([[0.0], [2.0], [3.0]]), jnp.array([0, 0, 1]), margin=0.5).mean().item()
    0.75
    """
    x = read_batch(embeddings, labels, where, margin)
    distances = euclidean_distances(x, x)
    positives, negatives = pair_masks(labels, where)
    farther = negatives[:, None, :] & (distances[:, None, :] > distances[:, :, None])  # [anchor, positive, negative]
    nearest = jnp.min(jnp.broadcast_to(distances[:, None, :], farther.shape), axis=2, where=farther, initial=jnp.inf)
    farthest = jnp.max(distances, axis=1, where=negatives, initial=0)
    has_farther = farther.any(2)
    chosen = jnp.where(has_farther, jnp.where(has_farther, nearest, 0), farthest[:, None])
    valid = positives & negatives.any(1, keepdims=True)
    losses = jnp.where(valid, jnp.maximum(distances - chosen + margin, 0), 0)
    return spread_mean(losses.sum(1), valid.sum(1), where).astype(result_type(embeddings))
