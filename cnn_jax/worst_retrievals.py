"""The images that retrieval serves worst, drawn as a sheet: each with its nearest neighbours and the nearest of its own class."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cnn_jax.data.source import Source
from cnn_jax.metrics.retrieval import Retrieval

_PITCH, _SIDE = (1.35, 1.62), 1.2  # from image to image across and down, and an image's longer side, in inches
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
    width, height = _PITCH[0] * num_columns + 0.1, _PITCH[1] * len(found) + 0.75
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))  # one for all, in inches: axes of their own take seconds
    axes.axis("off")
    wrong = sum(labels[f.neighbours[0]] != labels[f.query] for f in found)
    title = f"The {len(found)} images whose own class is farthest down the ranking;\nthe nearest neighbour is wrong for {wrong} of them"
    axes.text(0.1, 0.12, title, fontsize=9.5, color=_INK, va="top")
    for column, heading in ((1, "nearest first"), (num_columns - 1, "nearest of its class")):
        axes.text(0.1 + _PITCH[0] * column, 0.62, heading, fontsize=8, color=_FAINT)
    for i, one in enumerate(found):
        indices = [one.query, *one.neighbours, one.mate]
        images = source[np.array(indices)]["inputs"]
        notes = ["query", *(f"{d:.3f}" for d in one.distances), f"rank {one.rank}, {one.mate_distance:.3f}"]
        for j, (index, image, note) in enumerate(zip(indices, images, notes, strict=True)):
            colour = _INK if j == 0 else _RIGHT if labels[index] == labels[one.query] else _WRONG
            corner = 0.1 + _PITCH[0] * j, 0.9 + _PITCH[1] * i
            _draw_image(axes, image, corner, colour, _short(class_names[labels[index]]), note)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _draw_image(axes: Axes, image: np.ndarray, corner: tuple[float, float], colour: str, name: str, note: str) -> None:
    """The image in its frame, the longer side _SIDE, with its class above and a note below; `corner` is the upper left one."""
    h, w = (_SIDE * n / max(image.shape[:2]) for n in image.shape[:2])
    x, y = corner[0] + (_SIDE - w) / 2, corner[1] + (_SIDE - h) / 2
    pixels = image if image.shape[-1] == 3 else image[..., 0]
    place = (x, x + w, y + h, y)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=place, aspect="auto", clip_on=False)
    axes.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=colour, linewidth=2.5))
    axes.text(x + w / 2, y - 0.05, name, fontsize=8, color=colour, ha="center", parse_math=False)
    axes.text(x + w / 2, y + h + 0.06, note, fontsize=7.5, color=_FAINT, ha="center", va="top")


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13]}…"
