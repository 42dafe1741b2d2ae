"""Counts what a training step costs each of 1, 2, 4 and 8 devices, under jit and under pmap: operations, collectives, time.

    python -m benchmarks.scaling [words of rows]       writes its part of docs/performance.md when all are run

A CPU is split into devices, which share its cores: on two cores times say nothing of eight machines. What each device computes and what
devices send each other is read off the compiled program, and is the same anywhere.
"""

import itertools
import math
import re
import sys
from typing import NamedTuple

from benchmarks import nets, steps
from benchmarks.sides import Side, Timing, Work
from benchmarks.versus import chosen, compare

# Calls of oneDNN and of the extension are not seen by XLA's count of operations, and are not made on several devices under jit.
PLAIN = (("CNN_JAX_ONEDNN", "0"), ("CNN_JAX_EXTENSION", "0"))
SIDES = [Side("jit", "benchmarks.scaling:by_jit", PLAIN), Side("pmap", "benchmarks.scaling:by_pmap", PLAIN)]
BATCH = 64  # of all devices where the work is fixed, of each where it grows
NET = nets.NETS["digits' ResNet-8, 64 × 8²"]()._replace(shape=(32, 32, 3))
NOTE = (
    "ResNet-8 on 32² images. All devices share this machine's cores, so that only operations and collectives are of use: of one device and "
    "one step, as compiled. Strong: 64 images in all; weak: 64 a device."
)
_COLLECTIVE = re.compile(
    r"= (?P<shapes>[^=]*?) (?:all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all|collective-broadcast)\("
)
_ARRAY = re.compile(r"\b(?:pred|[a-z]+(?P<bits>\d+)\w*)\[(?P<sizes>[\d,]*)\]")


class Case(NamedTuple):
    """A number of devices, and whether the batch grows with it."""

    devices: int
    weak: bool

    def __str__(self) -> str:
        return f"{'weak' if self.weak else 'strong'}, {self.devices} device{'s' if self.devices > 1 else ''}"


CASES = [Case(devices, weak) for weak in (False, True) for devices in (1, 2, 4, 8)]


def by_jit(case: Case) -> Work:
    """Returns the step that the compiler splits."""
    return _work(case, "jit")


def by_pmap(case: Case) -> Work:
    """Returns the step that is told the devices' axis."""
    return _work(case, "pmap")


def _work(case: Case, mode: str) -> Work:
    step = steps.our_step(NET._replace(batch=BATCH * (case.devices if case.weak else 1)), mode=mode, num_devices=case.devices)
    number, size = collectives(step.program.as_text())
    return Work(step.once, facts={"flops": step.program.cost_analysis()["flops"], "collectives": number, "bytes": size})


def collectives(program: str) -> tuple[int, int]:
    """Returns how many collectives a compiled program has, and the bytes of their results.

    >>> collectives("%a = f32[2,3]{1,0} all-reduce(%x), to_apply=%sum\\n%b = (bf16[4]{0}, /*index=1*/pred[]) all-gather(%y)")
    (2, 33)
    """
    found = [match["shapes"] for match in _COLLECTIVE.finditer(re.sub(r"/\*.*?\*/", "", program))]
    return len(found), sum(_bytes(array) for array in itertools.chain.from_iterable(map(_ARRAY.finditer, found)))


def _bytes(array: re.Match) -> int:
    return math.prod(int(size) for size in array["sizes"].split(",") if size) * max(1, int(array["bits"] or 8) // 8)


def costs(case: Case, timings: dict[str, Timing]) -> list[str]:
    """Returns the cells of what was read off each program."""
    cells = []
    for side in SIDES:
        facts = timings[side.name].facts or dict.fromkeys(("flops", "collectives", "bytes"), math.nan)
        cells += [f"{facts['flops'] / 1e9:.3f}", f"{facts['collectives']}, {facts['bytes'] / 1e6:.2f}"]
    return cells


def main(words: list[str]) -> int:
    """Runs all rows, or those whose names hold a word; returns the exit status."""
    headings = [f"{side.name}, {what}" for side in SIDES for what in ("GFLOP", "collectives, MB")]
    compare("scaling", chosen(CASES, words), SIDES, best=("pmap",), extra=costs, headings=headings, note=NOTE, save=not words)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
