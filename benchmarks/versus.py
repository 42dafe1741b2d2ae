"""A table of ours against peers, ratio first: printed row by row, and written into docs/performance.md."""

import datetime
import importlib.metadata
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.hardware import hardware
from benchmarks.page import DOCS, fill
from benchmarks.sides import Side, Timing, timed

PAGE = DOCS / "performance.md"
PACKAGES = ("jax", "jaxlib", "flax", "torch")


def compare(
    name: str,
    cases: Iterable[Any],
    sides: Sequence[Side],
    *,
    best: Sequence[str],
    against: str | None = None,
    label: Callable[[Any], str] = str,
    extra: Callable[[Any, Timing], str] | None = None,
    heading: str = "",
    repeats: int = 7,
    save: bool = True,
) -> list[float]:
    """Returns each row's ratio of ours, the first side, to the fastest of `best`; prints the table, and saves it between marks in the page.

    Args:
      name: of the benchmark, `python -m benchmarks.<name>`, and of the marks.
      against: a further peer whose ratio to ours is shown, above 1 where ours is faster.
      label: of a case's row.
      extra: a further column, `heading`, from a case and our timing.
      repeats: turns.
    """
    first = sides[0].name
    columns = ["", f"{first} / best", *([f"{against} / {first}"] if against else []), *(f"{side.name}, ms" for side in sides)]
    columns += [heading] if extra else []
    lines, ratios = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"], []
    print(*lines, sep="\n", flush=True)
    for case in cases:
        timings = timed(sides, case, repeats=repeats)
        ours = timings[first].median
        peers = [timings[peer].median for peer in best if not math.isnan(timings[peer].median)]
        ratios.append(ours / min(peers) if peers else float("nan"))
        row = [label(case), f"**{ratios[-1]:.2f}**", *([f"{timings[against].median / ours:.2f}"] if against else [])]
        row += [_cell(timings[side.name]) for side in sides] + ([extra(case, timings[first])] if extra else [])
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], flush=True)
        for side, timing in timings.items():
            if timing.error:
                print(f"{side}: {timing.error}", file=sys.stderr, flush=True)
    known = [ratio for ratio in ratios if not math.isnan(ratio)]
    mean = math.exp(sum(map(math.log, known)) / len(known)) if known else float("nan")
    command = f"`python -m benchmarks.{name}`, {hardware()}, {versions()}, {datetime.date.today()}"
    about = f"{command}; medians of {repeats} turns (least to most)."
    closing = f"Geometric mean of the ratios {mean:.2f}, largest {max(known, default=float('nan')):.2f}."
    print(f"{about}\n{closing}")
    if save:
        fill(name, [about, "", *lines, "", closing], PAGE)
    return ratios


def versions() -> str:
    """Returns the versions of what is compared, as far as it is installed."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def _cell(timing: Timing) -> str:
    if math.isnan(timing.median):
        return "failed"
    return f"{_ms(timing.median)} ({_ms(timing.least)} to {_ms(timing.most)})"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"
