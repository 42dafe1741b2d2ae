"""What retrieval among digits never trained on takes: the experiment, and the same without one thing each that helps it.

    python -m benchmarks.unseen_classes          five seeds, and writes the table of docs/metric_learning.md

Needs requirements.txt only.
"""

import datetime
import sys
from importlib.metadata import version

import numpy as np

from benchmarks.hardware import hardware
from benchmarks.page import fill
from benchmarks.which_loss import measure, spread
from cnn_jax.data.unseen_classes import digits_unseen
from cnn_jax.metrics.retrieval import map_at_r, recall_at_k, retrieval_report

EXPERIMENT = "digits_unseen_resnet_contrastive"
SEEDS = (0, 1, 2, 3, 4)
ROWS: list[tuple[str, tuple[str, ...]]] = [
    ("the experiment", ()),
    ("close pairs of two classes are pushed farther", ("loss.negative_margin=1.0",)),
    ("smaller embeddings", ("embedding_size=64",)),
    ("features averaged over their places", ("model.pooling=average",)),
    ("only the five classes as they are", ("dataset.symmetries=1", "sampler.num_images=24")),
]


def of_pixels() -> tuple[float, float]:
    """Returns MAP@R and recall@1 of the images' pixels, by Euclidean distance."""
    source = digits_unseen().open("test")
    report = retrieval_report(source.images.reshape(len(source), -1).astype(np.float32), source.labels)
    return map_at_r(report), recall_at_k(report, k=1)


def main() -> int:
    """Runs the rows; returns the exit status."""
    precision, recall = of_pixels()
    lines = [
        f"`python -m benchmarks.unseen_classes`, {len(SEEDS)} seeds ({SEEDS[0]} to {SEEDS[-1]}; mean ± standard deviation), {hardware()}, "
        f"jax {version('jax')}, {datetime.date.today()}.",
        "",
        "| | set | MAP@R | recall@1 |",
        "|---|---|---:|---:|",
        f"| the pixels | | {precision:.3f} | {recall:.3f} |",
    ]
    for name, options in ROWS:
        row = measure(name, EXPERIMENT, options, SEEDS)
        lines.append(f"| {name} | {' '.join(f'`{o}`' for o in options)} | {spread(row['map'])} | {spread(row['recall'])} |")
        print(lines[-1], flush=True)
    fill("unseen", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
