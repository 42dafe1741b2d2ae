"""Times single operations and their gradients: ours, torch's and lax's, in turns.

    python -m benchmarks.ops [words of rows]       writes its part of docs/performance.md when all are run

Every class of convolution, forward and by inputs and by kernel; BatchNorm in training; pooling. float32, channels last in memory.
The peers' best is the faster of torch and lax.
"""

import sys

from benchmarks.op_cases import CASES
from benchmarks.roofline import HEADINGS, rates
from benchmarks.sides import Side
from benchmarks.steps import STOCK, need_extension
from benchmarks.versus import chosen, compare

SIDES = [
    Side("ours", "benchmarks.ops_jax:ours"),
    Side("torch", "benchmarks.ops_torch:theirs"),
    Side("lax", "benchmarks.ops_jax:plain", STOCK),
]
NOTE = (
    "torch has the allocator that ours has. The last columns: the rate as a share of that of a 2048³ matrix product in the same process, "
    "operations counted by formula, those on padding too."
)


def main(words: list[str]) -> int:
    """Runs all rows, or those whose names hold a word; returns the exit status."""
    need_extension()
    options = {"extra": lambda case, timings: rates(timings, getattr(case, "flops", None)), "headings": HEADINGS}
    by_group = {"group": lambda case: case.group}
    compare("ops", chosen(CASES, words), SIDES, best=("torch", "lax"), against="lax", **options, **by_group, note=NOTE, save=not words)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
