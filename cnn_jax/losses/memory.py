"""A memory of earlier batches: more references for the pairs of a batch than fit into it, as state that is handed on."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Integer

from cnn_jax.losses.checks import check_labels, check_rows
from cnn_jax.losses.comparison import References
from cnn_jax.losses.examples import hide
from cnn_jax.ops.arguments import check_whole


class Memory(NamedTuple):
    """Embeddings of earlier batches, and where the next one goes: the oldest is overwritten first.

    `references` are what a loss takes by that name.
    """

    references: References
    position: Integer[Array, ""]


def init_memory(size: int, num_features: int, dtype: DTypeLike = jnp.float32) -> Memory:
    """Returns an empty memory for `size` embeddings.

    Raises:
      ValueError: there is no place, or no feature.

    >>> init_memory(4, 2).references.where.tolist()
    [False, False, False, False]
    """
    check_whole("size", size)
    check_whole("num_features", num_features)
    references = References(jnp.zeros((size, num_features), dtype), jnp.zeros(size, jnp.int32), jnp.zeros(size, bool))
    return Memory(references, jnp.zeros((), jnp.int32))


def enqueue(memory: Memory, embeddings: Float[Array, "b e"], labels: Array, where: Bool[Array, "b"] | None = None) -> Memory:
    """Returns the memory with those examples of a batch that count in place of the oldest; of more than fit, the last.

    It holds values: no gradient goes through it. Compare a batch with the memory first and enqueue it then, as
    `loss(embeddings, labels, references=memory.references)` compares the batch with itself already, both ways.

    Raises:
      ValueError: the embeddings are not [b, e] with the memory's features, or labels no ints [b].

    Reference: Wang et al., "Cross-Batch Memory for Embedding Learning", 2020. PyTorch Metric Learning enqueues first and compares with the
      memory only, so its memory of n holds b of the batch itself, without their gradient as references.

    >>> memory = enqueue(init_memory(3, 1), jnp.array([[1.0], [2.0]]), jnp.array([5, 6]))
    >>> memory = enqueue(memory, jnp.array([[3.0], [4.0]]), jnp.array([7, 8]), jnp.array([False, True]))
    >>> memory.references.embeddings[:, 0].tolist(), memory.references.labels.tolist(), memory.position.item()
    ([1.0, 2.0, 4.0], [5, 6, 8], 0)
    """
    check_rows("embeddings", embeddings, "[b, e]")
    check_labels(labels, "embeddings", embeddings)
    stored, size = memory.references, len(memory.references.labels)
    if embeddings.shape[1] != stored.embeddings.shape[1]:
        sizes = embeddings.shape[1], stored.embeddings.shape[1]
        raise ValueError(f"embeddings have {sizes[0]} features but the memory {sizes[1]}: they must be of one model")
    counts = hide(jnp.ones(labels.shape, bool), where)
    ordinal = jnp.cumsum(counts) - 1
    total = counts.sum()
    kept = counts & (ordinal >= total - size)  # an earlier one would have the place of a later one
    place = jnp.where(kept, (memory.position + ordinal) % size, size)  # none has the place `size`: it is dropped
    stored = References(
        stored.embeddings.at[place].set(lax.stop_gradient(embeddings).astype(stored.embeddings.dtype), mode="drop"),
        stored.labels.at[place].set(labels.astype(stored.labels.dtype), mode="drop"),
        stored.where.at[place].set(True, mode="drop"),
    )
    return Memory(stored, ((memory.position + total) % size).astype(memory.position.dtype))
