"""Losses of a Siamese network: it reads pairs of images and gives their distances. Label 1 is a pair of one class, 0 of two."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_labels, class_index
from cnn_jax.losses.explicit_pairs import contrastive_pair


def siamese_contrastive(
    distances: Float[Array, "b"], labels: Array, *, where: Bool[Array, "b"] | None = None, margin: float = 1.0
) -> Float[Array, "b"]:
    """Returns ½·d² for pairs of one class (label 1) and ½·max(0, margin − d)² for pairs of two (label 0).

    Raises:
      ValueError: labels are no ints [b], or one that counts is neither 0 nor 1 (under jit: not noticed), or as `contrastive_pair`.

    Reference: Hadsell et al., "Dimensionality reduction by learning an invariant mapping", 2006, equation 4.

    >>> siamese_contrastive(jnp.array([0.5, 0.5]), jnp.array([1, 0])).tolist()
    [0.125, 0.125]
    """
    check_labels(labels, "distances[:, None]", distances[:, None])
    class_index(labels if where is None else jnp.where(where, labels, 0), 2)
    return contrastive_pair(distances, labels == 1, where=where, margin=margin)
