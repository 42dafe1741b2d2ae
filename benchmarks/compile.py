"""Times the start of training: from a process' first import to the end of its first step, with compiled programs kept and without.

    python -m benchmarks.compile [words of rows]       writes its part of docs/performance.md when all are run

Each time is of a fresh process, alone on the machine, ours and plain Flax in turns. Cold: the folder of compiled programs is new; warm: the
same program was started with it before.
"""

import dataclasses
import statistics
import sys
import tempfile
from collections.abc import Iterable
from typing import NamedTuple

from benchmarks import nets, steps
from benchmarks.sides import Side, Timing, started
from benchmarks.versus import chosen, compare

SIDES = [Side("ours", "benchmarks.compile:ours"), Side("Flax", "benchmarks.train_step:plain_flax", steps.STOCK)]
FOLDERS = {"ours": "CNN_JAX_COMPILE_CACHE", "Flax": "JAX_COMPILATION_CACHE_DIR"}
# What jax is asked to keep: as ours, all that takes a while to compile.
KEPT = ("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
NETS = ("digits' ResNet-8, 64 × 8²", "ResNet-18 for CIFAR, 64 × 32²", "ResNet-50, 16 × 224²")
NOTE = "Programs that call oneDNN, which the larger of ours do, cannot be kept: XLA cannot write them."


class Case(NamedTuple):
    """A network of `nets.NETS`, and whether its programs have been kept."""

    name: str
    warm: bool

    def __str__(self) -> str:
        return f"{self.name}, {'warm' if self.warm else 'cold'}"


CASES = [Case(name, warm) for name in NETS for warm in (False, True)]


def ours(name: str):
    """Returns our step, which is compiled here."""
    return steps.our_step(nets.NETS[name]()).once


def starts(sides: Iterable[Side], case: Case, *, repeats: int) -> dict[str, Timing]:
    """Returns the seconds to the first step of fresh processes, taken in turns A B A B …; in a warm row after one that is not counted."""
    times: dict[str, list[Timing]] = {side.name: [] for side in sides}
    with tempfile.TemporaryDirectory() as kept:
        for turn in range(-1 if case.warm else 0, repeats):
            for side in sides:
                with tempfile.TemporaryDirectory() as new:
                    folder = f"{kept}/{side.name}" if case.warm else new
                    none = tuple((variable, None) for variable in FOLDERS.values())
                    caching = dataclasses.replace(side, env=(*side.env, *none, (FOLDERS[side.name], folder), KEPT))
                    found = started(caching, case.name)
                if turn >= 0:
                    times[side.name].append(found)
    return {name: _summary(found) for name, found in times.items()}


def _summary(found: list[Timing]) -> Timing:
    firsts = [timing.first for timing in found]
    error = next((timing.error for timing in found if timing.error), "")
    return Timing(error=error) if error else Timing(statistics.median(firsts), min(firsts), max(firsts))


def main(words: list[str]) -> int:
    """Runs all rows, or those whose names hold a word; returns the exit status."""
    steps.need_extension()
    by_start = {"group": lambda case: "warm" if case.warm else "cold"}
    compare("compile", chosen(CASES, words), SIDES, best=("Flax",), measure=starts, **by_start, note=NOTE, save=not words)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
