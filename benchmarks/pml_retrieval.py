"""Retrieval figures of one set of embeddings, ours and those of PyTorch Metric Learning's AccuracyCalculator: values, time, memory."""

import statistics
import time

import numpy as np
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from benchmarks.hardware import memory_of
from cnn_jax.metrics import retrieval

# Their names. Each query ranks all others, as the mean average precision and the reciprocal rank ask for.
FIGURES = {
    "precision_at_1": retrieval.precision_at_1,
    "r_precision": retrieval.r_precision,
    "mean_average_precision_at_r": retrieval.map_at_r,
    "mean_average_precision": retrieval.mean_average_precision,
    "mean_reciprocal_rank": retrieval.mrr,
}
NUM, FEATURES, CLASSES, REPEATS = 4000, 128, 60, 5


def embeddings(num: int = NUM) -> tuple[np.ndarray, np.ndarray]:
    """Returns embeddings around a centre for each of the classes, which are of unequal size, and labels; two are alone in their class."""
    draw = np.random.default_rng(0)
    labels = np.minimum(draw.geometric(2 / CLASSES, num) - 1, CLASSES - 1)
    labels[:2] = CLASSES, CLASSES + 1
    x = draw.normal(size=(num, FEATURES)) + 0.5 * draw.normal(size=(CLASSES + 2, FEATURES))[labels]
    return x.astype(np.float32), labels


def ours(x: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns our figures by their names."""
    found = retrieval.retrieval_report(x, labels)
    return {name: figure(found) for name, figure in FIGURES.items()}


def theirs(x: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns their figures, the neighbours found by their own search in blocks, which needs no further library."""
    search = CustomKNN(LpDistance(normalize_embeddings=False), batch_size=256)
    return AccuracyCalculator(include=tuple(FIGURES), knn_func=search).get_accuracy(x, labels)


WHO = {"ours": ours, "theirs": theirs}


def seconds() -> list[float]:
    """Returns the median times of all figures together, ours and theirs, taken in turns."""
    given, times = embeddings(), {function: [] for function in WHO.values()}
    for _ in range(REPEATS):
        for function, record in times.items():
            start = time.perf_counter()
            function(*given)
            record.append(time.perf_counter() - start)
    return [statistics.median(record) for record in times.values()]


def peak(who: str) -> int:
    """Returns the bytes that all figures together take at most, after those of fewer embeddings."""
    WHO[who](*embeddings(NUM // 8))
    given = embeddings()
    return memory_of(lambda: WHO[who](*given))


def section(times: list[float], peaks: list[float], values: list[dict[str, float]]) -> list[str]:
    """Returns the lines of the page about retrieval."""
    lines = [
        "## Retrieval",
        "",
        f"{NUM:,} × {FEATURES} embeddings, {CLASSES} classes of unequal size and two lone labels; each query ranks all others. "
        f"All five figures in one call: **{times[1] / times[0]:.1f}** times faster (ours {times[0]:.2f} s, theirs {times[1]:.2f} s; "
        f"medians of {REPEATS} in turns), ours in {peaks[0] / 1e6:.0f} MB, theirs in {peaks[1] / 1e6:.0f} MB.",
        "",
        "| figure | ours | theirs | difference |",
        "|---|---:|---:|---:|",
    ]
    mine, other = values
    lines += [f"| {name} | {mine[name]:.6f} | {other[name]:.6f} | {abs(mine[name] - other[name]):.0e} |" for name in FIGURES]
    return lines
