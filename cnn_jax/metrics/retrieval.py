"""Retrieval over a whole set of embeddings: each query ranks a gallery, or all others (leave one out). NumPy, in blocks of queries.

`retrieval_report` ranks once; all figures are read off what it returns.
"""

from typing import NamedTuple

import numpy as np

from cnn_jax.metrics.neighbours import BLOCK, rows_of, search
from cnn_jax.ops.arguments import check_whole


class Retrieval(NamedTuple):
    """What each query found, [q] each. `counted` are those that had something to find; the floats are NaN for the others.

    `labels` are the queries'; `num_relevant` R counts the places of a query's class, itself left out; `nearest` is the nearest place;
    `first_rank` the rank of the nearest one of its class, from 1; the rest is as in `r_precision`, `map_at_r`, … below.
    """

    labels: np.ndarray
    num_relevant: np.ndarray
    nearest: np.ndarray
    first_rank: np.ndarray
    r_precision: np.ndarray
    map_at_r: np.ndarray
    average_precision: np.ndarray
    ndcg: np.ndarray

    @property
    def counted(self) -> np.ndarray:
        return self.num_relevant > 0

    @property
    def num_lone(self) -> int:
        """The number of queries left out of all means, since nothing else has their label."""
        return int((~self.counted).sum())


def retrieval_report(
    embeddings: np.ndarray,
    labels: np.ndarray,
    *,
    gallery: np.ndarray | None = None,
    gallery_labels: np.ndarray | None = None,
    block: int = BLOCK,
) -> Retrieval:
    """Returns what each query finds in the gallery by Euclidean distance; without a gallery, among all other queries.

    Ties count against the query: places of other classes come first, so that embeddings which all coincide find nothing. Time is
    q·n·(e + log n), memory that of the embeddings and a few times threads · block · n numbers. Not finite embeddings: all is NaN.

    Args:
      embeddings: [q, e].
      labels: ints [q].
      gallery: [n, e].
      gallery_labels: ints [n].
      block: queries searched at a time.

    Raises:
      ValueError: labels do not fit the embeddings, or only one of gallery and gallery_labels is given.

    Reference: Musgrave et al., "A metric learning reality check", 2020, for R-precision and MAP@R; Manning et al., "Introduction to
    information retrieval", 2008, chapter 8, for the others.

    >>> found = retrieval_report(np.array([[0.0], [1.0], [3.0], [7.0], [9.0]]), np.array([0, 0, 1, 1, 2]))
    >>> found.first_rank.tolist(), found.num_lone
    ([1.0, 1.0, 3.0, 2.0, nan], 1)
    """
    queries, labels = _labelled("embeddings", embeddings, "labels", labels)
    if (gallery is None) != (gallery_labels is None):
        raise ValueError(f"{'gallery' if gallery is None else 'gallery_labels'} is missing: give both, or neither to leave one out")
    leave_one_out = gallery is None
    places, place_labels = (queries, labels) if leave_one_out else _labelled("gallery", gallery, "gallery_labels", gallery_labels)
    if queries.shape[1] != places.shape[1]:
        raise ValueError(f"gallery has {places.shape[1]} features but embeddings {queries.shape[1]}: they must be of one model")
    _, classes = np.unique(np.concatenate([labels, place_labels]), return_inverse=True)
    query_classes, place_classes = classes[: len(labels)].astype(np.int32), classes[len(labels) :].astype(np.int32)
    num_relevant = np.bincount(place_classes, minlength=classes.max(initial=0) + 1)[query_classes] - leave_one_out
    if not len(places) - leave_one_out > 0 or not (np.isfinite(queries).all() and np.isfinite(places).all()):
        undefined = np.full(len(labels), np.nan)
        return Retrieval(labels, num_relevant, np.zeros(len(labels), np.int64), *[undefined] * 5)

    def read(rows: slice, squares: np.ndarray) -> list[np.ndarray]:
        # The bits of a float sort as it does, and the highest is its sign, here always +: there is room for whether a place is of the
        # class. So one sort of plain numbers, three times as fast as finding the order, tells where those of the class come.
        keys = squares.view(np.uint32)
        keys <<= 1
        keys |= place_classes == query_classes[rows, None]
        nearest = keys.argmin(1)
        keys.sort(axis=1)
        ranked = (keys[:, : len(places) - leave_one_out] & 1).astype(bool)  # oneself, infinitely far, comes last
        return [nearest, *_figures(ranked, num_relevant[rows])]

    columns = zip(*search(queries, places, read, leave_one_out=leave_one_out, block=block), strict=True)
    return Retrieval(labels, num_relevant, *[np.concatenate(column) for column in columns])


def precision_at_1(retrieval: Retrieval) -> float:
    """Returns the share of queries whose nearest place is of their class; NaN where none has a mate, as for all these.

    >>> precision_at_1(retrieval_report(np.array([[0.0], [1.0], [3.0], [9.0]]), np.array([0, 0, 1, 1])))
    0.75
    """
    return recall_at_k(retrieval, k=1)


def recall_at_k(retrieval: Retrieval, *, k: int = 1) -> float:
    """Returns the share of queries that find one of their class among the k nearest places.

    Args:
      retrieval: from `retrieval_report`.
      k: from 1.

    Raises:
      ValueError: k is no whole number of at least 1.

    Reference: Jégou et al., "Product quantization for nearest neighbor search", 2011; Oh Song et al. 2016.

    >>> recall_at_k(retrieval_report(np.array([[0.0], [1.0], [3.0], [9.0]]), np.array([0, 0, 1, 1])), k=3)
    1.0
    """
    check_whole("k", k)
    return _mean(np.where(np.isnan(retrieval.first_rank), np.nan, retrieval.first_rank <= k), retrieval)


def cmc(retrieval: Retrieval, *, k: int = 5) -> float:
    """Returns the cumulative matching characteristic at rank k: the name that re-identification has for recall@k.

    Raises:
      ValueError: k is no whole number of at least 1.

    Reference: Moon and Phillips, "Computational and performance aspects of PCA-based face-recognition algorithms", 2001.

    >>> cmc(retrieval_report(np.array([[0.0], [1.0], [3.0], [9.0]]), np.array([0, 0, 1, 1])), k=1)
    0.75
    """
    return recall_at_k(retrieval, k=k)


def r_precision(retrieval: Retrieval) -> float:
    """Returns the mean over queries of the share of their class among the R nearest places, R being the size of the class there.

    >>> r_precision(retrieval_report(np.array([[0.0], [1.0], [4.0], [2.5]]), np.array([0, 0, 0, 1])))  # ½, ½, ½; the 1 is alone
    0.5
    """
    return _mean(retrieval.r_precision, retrieval)


def map_at_r(retrieval: Retrieval) -> float:
    """Returns the mean over queries of (1/R)·Σ precision@i over those ranks i ≤ R at which a place of their class is.

    >>> map_at_r(retrieval_report(np.array([[0.0], [1.0], [4.0], [2.5]]), np.array([0, 0, 0, 1])))  # ½, ½, ¼
    0.4166666666666667
    """
    return _mean(retrieval.map_at_r, retrieval)


def mean_average_precision(retrieval: Retrieval) -> float:
    """Returns the mean over queries of (1/R)·Σ precision@i over all ranks i at which a place of their class is.

    >>> round(mean_average_precision(retrieval_report(np.array([[0.0], [1.0], [4.0], [2.5]]), np.array([0, 0, 0, 1]))), 4)
    0.75
    """
    return _mean(retrieval.average_precision, retrieval)


def mrr(retrieval: Retrieval) -> float:
    """Returns the mean reciprocal rank: 1 / the rank of the nearest place of the query's class.

    >>> mrr(retrieval_report(np.array([[0.0], [1.0], [3.0], [9.0]]), np.array([0, 0, 1, 1])))  # 1, 1, ⅓, 1
    0.8333333333333334
    """
    return _mean(1 / retrieval.first_rank, retrieval)


def ndcg(retrieval: Retrieval) -> float:
    """Returns the mean normalised discounted cumulative gain: Σ 1/log₂(1 + rank) over a query's class / the same for ranks 1 … R.

    Reference: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002; the gain is 1 or 0.

    >>> round(ndcg(retrieval_report(np.array([[0.0], [1.0], [3.0], [9.0]]), np.array([0, 0, 1, 1]))), 4)  # 1, 1, 1/log₂4, 1
    0.875
    """
    return _mean(retrieval.ndcg, retrieval)


def cmc_curve(retrieval: Retrieval, *, num_ranks: int = 20) -> list[float]:
    """Returns `cmc` at the ranks 1 … num_ranks.

    Raises:
      ValueError: num_ranks is no whole number of at least 1.

    >>> cmc_curve(retrieval_report(np.array([[0.0], [1.0], [3.0], [9.0]]), np.array([0, 0, 1, 1])), num_ranks=3)
    [0.75, 0.75, 1.0]
    """
    check_whole("num_ranks", num_ranks)
    return [cmc(retrieval, k=k) for k in range(1, num_ranks + 1)]


def per_class(retrieval: Retrieval) -> dict[str, list]:
    """Returns columns, a value a class: the label, its queries, how many of them had nothing to find, and the means over the others.

    >>> per_class(retrieval_report(np.array([[0.0], [1.0], [3.0], [9.0]]), np.array([5, 5, 5, 7])))["precision_at_1"]
    [1.0, nan]
    """
    labels, inverse, counts = np.unique(retrieval.labels, return_inverse=True, return_counts=True)
    num_counted = np.bincount(inverse, retrieval.counted, minlength=len(labels))

    def means(values: np.ndarray) -> list[float]:
        sums = np.bincount(inverse, np.where(retrieval.counted, values, 0), minlength=len(labels))
        return [float(s / n) if n else float("nan") for s, n in zip(sums, num_counted, strict=True)]

    return {
        "label": labels.tolist(),
        "queries": counts.tolist(),
        "lone": (counts - num_counted).astype(int).tolist(),
        "precision_at_1": means(np.where(np.isnan(retrieval.first_rank), np.nan, retrieval.first_rank == 1)),
        "r_precision": means(retrieval.r_precision),
        "map_at_r": means(retrieval.map_at_r),
    }


def _mean(values: np.ndarray, retrieval: Retrieval) -> float:
    return float(values[retrieval.counted].mean()) if retrieval.counted.any() else float("nan")


def _figures(relevant: np.ndarray, num: np.ndarray) -> list[np.ndarray]:
    """The last five fields of `Retrieval` from [q, n] booleans in order of rank, `num` of which are true in each row."""
    q, n = relevant.shape
    rank = np.flatnonzero(relevant) - np.repeat(n * np.arange(q) - 1, num)  # query after query, nearest first
    some, starts = num > 0, np.cumsum(num) - num
    precision = np.arange(1, len(rank) + 1) - np.repeat(starts, num)  # how many are found up to that rank
    precision = precision / rank
    within = rank <= np.repeat(num, num)
    gains = 1 / np.log2(np.arange(1, n + 1) + 1)

    def of_query(values: np.ndarray, over: np.ndarray) -> np.ndarray:
        result = np.full(q, np.nan)
        if some.any():
            result[some] = np.add.reduceat(values, starts[some]) / over[num[some] - 1]
        return result

    sizes, ideal = np.arange(1, n + 1), np.cumsum(gains)
    first = np.full(q, np.nan)
    first[some] = rank[starts[some]]
    averages = [of_query(values, sizes) for values in (within.astype(np.float64), precision * within, precision)]
    return [first, *averages, of_query(gains[rank - 1], ideal)]


def _labelled(name: str, embeddings: np.ndarray, labels_name: str, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    embeddings, labels = rows_of(name, embeddings), np.asarray(labels)
    if labels.shape != embeddings.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{name} {list(embeddings.shape)} but {labels_name} {list(labels.shape)} ({labels.dtype}): "
            f"{labels_name} must be ints [{len(embeddings)}]"
        )
    return embeddings, labels
