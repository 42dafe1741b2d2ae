"""Which pairs of a batch count, shared by the losses that compare examples."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from cnn_jax.losses.checks import check_labels, check_margin, check_rows, check_same_shape
from cnn_jax.losses.examples import hide, read


def read_batch(
    embeddings: Float[Array, "b e"], labels: Array, where: Bool[Array, "b"] | None, margin: float
) -> Float[Array, "b e"]:
    """Returns the embeddings of a batch ready to compute with: in float32 at least, and hidden where they do not count.

    Raises:
      ValueError: embeddings are no floats [b, e], labels no ints [b], `where` no booleans [b], or the margin is negative or not finite.

    >>> read_batch(jnp.ones((2, 3)), jnp.array([1]), None, 0.2)
    Traceback (most recent call last):
    ValueError: embeddings [2, 3] but labels [1]: labels must be ints [2]
    """
    check_rows("embeddings", embeddings, "[b, e]")
    check_labels(labels, "embeddings", embeddings)
    check_margin(margin)
    hide(labels, where)  # `where` is [b], not [b, e]
    return read("embeddings", embeddings, where)


def pair_masks(
    labels: Integer[Array, "b"], where: Bool[Array, "b"] | None = None
) -> tuple[Bool[Array, "b b"], Bool[Array, "b b"]]:
    """Returns (positives, negatives): [i, j] tells whether j is another example of i's class, or one of another class.

    Pairs with an example that does not count belong to neither.

    Raises:
      ValueError: labels are not [b].

    >>> positives, negatives = pair_masks(jnp.array([0, 0, 1]))
    >>> positives.astype(int).tolist()
    [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    >>> negatives.astype(int).tolist()
    [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    """
    check_rows("labels", labels, "[b]")
    hide(labels, where)
    same = labels[:, None] == labels[None, :]
    counts = jnp.ones(same.shape, bool) if where is None else where[:, None] & where[None, :]
    return same & counts & ~jnp.eye(len(labels), dtype=bool), ~same & counts


def spread_mean(sums: Array, num_terms: Array, where: Bool[Array, "b"] | None) -> Array:
    """Returns each anchor's share such that the mean over the examples that count is Σ sums / Σ num_terms, or 0.

    Losses over pairs and triplets average over *terms*; the step averages over *examples*. This reconciles the two.

    Raises:
      ValueError: the two differ in shape.

    >>> spread_mean(jnp.array([6.0, 0.0]), jnp.array([3, 0]), None).mean().item()
    2.0
    """
    check_same_shape(sums=sums, num_terms=num_terms)
    hide(sums, where)
    num_examples = sums.shape[0] if where is None else where.sum()
    return sums * num_examples / jnp.maximum(num_terms.sum(), 1)
