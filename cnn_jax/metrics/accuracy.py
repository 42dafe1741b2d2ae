"""The share of examples whose label is among the highest logits."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cnn_jax.metrics.checks import label_of_batch
from cnn_jax.metrics.mean import Mean
from cnn_jax.ops.arguments import is_whole
from cnn_jax.ops.precision import as_floats


def accuracy(logits: Float[Array, "b k"], labels: Int[Array, "b"], *, where: Bool[Array, "b"] | None = None) -> Mean:
    """Returns the count of examples whose highest logit (the first, among equals) is the label's; never so for NaN.

    Raises:
      ValueError: logits are not [b, k], labels no ints [b], or one that counts is out of range (under jit it is never right).

    >>> accuracy(jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.array([1, 1])).result()
    0.5
    """
    return top_k(logits, labels, where=where, k=1)


def top_k(logits: Float[Array, "b c"], labels: Int[Array, "b"], *, where: Bool[Array, "b"] | None = None, k: int = 5) -> Mean:
    """Returns the count of examples whose label is among the k highest logits; equal logits rank by class number.

    Raises:
      ValueError: k is not from 1 to the number of classes; else as `accuracy`.

    >>> top_k(jnp.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]), jnp.array([1, 0]), k=2).result()
    0.5
    """
    labels = label_of_batch(logits, labels, where)
    if not is_whole(k) or not 1 <= k <= logits.shape[1]:
        raise ValueError(f"k={k!r} must be a whole number from 1 to {logits.shape[1]}, the number of classes")
    logits = as_floats(logits)
    of_label = jnp.take_along_axis(logits, labels[:, None], axis=1, mode="fill")
    earlier = jnp.arange(logits.shape[1])[None, :] < labels[:, None]
    rank = (logits > of_label).sum(1) + ((logits == of_label) & earlier).sum(1)
    # A diverged network's NaN compares false with everything and would rank first.
    return Mean.of(((rank < k) & ~jnp.isnan(of_label[:, 0])).astype(jnp.float32), where)
