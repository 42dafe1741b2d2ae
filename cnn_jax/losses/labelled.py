"""Outputs with a class for each: logits [b, k] and labels [b], or, for dense predictions, [b, *space, k] and [b, *space]."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from cnn_jax.losses.checks import check_labels, class_index
from cnn_jax.losses.class_weights import Weights, weights_array
from cnn_jax.losses.examples import hide, read
from cnn_jax.ops.arguments import is_whole


def labelled(
    name: str, outputs: Array, labels: Array, where: Array | None, ignore_index: int | None
) -> tuple[Float[Array, "b *space k"], Integer[Array, "b *space"], Bool[Array, "b *space"] | None]:
    """Returns (outputs, index, counts): outputs in float32 at least, the class of each place, and which places count (None: all).

    Outputs and labels of places that do not count are hidden. The index of a label out of range is beyond the classes.

    Raises:
      ValueError: labels are no ints of the outputs' shape, or out of range (where values are known), or `ignore_index` is no int.

    >>> _, index, counts = labelled("logits", jnp.zeros((2, 3)), jnp.array([2, -100]), None, -100)
    >>> index.tolist(), counts.tolist()
    ([2, 0], [True, False])
    """
    check_labels(labels, name, outputs)
    counts = None
    if where is not None:
        counts = hide(jnp.ones(labels.shape, bool), where)
    if ignore_index is not None:
        if not is_whole(ignore_index):
            raise ValueError(f"ignore_index={ignore_index!r} must be an int or None")
        # Compared as Python numbers compare: -100 is no uint8, and no label of that type equals it.
        limits = jnp.iinfo(labels.dtype)
        kept = labels != ignore_index if limits.min <= ignore_index <= limits.max else jnp.ones(labels.shape, bool)
        counts = kept if counts is None else counts & kept
    return read(name, outputs, counts), class_index(hide(labels, counts), outputs.shape[-1]), counts


def of_label(values: Float[Array, "b *space k"], index: Integer[Array, "b *space"]) -> Float[Array, "b *space"]:
    """Returns the value of each place's class; NaN where the index is beyond the classes.

    >>> of_label(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 2])).tolist()
    [2.0, nan]
    """
    return jnp.take_along_axis(values, index[..., None], axis=-1, mode="fill")[..., 0]


def weight_of_label(weights: Weights, index: Integer[Array, "b *space"], outputs: Float[Array, "b *space k"]) -> Float[Array, "b *space"]:
    """Returns the weight of each place's class.

    Raises:
      ValueError: there are not as many weights as classes, or one is negative.

    >>> weight_of_label((1.0, 3.0), jnp.array([1, 0, 1]), jnp.zeros((3, 2))).tolist()
    [3.0, 1.0, 3.0]
    """
    return weights_array("class_weights", weights, outputs.shape[-1], outputs.dtype)[index]
