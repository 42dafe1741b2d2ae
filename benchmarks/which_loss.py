"""Trains the digits net with every loss on embeddings, each with a miner, sampler and margin that suit it, and retrieves held-out images.

    python -m benchmarks.which_loss              three seeds, and writes the table of docs/metric_learning.md
    python -m benchmarks.which_loss circle       the rows with this in their name, in place of those that the table holds

Needs requirements.txt only. Same data, updates and learning rate in every row, and the same network and batches but where a row says
otherwise: rows compare losses, not recipes.
"""

import contextlib
import datetime
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from benchmarks.hardware import hardware
from benchmarks.page import fill, held
from cnn_jax.override import override_all
from cnn_jax.train import train
from experiments import EXPERIMENTS

SEEDS = (0, 1, 2)
SAME = ("num_steps=150", "eval_every=150", "schedule.warmup_steps=30")
CLASSES = ("sampler=classes_by_images", "sampler.num_images=12")
FREE = ("embedding_length=free", "clip_norm=1")
NO_LABELS = (
    "two_views=true", "sampler=shuffled", "augment=random_shift,random_affine", "augment.0.pixels=1", "model.pooling=flatten",
    "embedding_size=256",
)  # fmt: skip
FEW = ("batch_size=20", "sampler.num_images=2")
ROWS: list[tuple[str, tuple[str, ...]]] = [
    ("triplet_batch_all", ("loss.margin=0.2",)),
    ("triplet_batch_all, shuffled", ("loss.margin=0.2", "sampler=shuffled")),
    ("triplet_batch_hard", ("loss.margin=0.2",)),
    ("triplet_batch_hard, smooth", ("loss.margin=0.2", "loss.smooth=true")),
    ("triplet_semi_hard", ("loss.margin=0.2",)),
    ("triplet_semi_hard, small margin", ("loss.margin=0.05",)),
    ("triplet_semi_hard, large margin", ("loss.margin=0.6",)),
    ("triplet_margin_loss, swap", ("loss.margin=0.2", "loss.swap=true")),
    ("triplet_margin_loss, smooth", ("loss.margin=0.2", "loss.smooth=true")),
    ("contrastive", ()),
    ("contrastive, small margin", ("loss.negative_margin=0.5",)),
    ("contrastive, large margin", ("loss.negative_margin=1.5",)),
    ("contrastive, pair_margin", ("miner=pair_margin",)),
    ("contrastive, batch_hard", ("miner=batch_hard",)),
    ("contrastive, semi_hard", ("miner=semi_hard",)),
    ("contrastive, easy_positive", ("miner=easy_positive",)),
    ("contrastive, angular", ("miner=angular",)),
    ("contrastive_squared", ()),
    ("snr_contrastive", ("loss.negative_margin=2.0",)),
    ("margin_loss", ()),
    ("margin_loss, distance_weighted", ("miner=distance_weighted",)),
    ("nt_xent", ("loss.temperature=0.1",)),
    ("nt_xent, two of a class", ("loss.temperature=0.1", *FEW)),
    ("nt_xent, no labels", ("loss.temperature=0.2", *NO_LABELS)),
    ("supervised_contrastive", ()),
    ("supervised_contrastive, cold", ("loss.temperature=0.02",)),
    ("supervised_contrastive, warm", ("loss.temperature=0.5",)),
    ("supervised_contrastive, shuffled", ("sampler=shuffled",)),
    ("supervised_contrastive, two of a class", FEW),
    ("supervised_contrastive, memory", ("memory_size=480",)),
    ("supervised_contrastive, four of a class", ("batch_size=40", "sampler.num_images=4")),
    ("supervised_contrastive, four and memory", ("batch_size=40", "sampler.num_images=4", "memory_size=480")),
    ("multi_similarity", ()),
    ("multi_similarity, mined", ("miner=multi_similarity",)),
    ("circle", ()),
    ("lifted_structure", ()),
    ("generalised_lifted_structure", ()),
    ("n_pairs", ()),
    ("n_pairs, free", FREE),
    ("n_pairs, two of a class", (*FREE, *FEW)),
    ("angular", ()),
    ("tuplet_margin", ()),
    ("fast_ap", ()),
    ("smooth_ap", ()),
    ("smooth_ap, four of a class", ("batch_size=40", "sampler.num_images=4")),
    ("ranked_list", ()),
    ("nca", ()),
    ("vicreg_by_label", ()),
    ("vicreg_by_label, free", FREE),
    ("vicreg_by_label, no labels", (*FREE, *NO_LABELS)),
    ("normalised_softmax", ("sampler=shuffled",)),
    ("arcface", ("sampler=shuffled",)),
    ("cosface", ("sampler=shuffled",)),
    ("sub_centre_arcface", ("sampler=shuffled",)),
    ("proxy_nca", ("sampler=shuffled", "loss.scale=8.0")),
    ("proxy_anchor", ("sampler=shuffled",)),
    ("soft_triple", ("sampler=shuffled",)),
    ("learned_margin", ()),
]


def changes(name: str, options: tuple[str, ...]) -> list[str]:
    """Returns what sets a row apart from digits_resnet_supcon, in the form of --set."""
    return [f"loss={name.partition(',')[0]}", *SAME, *CLASSES, *options]


def measure(name: str, experiment: str, changed: Iterable[str], seeds: Iterable[int]) -> dict:
    """Returns recall@1 and MAP@R of each seed, and the median time of a whole run."""
    recalls, precisions, seconds = [], [], []
    for seed in seeds:
        seeded = override_all(EXPERIMENTS[experiment], [*changed, f"seed={seed}"])
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            figures = train(seeded, Path(folder))
        seconds.append(time.perf_counter() - start)
        recalls.append(figures["recall_at_1"])
        precisions.append(figures["map_at_r"])
    return {"name": name, "recall": recalls, "map": precisions, "seconds": statistics.median(seconds)}


def spread(values: list[float]) -> str:
    """Returns mean and standard deviation as the table shows them.

    >>> spread([0.9, 1.0, 0.95])
    '0.950 ± 0.050'
    """
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def settings(options: Iterable[str]) -> str:
    """Returns what is set, as the table shows it."""
    return " ".join(f"`{option}`" for option in options)


def shown(row: dict) -> str:
    """Returns a row of the table."""
    return f"| {row['name']} | {settings(row['options'])} | {spread(row['map'])} | {spread(row['recall'])} |"


def held_rows() -> dict[str, str]:
    """Returns the rows of the page's table by name, those that are still asked for with the same settings."""
    asked = {(name, settings(options)) for name, options in ROWS}
    cells = ([cell.strip() for cell in line.split("|")] + [line] for line in held("measured") if line.count("|") == 5)
    return {name: line for _, name, options, *_, line in cells if (name, options) in asked}


def table(rows: dict[str, str]) -> list[str]:
    """Returns the measured part of the page, best MAP@R first."""
    lines = [
        f"`python -m benchmarks.which_loss`, {len(SEEDS)} seeds ({SEEDS[0]} to {SEEDS[-1]}; mean ± standard deviation), {hardware()}, "
        f"jax {version('jax')}, {datetime.date.today()}. Each row is `digits_resnet_supcon` with its own loss and what the "
        "row sets, 150 updates, retrieval among the 360 held-out digits. Unless set otherwise, a batch is 10 classes of 12 images.",
        "",
        "| loss, miner | set | MAP@R | recall@1 |",
        "|---|---|---:|---:|",
    ]
    return lines + sorted(rows.values(), key=lambda line: -float(line.split("|")[3].split("±")[0]))


def main(words: list[str]) -> int:
    """Runs the rows; returns the exit status."""
    rows = {}
    for name, options in ROWS:
        if words and not any(word == name if word in dict(ROWS) else word in name for word in words):
            continue
        row = measure(name, "digits_resnet_supcon", changes(name, options), SEEDS) | {"options": options}
        rows[name] = shown(row)
        print(f"{name:34} MAP@R {spread(row['map'])}  recall@1 {spread(row['recall'])}  {row['seconds']:.0f} s a run", flush=True)
    if not rows:
        print(f"No row has {' or '.join(words)} in its name. Rows: {'; '.join(dict(ROWS))}")
        return 1
    fill("measured", table({**(held_rows() if words else {}), **rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
