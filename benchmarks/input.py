"""Times loading: shuffled batches of images in memory, and of JPEGs that are decoded, by ours and by torch's DataLoader, in turns.

    python -m benchmarks.input [words of rows]       writes its part of docs/performance.md when all are run

Batches are pulled and dropped. A loader with processes of its own has some batches ready when its turn begins; turns are long beside those.
tf.data is left out: it would need TensorFlow, which nothing else here does.
"""

import itertools
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image

from benchmarks.sides import Side
from benchmarks.versus import chosen, compare

SIDE = 224  # of a decoded image
SIDES = [
    Side("ours", "benchmarks.input:ours"),
    Side("torch, 0 workers", "benchmarks.input:torch_here"),
    Side("torch, 2 workers", "benchmarks.input:torch_workers"),
    Side("torch, gathered", "benchmarks.input:torch_gathered"),
    Side("bare", "benchmarks.input:bare"),
]
BEST = ("torch, 0 workers", "torch, 2 workers", "torch, gathered")
NOTE = (
    "'Gathered' is a DataLoader that asks for a whole batch at a time. 'Bare' is NumPy's gather alone, and for JPEGs Pillow's time in one "
    "process, divided by the number of cores: what no loader can be much faster than."
)


class Case(NamedTuple):
    """`num` images and batches of them. `folder` holds JPEGs of about 500×375; without one images lie in memory."""

    name: str
    num: int
    shape: tuple[int, ...]
    batch: int
    turns: int = 1  # epochs of a turn
    folder: str = ""

    @property
    def batches(self) -> int:
        """Whole batches of a turn."""
        return self.num // self.batch * self.turns

    def __str__(self) -> str:
        return f"{self.name}, {self.batch} × {self.shape[0]}²"


JPEGS = Case("JPEGs", 384, (SIDE, SIDE, 3), 16, turns=3)
CASES = [
    Case("as many as digits", 1437, (8, 8, 1), 64, turns=10),
    Case("as many as CIFAR's", 50_000, (32, 32, 3), 128),
    Case("photographs in memory", 1024, (SIDE, SIDE, 3), 64, turns=2),
    JPEGS,
]


class Photographs:
    """Images and labels by index or list of indices, as torch's data sets and our records are read."""

    def __init__(self, case: Case):
        draw = np.random.default_rng(0)
        self.labels = draw.integers(10, size=case.num).astype(np.int32)
        self.paths = sorted(Path(case.folder).glob("*.jpg")) if case.folder else []
        self.images = None if case.folder else draw.integers(256, size=(case.num, *case.shape), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index):
        if self.images is not None:
            return self.images[index], self.labels[index]
        if isinstance(index, list):
            return np.stack([decoded(self.paths[i]) for i in index]), self.labels[index]
        return decoded(self.paths[index]), self.labels[index]


class Records(Photographs):
    """The same in the form of a TFDS data source, images not yet decoded."""

    def __getitem__(self, index):
        return {"image": self.paths[index], "label": self.labels[index]}


def decoded(path: Path) -> np.ndarray:
    """Returns a JPEG's pixels, resized: all that is done to an image by every side."""
    with PIL.Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), PIL.Image.Resampling.BILINEAR))


def ours(case: Case):
    """Returns the pulling of batches from `data/pipeline.py`, with two processes that decode."""
    from cnn_jax.data.pipeline import train_batches
    from cnn_jax.data.samplers import shuffled
    from cnn_jax.data.source import DecodedSource, MemorySource

    if case.folder:
        source = DecodedSource(Records(case), decoded)
    else:
        photographs = Photographs(case)
        source = MemorySource(photographs.images, photographs.labels)
    order = shuffled(source, case.batch)
    return _pulled(case, train_batches(source, order, seed=0, start_step=0, num_steps=10**6, workers=2))


def torch_here(case: Case):
    """Returns the pulling of batches from torch's DataLoader in its own process."""
    return _torch(case, batch_size=case.batch, shuffle=True, drop_last=True)


def torch_workers(case: Case):
    """Returns the same with two processes."""
    return _torch(case, batch_size=case.batch, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True)


def torch_gathered(case: Case):
    """Returns the same in its own process, a batch being asked for at once."""
    from torch.utils.data import BatchSampler, RandomSampler

    batches = BatchSampler(RandomSampler(range(case.num)), case.batch, drop_last=True)
    return _torch(case, batch_size=None, sampler=batches)


def _torch(case: Case, **options):
    from torch.utils.data import DataLoader

    loader = DataLoader(Photographs(case), **options)
    return _pulled(case, itertools.chain.from_iterable(itertools.repeat(loader)))


def bare(case: Case):
    """Returns the least work there is: a gather, or a core's part of the decoding."""
    photographs = Photographs(case)
    if not case.folder:
        rows = np.random.default_rng(0).permutation(case.num)[: case.num // case.batch * case.batch].reshape(-1, case.batch)
        return _pulled(case, (photographs.images[row] for row in itertools.cycle(rows)))
    part = math.ceil(case.batches * case.batch / len(os.sched_getaffinity(0)))
    paths = itertools.cycle(photographs.paths)

    def once():
        for path in itertools.islice(paths, part):
            decoded(path)

    return once


def _pulled(case: Case, batches):
    def once():
        for _ in itertools.islice(batches, case.batches):
            pass

    return once


def write_jpegs(folder: Path, num: int) -> None:
    """Writes images of soft shapes and some noise, which compress as photographs do."""
    draw = np.random.default_rng(0)
    for i in range(num):
        soft = PIL.Image.fromarray(draw.integers(256, size=(12, 16, 3), dtype=np.uint8)).resize((500, 375), PIL.Image.Resampling.BICUBIC)
        noisy = np.clip(np.asarray(soft) + draw.normal(scale=8, size=(375, 500, 3)), 0, 255)
        PIL.Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{i:05}.jpg", quality=85)


def rate(case: Case, timings) -> list[str]:
    """Returns our images in a second."""
    return [f"{case.batches * case.batch / timings['ours'].median:,.0f}"]


def main(words: list[str]) -> int:
    """Runs all rows, or those whose names hold a word; returns the exit status."""
    cases = chosen(CASES, words)
    with tempfile.TemporaryDirectory() as folder:
        if JPEGS in cases:
            write_jpegs(Path(folder), JPEGS.num)
        cases = [case._replace(folder=folder) if case == JPEGS else case for case in cases]
        options = {"extra": rate, "headings": ("ours, images/s",), "note": NOTE}
        compare("input", cases, SIDES, best=BEST, against="bare", **options, save=not words)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
