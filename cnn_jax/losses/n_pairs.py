"""N-pair loss: one pair of each class, its positive against those of all other classes."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.comparison import Miner, compare, mean_over_anchors, weigh
from cnn_jax.losses.each_positive import at
from cnn_jax.losses.log_sum_exp import log_sum_exp
from cnn_jax.ops.distance import dot_products
from cnn_jax.ops.precision import result_type


def n_pairs(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    miner: Miner | None = None,
) -> Float[Array, "b"]:
    """Returns log(1 + Σ_j exp(x_a·x_p(j) − x_a·x_p)) for the first example a of each class, p being the second, p(j) other classes'.

    Averaged over the classes that have a pair. Further examples of a class are not read, nor are negatives: two of each are all that is
    needed. Scale matters: these are products, not cosines. The reference adds a penalty on the embeddings' length.

    Args:
      miner: the pair is the first one left, in the order of the batch.

    Raises:
      ValueError: labels are no ints [b], or the embeddings no floats [b, e].

    Reference: Sohn, "Improved deep metric learning with multi-class N-pair loss objective", 2016. PyTorch Metric Learning's
    NPairsLoss, which normalises the embeddings first unless told otherwise.

    >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])  # log(1 + exp(0 − 1)) for two anchors of four examples
    >>> round(n_pairs(x, jnp.array([0, 0, 1, 1])).mean().item(), 4)
    0.3133
    """
    comparison = compare(embeddings, labels, where, miner=miner)
    positives = comparison.positives != 0
    has = positives.any(1)
    anchors = has & ~jnp.tril(has[None, :] & (labels[:, None] == labels[None, :]), -1).any(1)
    second = jnp.argmax(positives, axis=1)
    products = dot_products(comparison.anchors, comparison.references[second])
    logits = log_sum_exp(products, jnp.broadcast_to(anchors[None, :], products.shape))
    losses = weigh(logits - at(products, jnp.arange(len(labels))), anchors)
    return mean_over_anchors(losses, anchors, where).astype(result_type(embeddings))
