"""A batch compared: each anchor against each reference, and which of these pairs count, once or several times.

Every loss on embeddings starts with `compare` and ends with one of the means below. References are the batch itself and, where one is
kept, the memory of earlier batches. A miner narrows a comparison, or weighs it, before the loss reads it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from cnn_jax.losses.checks import check_labels, check_rows, check_same_shape
from cnn_jax.losses.examples import hide, read
from cnn_jax.ops.distance import cosine_similarities, distance_by_name


class References(NamedTuple):
    """Embeddings of earlier batches that the anchors are compared with as well; `where` tells which of the n places are filled."""

    embeddings: Float[Array, "n e"]
    labels: Integer[Array, "n"]
    where: Bool[Array, "n"]


class Comparison(NamedTuple):
    """Each of b anchors against each of n references, the first b of which are the anchors themselves.

    `positives` and `negatives` hold how often a pair counts: booleans, or weights after a miner. A triplet (a, p, n) counts
    positives[a, p] · negatives[a, n] times. `where` tells which anchors count; None: all.
    """

    anchors: Float[Array, "b e"]
    references: Float[Array, "n e"]
    positives: Array
    negatives: Array
    where: Bool[Array, "b"] | None


Miner = Callable[[Comparison], Comparison]  # narrows or weighs a comparison's pairs


def compare(
    embeddings: Float[Array, "b e"],
    labels: Array,
    where: Bool[Array, "b"] | None,
    references: References | None = None,
    miner: Miner | None = None,
) -> Comparison:
    """Returns the comparison of a batch with itself and with further references, mined if there is a miner.

    Embeddings are in float32 at least, zero where they do not count. An example is no positive of itself. References get no gradient
    of their own: they are values.

    Raises:
      ValueError: embeddings are no floats [b, e], labels no ints [b], `where` no booleans [b], or references do not fit.

    >>> compare(jnp.ones((2, 3)), jnp.array([1]), None)
    Traceback (most recent call last):
    ValueError: embeddings [2, 3] but labels [1]: labels must be ints [2]
    """
    together = gather(embeddings, labels, where, references)
    b, n = len(labels), len(together.labels)
    same = labels[:, None] == together.labels[None, :]
    counts = together.where[:b, None] & together.where[None, :]
    positives, negatives = same & counts & ~jnp.eye(b, n, dtype=bool), ~same & counts
    comparison = Comparison(together.embeddings[:b], together.embeddings, positives, negatives, where)
    return comparison if miner is None else miner(comparison)


def gather(
    embeddings: Float[Array, "b e"], labels: Array, where: Bool[Array, "b"] | None, references: References | None = None
) -> References:
    """Returns the batch, followed by the further references: all that an anchor is compared with.

    Raises:
      ValueError: as `compare`.

    >>> earlier = References(jnp.array([[5.0]]), jnp.array([0]), jnp.array([False]))
    >>> gather(jnp.array([[1.0], [2.0]]), jnp.array([0, 1]), None, earlier).embeddings.tolist()
    [[1.0], [2.0], [0.0]]
    """
    check_rows("embeddings", embeddings, "[b, e]")
    check_labels(labels, "embeddings", embeddings)
    hide(labels, where)  # `where` is [b], not [b, e]
    batch = References(read("embeddings", embeddings, where), labels, jnp.ones(len(labels), bool) if where is None else where)
    if references is None:
        return batch
    check_rows("references.embeddings", references.embeddings, "[n, e]")
    check_labels(references.labels, "references.embeddings", references.embeddings)
    if references.embeddings.shape[1] != embeddings.shape[1]:
        sizes = references.embeddings.shape[1], embeddings.shape[1]
        raise ValueError(f"references.embeddings have {sizes[0]} features but embeddings {sizes[1]}: they must be of one model")
    earlier = read("references.embeddings", references.embeddings, references.where).astype(batch.embeddings.dtype)
    return References(
        jnp.concatenate([batch.embeddings, earlier]),
        jnp.concatenate([labels, references.labels]),
        jnp.concatenate([batch.where, references.where]),
    )


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


def distances_of(comparison: Comparison, distance: str = "euclidean") -> Float[Array, "b n"]:
    """Returns each anchor's distance to each reference.

    Args:
      distance: one of `ops.distance.DISTANCES`.

    Raises:
      ValueError: there is no such distance.

    >>> distances_of(compare(jnp.array([[0.0], [3.0]]), jnp.array([0, 0]), None)).tolist()
    [[0.0, 3.0], [3.0, 0.0]]
    """
    return distance_by_name(distance)(comparison.anchors, comparison.references)


def similarities_of(comparison: Comparison) -> Float[Array, "b n"]:
    """Returns the cosine of each anchor with each reference.

    >>> similarities_of(compare(jnp.array([[2.0], [-3.0]]), jnp.array([0, 0]), None)).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    return cosine_similarities(comparison.anchors, comparison.references)


def weigh(values: Array, weights: Array) -> Array:
    """Returns values · weights, and 0 where the weight is, whatever the value, infinity and NaN included.

    Raises:
      ValueError: the two differ in shape.

    >>> weigh(jnp.array([3.0, jnp.inf]), jnp.array([2, 0])).tolist()
    [6.0, 0.0]
    """
    check_same_shape(values=values, weights=weights)
    counted = weights if weights.dtype == jnp.bool_ else weights != 0
    return jnp.where(counted, values, 0) * weights.astype(values.dtype)


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
    total = num_terms.sum()
    return sums * num_examples / jnp.where(total > 0, total, 1)


def mean_of_active(losses: Array, weights: Array, where: Bool[Array, "b"] | None) -> Array:
    """Returns each anchor's share [b] of the mean over those pairs [b, n] whose loss is above zero, as often as each counts.

    Satisfied pairs are many and would drown the others.

    Raises:
      ValueError: losses and weights differ in shape.

    >>> mean_of_active(jnp.array([[0.0, 2.0], [4.0, 0.0]]), jnp.ones((2, 2), bool), None).mean().item()
    3.0
    """
    weighed = weigh(losses, weights)
    active = jnp.where(weighed > 0, weights.astype(losses.dtype), 0)
    return spread_mean(weighed.sum(1), active.sum(1), where)


def mean_over_anchors(values: Array, counts: Bool[Array, "b"], where: Bool[Array, "b"] | None) -> Array:
    """Returns each anchor's share of the mean over the anchors for which `counts` is True, such as those that have a positive.

    Raises:
      ValueError: the two differ in shape.

    >>> mean_over_anchors(jnp.array([3.0, 5.0, 9.0]), jnp.array([True, True, False]), None).mean().item()
    4.0
    """
    return spread_mean(jnp.where(counts, values, 0), counts, where)
