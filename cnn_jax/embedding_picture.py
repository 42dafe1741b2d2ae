"""Embeddings as points in the plane: by PCA, which keeps distances as well as a plane can, and by t-SNE, which keeps neighbours."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

_MOST_BY_TSNE = 2000  # points: some ten seconds on two cores
_LEAST_BY_TSNE = 10
_MOST_NAMES = 40
_INK = "#1f2328"


def plane_by_pca(embeddings: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the coordinates [n, 2] along the two directions of most variance, and the share of the variance that they hold.

    Directions point to where their largest component is positive. Of embeddings that coincide all is 0.

    Args:
      embeddings: [n, e], n at least 1.

    >>> points, share = plane_by_pca(np.array([[0.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 4.0], [0.0, 3.0, 4.0]]))
    >>> points[:, 0].round(6).tolist(), round(share, 6)
    ([-2.0, -2.0, 2.0, 2.0], 1.0)
    """
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = np.zeros((centred.shape[1], 2))
    axes[:, : min(2, len(values))] = vectors[:, ::-1][:, :2]
    axes *= np.where(np.take_along_axis(axes, np.abs(axes).argmax(0)[None], 0) < 0, -1, 1)
    return centred @ axes, float(values[::-1][:2].sum() / max(values.sum(), np.finfo(float).tiny))


def plane_by_tsne(embeddings: np.ndarray) -> np.ndarray:
    """Returns coordinates [n, 2] in which near embeddings are near; far ones, and sizes of groups, mean little.

    Args:
      embeddings: [n, e], n at least 4, not all the same.

    Reference: van der Maaten and Hinton, "Visualizing data using t-SNE", 2008, as scikit-learn has it, started from PCA.

    >>> plane_by_tsne(np.arange(12.0).reshape(6, 2)).shape
    (6, 2)
    """
    from sklearn.manifold import TSNE  # a second to import

    tsne = TSNE(perplexity=min(30, (len(embeddings) - 1) / 3), init="pca" if embeddings.shape[1] > 1 else "random", random_state=0)
    return tsne.fit_transform(embeddings.astype(np.float64))


def draw_embeddings(embeddings: np.ndarray, labels: np.ndarray, path: Path, *, class_names: tuple[str, ...]) -> list[str]:
    """Writes a PNG of the points, coloured and named by class; returns the methods: PCA and, for 10 to 2,000 points, t-SNE.

    Args:
      embeddings: finite, [n, e], n at least 1.
      labels: ints [n].
      path: of the file, *.png; its folder is made.

    Raises:
      OSError: the file cannot be written.
    """
    points, share = plane_by_pca(embeddings)
    panels: dict[str, tuple[str, Callable[[], np.ndarray]]] = {
        "PCA": (f"PCA: two directions hold {100 * share:.0f} % of the variance", lambda: points)
    }
    if _LEAST_BY_TSNE <= len(embeddings) <= _MOST_BY_TSNE and np.ptp(points) > 1e-6 * np.abs(embeddings).max():
        panels["t-SNE"] = ("t-SNE: neighbours stay together; distances between groups mean little", lambda: plane_by_tsne(embeddings))
    figure = Figure(figsize=(6.4 * len(panels), 6.4), layout="constrained")
    figure.suptitle(f"{len(embeddings):,} test embeddings of {len(np.unique(labels))} classes", fontsize=13, fontweight="bold")
    for axes, (title, make) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.values(), strict=True):
        _draw_points(axes, make(), labels, class_names)
        axes.set_title(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return list(panels)


def _draw_points(axes: Axes, points: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> None:
    present = np.unique(labels)
    colours = _colours(len(present))
    size = float(np.clip(4000 / len(points), 2, 24))
    for label, colour in zip(present, colours, strict=True):
        axes.scatter(*points[labels == label].T, s=size, color=colour, alpha=0.7, linewidths=0)
    for label, colour in list(zip(present, colours, strict=True))[:_MOST_NAMES]:
        x, y = np.median(points[labels == label], axis=0)
        look = {"fontsize": 9, "weight": "bold", "color": colour, "path_effects": [withStroke(linewidth=3, foreground="white")]}
        axes.text(x, y, class_names[label], ha="center", va="center", parse_math=False, **look)
    axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
    axes.spines[:].set_color("#bbb")
    if len(present) > _MOST_NAMES:
        axes.set_xlabel(f"the first {_MOST_NAMES} of {len(present)} classes are named", fontsize=8, color=_INK)


def _colours(num: int) -> list[str]:
    if num <= 10:
        return [to_hex(colormaps["tab10"](i)) for i in range(num)]
    return [to_hex(colormaps["turbo"](i / (num - 1) * 0.9 + 0.05)) for i in range(num)]
