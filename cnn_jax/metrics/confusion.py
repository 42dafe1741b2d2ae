"""The confusion matrix, and each class's precision and recall from it."""

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cnn_jax.metrics.checks import label_of_batch
from cnn_jax.types import ArrayLike


class Confusion(flax.struct.PyTreeNode):
    """Counts [k, k]: row = true class, column = predicted class.

    >>> Confusion(np.array([[3, 1], [0, 4]])).result()["recall"]
    [0.75, 1.0]
    """

    counts: ArrayLike

    def result(self) -> dict[str, list]:
        """Returns the matrix and, for each class, how many there are, precision and recall (NaN for an empty class)."""
        counts = np.asarray(self.counts)
        hits, actual, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision, recall = hits / predicted, hits / actual
        return {
            "matrix": counts.astype(int).tolist(),
            "examples": actual.astype(int).tolist(),
            "precision": precision.tolist(),
            "recall": recall.tolist(),
        }


def confusion(logits: Float[Array, "b k"], labels: Int[Array, "b"], *, where: Bool[Array, "b"] | None = None) -> Confusion:
    """Returns how often each class was taken for each.

    Raises:
      ValueError: logits are not [b, k], labels no ints [b], or one that counts is out of range (under jit it is not counted).

    >>> confusion(jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.array([1, 1])).counts.astype(int).tolist()
    [[0, 0], [1, 1]]
    """
    labels = label_of_batch(logits, labels, where)  # out of range where one does not count
    k = logits.shape[1]
    return Confusion(jnp.zeros((k, k), jnp.int32).at[labels, jnp.argmax(logits, axis=1)].add(1, mode="drop"))
