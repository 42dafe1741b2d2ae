"""Times batch-all triplets, value and gradient, against the form over all b³ triplets; and the memory of large batches.

    python -m benchmarks.triplets       writes its part of docs/metric_learning.md

Few positives go one by one, many by sorting: the rows on either side of `triplet_sums.MOST_PASSES` show where sorting begins to pay.
"""

import datetime
import json
import statistics
import subprocess
import sys
import time
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.hardware import hardware, memory_of
from benchmarks.page import fill
from cnn_jax.losses import triplet_sums
from cnn_jax.losses.comparison import pair_masks
from cnn_jax.losses.triplet import triplet_batch_all
from cnn_jax.ops.distance import euclidean_distances

FEATURES, MARGIN, REPEATS = 128, 0.2, 7
TIMED = [(128, 8), (256, 8), (256, 32), (256, 128), (512, 8), (512, 32)]  # batch, images a class
LARGE = [(1024, 8), (2048, 8), (4096, 8), (4096, 64), (4096, 512)]


def batch(b: int, per_class: int) -> tuple[jax.Array, jax.Array]:
    """Returns unit-length embeddings that lean towards their class, and labels."""
    draw = np.random.default_rng(0)
    labels = np.arange(b) // per_class
    x = draw.normal(size=(b, FEATURES)) + 0.7 * draw.normal(size=(labels.max() + 1, FEATURES))[labels]
    return jnp.array(x / np.linalg.norm(x, axis=1, keepdims=True), jnp.float32), jnp.array(labels)


def over_all_triplets(x: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the mean over active triplets, from an array [b, b, b]."""
    distances, (positives, negatives) = euclidean_distances(x, x), pair_masks(labels)
    losses = jnp.maximum(distances[:, :, None] - distances[:, None, :] + MARGIN, 0)
    losses = jnp.where(positives[:, :, None] & negatives[:, None, :], losses, 0)
    return losses.sum() / jnp.maximum((losses > 0).sum(), 1)


def exact(x: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the same by `triplet_batch_all`."""
    return triplet_batch_all(x, labels, margin=MARGIN).mean()


def seconds(functions: list, x: jax.Array, labels: jax.Array) -> list[float]:
    """Returns the median time of each, value and gradient, taken in turns."""
    programs = [jax.jit(jax.value_and_grad(f)) for f in functions]
    times: list[list[float]] = [[] for _ in programs]
    for repeat in range(REPEATS + 1):
        for program, record in zip(programs, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(program(x, labels))
            if repeat:  # the first compiles
                record.append(time.perf_counter() - start)
    return [statistics.median(record) for record in times]


def timed(b: int, per_class: int) -> str:
    """Returns a row of the first table; both give the same number, or this fails."""
    x, labels = batch(b, per_class)
    np.testing.assert_allclose(exact(x, labels), over_all_triplets(x, labels), rtol=1e-4)
    ours, cubic = seconds([exact, over_all_triplets], x, labels)
    most, triplet_sums.MOST_PASSES = triplet_sums.MOST_PASSES, 0
    try:
        (by_sorting,) = seconds([lambda x, labels: exact(x, labels)], x, labels)
    finally:
        triplet_sums.MOST_PASSES = most
    return (
        f"| {b} | {per_class} | **{cubic / ours:.0f}** | {1e3 * ours:.1f} ms | {1e3 * cubic:.0f} ms | {1e3 * by_sorting:.0f} ms |"
    )


def peak(b: int, per_class: int) -> dict:
    """Returns time and memory of one value and gradient, compiled before."""
    x, labels = batch(b, per_class)
    program = jax.jit(jax.value_and_grad(exact)).lower(x, labels).compile()
    start = time.perf_counter()
    taken = memory_of(lambda: jax.block_until_ready(program(x, labels)))
    return {"bytes": taken, "seconds": time.perf_counter() - start}


def large(b: int, per_class: int) -> str:
    """Returns a row of the second table, of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.triplets", "--peak", str(b), str(per_class)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    triplets = b * (per_class - 1) * (b - per_class)
    return f"| {b} | {per_class} | {triplets:.1e} | {found['bytes'] / 1e9:.2f} GB | {found['seconds']:.2f} s |"


def main(words: list[str]) -> int:
    """Runs all rows; returns the exit status."""
    if words[:1] == ["--peak"]:
        print(json.dumps(peak(int(words[1]), int(words[2]))))
        return 0
    lines = [
        f"`python -m benchmarks.triplets`, {hardware()}, jax {version('jax')}, {datetime.date.today()}; e = {FEATURES}, value and "
        f"gradient, medians of {REPEATS} in turns. `triplet_batch_all` against the form over an array [b, b, b]:",
        "",
        "| batch | images a class | times faster | ours | b³ | ours, by sorting |",
        "|---:|---:|---:|---:|---:|---:|",
        *(timed(*row) for row in TIMED),
        "",
        "Large batches, value and gradient; the most memory above what the process held before:",
        "",
        "| batch | images a class | triplets | memory | time |",
        "|---:|---:|---:|---:|---:|",
        *(large(*row) for row in LARGE),
    ]
    print("\n".join(lines))
    fill("triplets", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
