"""What the arguments of a metric over a batch must be; as for losses, values are checked where they are known."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from cnn_jax.ops.arguments import check_array, check_values


def check_where(where: Array | None, num: int) -> None:
    """Raises ValueError unless `where` is None or booleans, one for each of `num` examples.

    >>> check_where(jnp.ones(2), 2)
    Traceback (most recent call last):
    ValueError: where [2] (float32) must be bool [2]: True for what counts
    """
    if where is not None:
        check_array("where", where)
        if where.dtype != jnp.bool_ or where.shape != (num,):
            raise ValueError(f"where {list(where.shape)} ({where.dtype}) must be bool [{num}]: True for what counts")


def label_of_batch(logits: Array, labels: Array, where: Bool[Array, "b"] | None) -> Int[Array, "b"]:
    """Returns the labels, k where one does not count or lies outside 0 … k − 1 (an index of −1 would be the last class).

    Raises:
      ValueError: logits are not [b, k], labels no ints [b], `where` no booleans [b], or a label that counts is out of range (where
        values are known).

    >>> label_of_batch(jnp.zeros((2, 3)), jnp.array([2, -100]), jnp.array([True, False])).tolist()
    [2, 3]
    """
    check_array("logits", logits)
    check_array("labels", labels)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"logits {list(logits.shape)} must be [b, k], k at least 1")
    b, k = logits.shape
    if labels.shape != (b,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"logits [{b}, {k}] but labels {list(labels.shape)} ({labels.dtype}): labels must be ints [{b}]")
    check_where(where, b)
    counted = labels if where is None else jnp.where(where, labels, jnp.zeros_like(labels))
    check_values("labels", counted, lambda n: (n >= 0) & (n < k), f"from 0 to {k - 1}, for {k} classes")
    inside = (labels >= 0) & (labels < k)
    labels = labels if labels.dtype.itemsize >= 4 else labels.astype(jnp.int32)  # int8 could not hold k
    return jnp.where(inside if where is None else inside & where, labels, jnp.full_like(labels, k))
