"""Losses that learn a vector, or several, for each class, and compare embeddings with these: what they share.

They are Linen modules: `module.init(key, embeddings, labels)` gives their weights, `module.apply(variables, embeddings, labels, where=…)`
the values [b]. Their weights are named `vectors`, and weight decay, which is for kernels, leaves them alone: only their direction matters.
Half-precision embeddings are compared in float32.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from cnn_jax.initialisers import check_initialiser
from cnn_jax.losses.checks import check_labels, check_rows, class_index
from cnn_jax.losses.examples import hide, per_example, read
from cnn_jax.losses.labelled import of_label
from cnn_jax.ops.arguments import check_whole


def class_rows(
    embeddings: Float[Array, "b e"], labels: Array, where: Bool[Array, "b"] | None, num_classes: int
) -> tuple[Float[Array, "b e"], Integer[Array, "b"]]:
    """Returns (embeddings, index): in float32 at least, and each one's class; both hidden where they do not count.

    The index of a label out of range is beyond the classes.

    Raises:
      ValueError: embeddings are no floats [b, e], labels no ints [b] or out of range (where values are known), or there is no class.

    >>> class_rows(jnp.ones((1, 2)), jnp.array([3]), None, 3)
    Traceback (most recent call last):
    ValueError: labels[0]=3 is not allowed: labels must be from 0 to 2, for 3 classes
    """
    check_whole("num_classes", num_classes)
    check_rows("embeddings", embeddings, "[b, e]")
    check_labels(labels, "embeddings", embeddings)
    return read("embeddings", embeddings, where), class_index(hide(labels, where), num_classes)


def learned_vectors(module: nn.Module, x: Float[Array, "b e"], *num: int) -> Float[Array, "k *num e"]:
    """Returns the module's parameter `vectors`, one for each of its `num_classes` or as many as `num` says, made by its `vectors_init`.

    Raises:
      ValueError: `vectors_init` is no initialiser.

    >>> from cnn_jax.losses.angular_margin import CosFace
    >>> CosFace(3).init(jax.random.key(0), jnp.ones((1, 2)), jnp.array([0]))["params"]["vectors"].shape
    (3, 2)
    """
    check_initialiser("vectors_init", module.vectors_init)
    return module.param("vectors", module.vectors_init, (module.num_classes, *num, x.shape[1]), jnp.float32)


def is_own(index: Integer[Array, "b"], num_classes: int) -> Bool[Array, "b k"]:
    """Returns whether j is the class of example i.

    >>> is_own(jnp.array([1, 0]), 3).astype(int).tolist()
    [[0, 1, 0], [1, 0, 0]]
    """
    return index[:, None] == jnp.arange(num_classes)[None, :]


def class_entropies(
    logits: Float[Array, "b k"], index: Integer[Array, "b"], where: Bool[Array, "b"] | None, like: Array
) -> Float[Array, "b"]:
    """Returns −log softmax(logits) of each one's class, 0 where it does not count, in the type of `like`.

    >>> class_entropies(jnp.zeros((1, 4)), jnp.array([2]), None, jnp.zeros(1)).item() == jnp.log(4.0).item()
    True
    """
    return per_example(-of_label(jax.nn.log_softmax(logits), index), where, like)
