"""A table of ours against peers, ratio first: printed row by row, and written into docs/performance.md."""

import datetime
import importlib.metadata
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.hardware import hardware
from benchmarks.page import DOCS, fill
from benchmarks.sides import Side, Timing, timed

PAGE = DOCS / "performance.md"
PACKAGES = ("jax", "jaxlib", "flax", "torch")


def chosen(cases: Iterable[Any], words: Sequence[str], label: Callable[[Any], str] = str) -> list[Any]:
    """Returns the cases with one of the words in their label, or all where there are no words; ends the program where none has."""
    cases = list(cases)
    found = [case for case in cases if not words or any(word in label(case) for word in words)]
    if not found:
        sys.exit(f"No row has {' or '.join(words)} in its name. Rows: {'; '.join(map(label, cases))}")
    return found


def compare(
    name: str,
    cases: Iterable[Any],
    sides: Sequence[Side],
    *,
    best: Sequence[str],
    against: str | None = None,
    label: Callable[[Any], str] = str,
    group: Callable[[Any], str] | None = None,
    extra: Callable[[Any, Mapping[str, Timing]], Sequence[str]] | None = None,
    headings: Sequence[str] = (),
    note: str = "",
    measure: Callable[..., Mapping[str, Timing]] = timed,
    repeats: int = 7,
    save: bool = True,
) -> list[float]:
    """Returns each row's ratio of ours, the first side, to the fastest of `best`; prints the table, and saves it between marks in the page.

    Args:
      name: of the benchmark, `python -m benchmarks.<name>`, and of the marks.
      against: a further peer whose ratio to ours is shown, above 1 where ours is faster.
      label: of a case's row.
      group: of a case: each group's mean stands below the table.
      extra: further cells, below `headings`, from a case and the sides' timings.
      note: what a reader must know of the figures.
      measure: (sides, case, repeats=) -> timings, `sides.timed` or one like it.
      repeats: turns.
    """
    first = sides[0].name
    columns = ["", f"{first} / best", *([f"{against} / {first}"] if against else []), *(f"{side.name}, ms" for side in sides), *headings]
    lines, ratios = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"], []
    print(*lines, sep="\n", flush=True)
    cases = list(cases)
    for case in cases:
        timings = measure(sides, case, repeats=repeats)
        ours = timings[first].median
        peers = [timings[peer].median for peer in best if not math.isnan(timings[peer].median)]
        ratios.append(ours / min(peers) if peers else float("nan"))
        row = [label(case), f"**{ratios[-1]:.2f}**", *([f"{timings[against].median / ours:.2f}"] if against else [])]
        row += [*(_cell(timings[side.name]) for side in sides), *(extra(case, timings) if extra else [])]
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], flush=True)
        for side, timing in timings.items():
            if timing.error:
                print(f"{side}: {timing.error}", file=sys.stderr, flush=True)
    about = f"{described(name)}; medians of {repeats} turns (least to most).{f' {note}' if note else ''}"
    closing = _closing(ratios, [label(case) for case in cases], [group(case) for case in cases] if group else [])
    print(f"{about}\n{closing}")
    if save:
        fill(name, [about, "", *lines, "", closing], PAGE)
    return ratios


def described(name: str) -> str:
    """Returns a benchmark's command, the machine, the versions and the day."""
    return f"`python -m benchmarks.{name}`, {hardware()}, {versions()}, {datetime.date.today()}"


def versions() -> str:
    """Returns the versions of what is compared, as far as it is installed."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def _closing(ratios: Sequence[float], labels: Sequence[str], groups: Sequence[str]) -> str:
    """The means of all ratios and of each group, and which is the largest."""
    known = {label: ratio for label, ratio in zip(labels, ratios, strict=True) if not math.isnan(ratio)}
    if not known:
        return "No ratio: ours or all of its peers failed."
    largest = max(known, key=known.__getitem__)
    members = {name: [r for r, g in zip(ratios, groups, strict=True) if g == name and not math.isnan(r)] for name in dict.fromkeys(groups)}
    means = ", ".join(f"{name} {_mean(members[name]):.2f}" for name in members if members[name])
    by_group = f" By group: {means}." if means else ""
    return f"Geometric mean of the ratios {_mean(known.values()):.2f}, largest {known[largest]:.2f} ({largest}).{by_group}"


def _mean(ratios: Iterable[float]) -> float:
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logs) / len(logs))


def _cell(timing: Timing) -> str:
    if math.isnan(timing.median):
        return "failed"
    return f"{_ms(timing.median)} ({_ms(timing.least)} to {_ms(timing.most)})"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"
