"""The images that retrieval serves worst, drawn as a sheet: each with its nearest neighbours and the nearest of its own class."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from cnn_jax.data.source import Source
from cnn_jax.metrics.retrieval import Retrieval

_RIGHT, _WRONG, _INK, _FAINT = "#1a7f37", "#cf222e", "#1f2328", "#656d76"


class Found(NamedTuple):
    """A query, its nearest neighbours and their distances; `mate` is the nearest of its class, `rank` its rank from 1."""

    query: int
    neighbours: list[int]
    distances: list[float]
    mate: int
    mate_distance: float
    rank: int


def worst_retrievals(embeddings: np.ndarray, retrieval: Retrieval, *, num: int = 10, num_neighbours: int = 5) -> list[Found]:
    """Returns the queries whose nearest mate is farthest down the ranking, worst first; among equals those of least average precision.

    Args:
      embeddings: [n, e].
      retrieval: of them, each among all others.
      num: of queries; there are fewer where fewer have a mate.

    >>> from cnn_jax.metrics.retrieval import retrieval_report
    >>> x = np.array([[0.0], [1.0], [3.0], [9.0]])
    >>> worst_retrievals(x, retrieval_report(x, np.array([0, 0, 1, 1])), num=1, num_neighbours=2)
    [Found(query=2, neighbours=[1, 0], distances=[2.0, 3.0], mate=3, mate_distance=6.0, rank=3)]
    """
    order = np.lexsort((retrieval.average_precision, -retrieval.first_rank))
    found = []
    for query in order[retrieval.counted[order]][:num].tolist():
        distances = np.linalg.norm(embeddings - embeddings[query], axis=1)
        is_mate = retrieval.labels == retrieval.labels[query]
        is_mate[query] = False
        distances[query] = np.inf
        nearest = np.lexsort((is_mate, distances))[: min(num_neighbours, len(embeddings) - 1)]  # ties as in the report: wrong ones first
        mate = int(np.where(is_mate, distances, np.inf).argmin())
        of_mate = float(distances[mate])
        found.append(Found(query, nearest.tolist(), distances[nearest].tolist(), mate, of_mate, int(retrieval.first_rank[query])))
    return found


def draw_worst_retrievals(found: list[Found], labels: np.ndarray, source: Source, path: Path, *, class_names: tuple[str, ...]) -> None:
    """Writes a PNG with a row a query: the image, its neighbours, framed green or red, and the nearest of its class.

    Args:
      found: at least one, each with as many neighbours.
      labels: ints [n], of the examples of `source` in order.

    Raises:
      OSError: the file cannot be written.
    """
    num_columns = len(found[0].neighbours) + 2
    figure = Figure(figsize=(1.35 * num_columns + 0.3, 1.62 * len(found) + 0.8), layout="constrained")
    wrong = sum(labels[f.neighbours[0]] != labels[f.query] for f in found)
    title = f"The {len(found)} images whose own class is farthest down the ranking; the nearest neighbour is wrong for {wrong} of them"
    figure.suptitle(title, fontsize=9.5, color=_INK, x=0.01, ha="left")
    grid = figure.subplots(len(found), num_columns, squeeze=False)
    for row, one in zip(grid, found, strict=True):
        indices = [one.query, *one.neighbours, one.mate]
        images = source[np.array(indices)]["inputs"]
        notes = ["query", *(f"{d:.3f}" for d in one.distances), f"rank {one.rank}, {one.mate_distance:.3f}"]
        for axes, index, image, note in zip(row, indices, images, notes, strict=True):
            colour = _INK if axes is row[0] else _RIGHT if labels[index] == labels[one.query] else _WRONG
            axes.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color=colour, linewidth=2.5)
            axes.set_title(_short(class_names[labels[index]]), fontsize=8, color=colour, pad=3, parse_math=False)
            axes.set_xlabel(note, fontsize=7.5, color=_FAINT, labelpad=2)
    for axes, heading in ((grid[0, 1], "nearest first"), (grid[0, -1], "nearest of its class")):
        axes.annotate(heading, (0, 1.22), xycoords="axes fraction", fontsize=8, color=_FAINT, annotation_clip=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13]}…"
