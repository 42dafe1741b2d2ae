"""Which embeddings are nearest to which, over sets too large for a matrix of all distances. NumPy, in blocks of queries."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from cnn_jax.ops.arguments import check_array, check_whole, is_whole

BLOCK = 128  # queries looked at together: at 100,000 places some 150 MB for each of the threads
_MOST_THREADS = 4
_Found = TypeVar("_Found")


def nearest_neighbours(embeddings: np.ndarray, *, k: int = 1, block: int = BLOCK) -> np.ndarray:
    """Returns the indices [n, k] of each row's k nearest other rows (Euclidean), nearest first, ties by index.

    Args:
      embeddings: [n, e].
      k: from 1 to n − 1.
      block: rows searched at a time; memory is a few times threads · block · n numbers.

    Raises:
      ValueError: k is not from 1 to n − 1.

    >>> nearest_neighbours(np.array([[0.0], [1.0], [3.0]])).tolist()
    [[1], [0], [1]]
    """
    embeddings = rows_of("embeddings", embeddings)
    if not is_whole(k) or not 0 < k < len(embeddings):
        raise ValueError(f"k must be from 1 to the number of other examples ({len(embeddings) - 1}), got {k!r}")

    def nearest(rows: slice, squares: np.ndarray) -> np.ndarray:
        return squares.argmin(1)[:, None] if k == 1 else np.argsort(squares, axis=1, kind="stable")[:, :k].copy()

    return np.concatenate(search(embeddings, embeddings, nearest, leave_one_out=True, block=block))


def search(
    queries: np.ndarray,
    places: np.ndarray,
    read: Callable[[slice, np.ndarray], _Found],
    *,
    leave_one_out: bool = False,
    block: int = BLOCK,
) -> list[_Found]:
    """Returns read(rows, squares) of each block of queries in order; `squares` [rows, n] are float32, and `read` may overwrite them.

    They are the squared Euclidean distances to the places up to one factor, 0 where they are no more than their own rounding.

    Args:
      queries: finite, [q, e].
      places: finite, [n, e].
      leave_one_out: the places are the queries themselves: each is infinitely far from itself.

    Raises:
      ValueError: `block` is no whole number of at least 1.

    >>> search(np.array([[0.0]]), np.array([[0.0], [2.0], [4.0]]), lambda rows, squares: squares.tolist())
    [[[0.0, 1.0, 4.0]]]
    """
    check_whole("block", block)
    # A shift and a scale change no order. They leave less for the difference below to cancel, and nothing to overflow.
    centre = places.mean(axis=0)
    y = places - centre
    scale = max(np.abs(y).max(), np.abs(queries - centre).max(), np.finfo(np.float32).tiny)
    y = (y / scale).astype(np.float32)
    x = y if leave_one_out else ((queries - centre) / scale).astype(np.float32)
    x_squares, y_squares = np.square(x).sum(1), np.square(y).sum(1)

    def of_block(start: int) -> _Found:
        rows = slice(start, min(start + block, len(x)))
        norms = x_squares[rows, None] + y_squares[None, :]
        squares = norms - (2 * x[rows]) @ y.T
        squares[squares <= 4 * np.finfo(np.float32).eps * norms] = 0  # so that duplicates tie, and none is below 0
        if leave_one_out:
            squares[np.arange(len(squares)), np.arange(rows.start, rows.stop)] = np.inf
        return read(rows, squares)

    # NumPy lets go of the interpreter as it works, and each thread multiplies alone: nested threads would wait for each other.
    with threadpool_limits(1), ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as threads:
        return list(threads.map(of_block, range(0, len(x), block)))


def rows_of(name: str, embeddings: np.ndarray) -> np.ndarray:
    """Returns embeddings as float32 or float64.

    Raises:
      ValueError: they are no rows of real numbers.

    >>> rows_of("embeddings", np.ones((2, 3), np.float16)).dtype
    dtype('float32')
    """
    embeddings = np.asarray(embeddings)
    check_array(name, embeddings)
    if embeddings.ndim != 2:
        raise ValueError(f"{name} {list(embeddings.shape)} must be rows [n, e]")
    return embeddings if embeddings.dtype == np.float64 else embeddings.astype(np.float32)
