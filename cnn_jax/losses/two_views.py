"""Self-supervision: two views of the same pictures, each picture being a class of its own."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from cnn_jax.losses.checks import check_rows, check_same_shape
from cnn_jax.losses.examples import hide


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
