"""The time and memory of every retrieval figure over large sets: each query among all others.

    python -m benchmarks.retrieval               writes the table of docs/metric_learning.md

Needs requirements.txt only. Memory: Linux.
"""

import datetime
import subprocess
import sys
import time
from importlib.metadata import version

import numpy as np

from benchmarks.hardware import hardware, memory_of
from benchmarks.page import fill
from cnn_jax.metrics.retrieval import retrieval_report

SIZES = ((20_000, 128, 100), (60_000, 128, 11_316), (100_000, 512, 1_000))  # embeddings, numbers in each, classes


def measured(num: int, size: int, num_classes: int) -> str:
    """Returns a row of the table, of embeddings around a centre for each class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, num_classes, num)
    embeddings = (rng.normal(size=(num_classes, size))[labels] / 2 + rng.normal(size=(num, size))).astype(np.float32)
    retrieval_report(embeddings[:500], labels[:500])  # threads and libraries are there
    start = time.perf_counter()
    memory = memory_of(lambda: retrieval_report(embeddings, labels))
    seconds = time.perf_counter() - start
    return f"| {num:,} | {size} | {num_classes:,} | {seconds:.1f} s | {memory / 1e9:.2f} GB | {embeddings.nbytes / 1e9:.2f} GB |"


def main(words: list[str]) -> int:
    """Measures each size in a process of its own; returns the exit status."""
    if words:
        print(measured(*map(int, words)))
        return 0
    lines = [
        f"`python -m benchmarks.retrieval`, {hardware()}, numpy {version('numpy')}, {datetime.date.today()}; one run of "
        "`retrieval_report`, from which every figure but NMI and AMI is read. Memory is what it takes above the embeddings, at most.",
        "",
        "| embeddings | numbers in each | classes | time | memory | embeddings themselves |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for size in SIZES:
        command = [sys.executable, "-m", "benchmarks.retrieval", *map(str, size)]
        lines.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        print(lines[-1], flush=True)
    fill("retrieval", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
