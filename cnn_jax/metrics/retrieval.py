"""Metrics over a whole set of embeddings, each example searching all others (leave one out). NumPy, in blocks of rows."""

import numpy as np

from cnn_jax.ops.arguments import check_array, check_whole, is_whole


def nearest_neighbours(embeddings: np.ndarray, *, k: int = 1, block: int = 1024) -> np.ndarray:
    """Returns the indices [n, k] of each row's k nearest other rows (Euclidean), nearest first, ties by index.

    Memory is block × n.

    Args:
      embeddings: [n, e].
      k: from 1 to n − 1.
      block: rows searched at a time.

    Raises:
      ValueError: k is not from 1 to n − 1.

    >>> nearest_neighbours(np.array([[0.0], [1.0], [3.0]])).tolist()
    [[1], [0], [1]]
    """
    embeddings = _rows(embeddings)
    check_whole("block", block)
    n = len(embeddings)
    if not is_whole(k) or not 0 < k < n:
        raise ValueError(f"k must be from 1 to the number of other examples ({n - 1}), got {k!r}")
    x = embeddings.astype(np.float32)
    x = x - x.mean(axis=0)  # moves no distance, and leaves less for the difference below to cancel
    squares = np.square(x).sum(1)
    found = np.empty((n, k), np.int64)
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        distances = squares[None, :] - 2 * x[rows] @ x.T  # + |row|², the same along each row
        distances[np.arange(rows.stop - start), np.arange(start, rows.stop)] = np.inf
        if k == 1:
            found[rows, 0] = distances.argmin(1)
        else:
            found[rows] = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return found


def recall_at_k(embeddings: np.ndarray, labels: np.ndarray, *, k: int = 1) -> float:
    """Returns the share of examples that find one of their class among their k nearest others.

    Examples whose label stands alone cannot, and are left out; NaN when all stand alone, or an embedding is not finite.

    Args:
      embeddings: [n, e].
      labels: [n].
      k: from 1 to n − 1.

    Raises:
      ValueError: k is not from 1 to n − 1.

    Reference: Jégou et al., "Product quantization for nearest neighbor search", 2011; Oh Song et al. 2016.

    >>> recall_at_k(np.array([[0.0], [1.0], [3.0], [9.0]]), np.array([0, 0, 1, 1]))
    0.75
    """
    embeddings, labels = _rows(embeddings), np.asarray(labels)
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(f"embeddings {list(embeddings.shape)} but labels {list(labels.shape)}: labels must be [{len(embeddings)}]")
    if not np.isfinite(embeddings).all():
        return float("nan")  # of a network that has diverged
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    has_mate = counts[inverse] > 1
    found = labels[nearest_neighbours(embeddings, k=k)] == labels[:, None]
    return float(found.any(1)[has_mate].mean()) if has_mate.any() else float("nan")


def _rows(embeddings: np.ndarray) -> np.ndarray:
    embeddings = np.asarray(embeddings)
    check_array("embeddings", embeddings)
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings {list(embeddings.shape)} must be [n, e]")
    return embeddings
