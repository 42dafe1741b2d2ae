"""Self-supervision: two views of the same pictures, each picture being a class of its own."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Integer

from cnn_jax.losses.checks import check_rows, check_same_shape
from cnn_jax.losses.examples import hide
from cnn_jax.ops.arguments import check_whole
from cnn_jax.types import Batch


def as_labelled(batch: Batch, step: Array, *, axis_name: str | None = None) -> Batch:
    """Returns the batch as it is: one view of each picture, and its label.

    >>> as_labelled({"targets": 3}, jnp.array(10))
    {'targets': 3}
    """
    del step, axis_name
    return batch


def as_two_views(batch: Batch, step: Array, *, num_micro: int = 1, axis_name: str | None = None) -> Batch:
    """Returns a batch that holds each example twice, before it is augmented; targets number the pictures, over all steps and devices.

    So no two pictures share a number, not even with earlier batches of this size, which a memory may hold. One that comes again, in
    the next epoch, has another number: in a memory that reaches so far it counts as another picture. Numbers wrap around after 2³².

    Args:
      batch: arrays [b, …]; "targets" are not read.
      step: updates before this one, int.
      num_micro: micro-batches that hold every num_micro-th example; both views of a picture come into the same.
      axis_name: the device axis, under pmap only.

    Raises:
      ValueError: num_micro is no whole number of at least 1, or does not divide the batch.

    >>> batch = {"inputs": jnp.array([5.0, 6.0, 7.0, 8.0]), "targets": jnp.zeros(4, int), "valid": jnp.ones(4, bool)}
    >>> as_two_views(batch, jnp.array(10), num_micro=2)["inputs"].astype(int).tolist()
    [5, 6, 5, 6, 7, 8, 7, 8]
    >>> as_two_views(batch, jnp.array(10))["targets"].tolist()
    [40, 40, 41, 41, 42, 42, 43, 43]
    """
    check_whole("num_micro", num_micro)
    size = len(batch["valid"])
    if size % num_micro:
        raise ValueError(f"num_micro={num_micro} must divide the batch of {size} examples")
    device, devices = (0, 1) if axis_name is None else (lax.axis_index(axis_name), lax.axis_size(axis_name))
    numbers = (step * devices + device) * size + jnp.arange(size)

    def twice(x: Array) -> Array:
        blocks = x.reshape(-1, 1, num_micro, *x.shape[1:])
        return jnp.repeat(blocks, 2, axis=1).reshape(-1, *x.shape[1:])

    return jax.tree.map(twice, {**batch, "targets": numbers})


def two_views(
    first: Float[Array, "b e"], second: Float[Array, "b e"], *, where: Bool[Array, "b"] | None = None
) -> tuple[Float[Array, "2*b e"], Integer[Array, "2*b"], Bool[Array, "2*b"]]:
    """Returns (embeddings [2b, e], labels [2b], where [2b]) of a batch in which the two views of a picture are each other's positives.

    Any loss on embeddings and labels becomes self-supervised by it. With `nt_xent` it is SimCLR:

    >>> from cnn_jax.losses.info_nce import nt_xent
    >>> first, second = jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([[2.0, 0.0], [0.0, 3.0]])
    >>> x, labels, where = two_views(first, second)
    >>> labels.tolist()
    [0, 1, 0, 1]
    >>> [round(v, 4) for v in nt_xent(x, labels, where=where, temperature=0.5).tolist()]  # log(1 + 2·exp(−1/0.5))
    [0.2395, 0.2395, 0.2395, 0.2395]

    Raises:
      ValueError: the views differ in shape or are not [b, e], or `where` is no booleans [b].

    Reference: Chen et al., "A simple framework for contrastive learning of visual representations" (SimCLR), 2020.
    """
    check_rows("first", first, "[b, e]")
    check_same_shape(first=first, second=second)
    labels = jnp.arange(len(first))
    hide(labels, where)
    where = jnp.ones(len(first), bool) if where is None else where
    return jnp.concatenate([first, second]), jnp.tile(labels, 2), jnp.tile(where, 2)
