"""Compares every op, layer and loss that torch has too with torch: values and gradients, same inputs.

    python -m benchmarks.against_torch            all, and writes docs/against_torch.md
    python -m benchmarks.against_torch max_pool   the rows with this in their name, and writes nothing

Needs requirements-bench.txt. Ends with status 1 if a difference is above tolerance and not explained by name in torch_pairs.py.
"""

import collections
import dataclasses
import datetime
import platform
import sys
import time
import warnings
import zlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import rich.box
import rich.console
import rich.table
import torch

from benchmarks import torch_activation, torch_class_losses, torch_conv, torch_counts, torch_losses, torch_norm, torch_pool
from benchmarks.agreement import Case, Difference, between, ours_of, theirs_of
from benchmarks.hardware import hardware
from benchmarks.torch_pairs import EXPLAINED, NOT_HERE, PAIRS, WITHOUT

PAGE = Path(__file__).parent.parent / "docs" / "against_torch.md"
MODULES = (torch_conv, torch_pool, torch_activation, torch_norm, torch_losses, torch_class_losses, torch_counts)
CASES = {name: cases for module in MODULES for name, cases in module.CASES.items()}
# In float64 a difference is one of formulas, in float32 it may be one of rounding.
TOLERANCE = {"float32": 1e-5, "float64": 1e-9, "bfloat16": 2e-2}
SLOW = 20.0  # seconds
ABOUT = """In each, the same random numbers go through both; compared are the value and the gradient by every input of floats, under
the same random cotangent. A difference is max |a − b| / max(1, max |b|), the largest of all cases; in rows at 0, kinks and
±1e4 each value stands for itself. Each case is run in float32 and, from the same numbers, in float64. That tells rounding
from another formula, which stays. Functions and modules of torch are called, losses in the reductions none, mean and sum.
"composed" marks formulas for which torch has no function of its own.

A row above 1e-5 in float32, 1e-9 in float64 or 2e-2 in bfloat16 has a number in the last column and its reason below the tables. A
difference without a reason fails the command, and so does a reason without a difference.

Not compared: augmentations, of which torch has none without torchvision; hand-designed kernels, which are plain numbers; and what is
listed last."""


@dataclasses.dataclass
class Row:
    """The largest differences over the cases of one pair, or of one variant of it."""

    name: str
    variant: str
    num_cases: int = 0
    seconds: float = 0.0
    error: str = ""
    differences: dict[str, list[Difference]] = dataclasses.field(default_factory=lambda: collections.defaultdict(list))
    rounding: dict[str, float] = dataclasses.field(default_factory=lambda: {"ours": 0.0, "torch": 0.0})

    @property
    def title(self) -> str:
        """Returns the name as EXPLAINED has it."""
        return f"{self.name}: {self.variant}" if self.variant else self.name

    def add(self, item: Case, dtypes: tuple[str, ...]) -> None:
        """Runs one more case in each type; in float32 also how far each lies from torch's float64."""
        start = time.perf_counter()
        self.num_cases += 1
        try:
            exact = None
            for dtype in dtypes:
                ours, theirs = ours_of(item, dtype), theirs_of(item, dtype)
                self.differences[dtype].append(between(ours, theirs, item.pointwise))
                if dtype == "float64":
                    exact = theirs
                elif dtype == "float32":
                    for who, outcome in (("ours", ours), ("torch", theirs)):
                        self.rounding[who] = max(self.rounding[who], between(outcome, exact, item.pointwise).largest())
        except Exception as error:  # one broken case must not hide the other rows
            self.error = f"case {self.num_cases}: {type(error).__name__}: {error}".splitlines()[0]
        self.seconds += time.perf_counter() - start

    def largest(self, dtype: str) -> tuple[float, float | None]:
        """Returns the largest difference of values and of gradients."""
        differences = self.differences[dtype]
        gradients = [d.gradient for d in differences if d.gradient is not None]
        return max((d.value for d in differences), default=0.0), max(gradients, default=None)

    def agrees(self) -> bool:
        """Tells whether all differences are within tolerance."""
        return not self.error and all(d.largest() <= TOLERANCE[dtype] for dtype, ds in self.differences.items() for d in ds)

    def status(self) -> str:
        """Returns what is wrong with the row: nothing, that it differs or failed, or that its explanation is out of date."""
        if self.error:
            return f"FAILED: {self.error}"
        if self.agrees() != (self.title in EXPLAINED):
            return ""
        return "DIFFERS" if not self.agrees() else "explained, but agrees"


def compared(name: str, dtypes: tuple[str, ...]) -> list[Row]:
    """Returns the rows of one pair."""
    dtypes = tuple(sorted(dtypes, key=lambda dtype: dtype != "float64"))  # what float32 is measured by comes first
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    rows: dict[str, Row] = {}
    try:
        for item in CASES[name](draw):
            rows.setdefault(item.variant, Row(name, item.variant)).add(item, dtypes)
    except Exception as error:  # as above
        rows.setdefault("", Row(name, "")).error = f"{type(error).__name__}: {error}".splitlines()[0]
    return list(rows.values())


def unlisted() -> list[str]:
    """Returns what is wrong with the tables: pairs without cases, cases without pairs, torch's modules that are in neither table."""
    pairs = {name for section in PAIRS.values() for name in section}
    wrong = [f"{name} is in PAIRS, but has no cases" for name in sorted(pairs - CASES.keys())]
    wrong += [f"{name} has cases, but is not in PAIRS" for name in sorted(CASES.keys() - pairs)]
    text = " ".join(theirs for section in PAIRS.values() for theirs in section.values()).replace(",", " ").replace(";", " ")
    named = {word.rstrip(":").split("1d")[0] for word in text.split()} | NOT_HERE.keys()
    kinds = "activation adaptive batchnorm conv distance dropout instancenorm linear loss normalization padding pooling"
    for kind in kinds.split():
        for module in getattr(torch.nn.modules, kind).__all__:
            plain = module[:-2] if module[-2:] in ("1d", "2d", "3d") else module
            if not module.startswith("Lazy") and not {f"nn.{plain}", f"nn.{module}"} & named:
                wrong.append(f"torch's nn.{module} is in no row, nor in NOT_HERE")
    return wrong


def number(value: float | None) -> str:
    """Returns a difference as the tables show it."""
    return "–" if value is None else "0" if value == 0 else f"{value:.1e}".replace("e-0", "e-")


def figures(row: Row, dtypes: tuple[str, ...]) -> list[str]:
    """Returns value and gradient in each type."""
    return [number(v) for dtype in dtypes for v in row.largest(dtype)] if not row.error else ["failed"] * 2 * len(dtypes)


def show(console: rich.console.Console, section: str, rows: list[Row]) -> None:
    """Prints one section as a table; rows that differ are red, explained ones yellow."""
    dtypes = _dtypes(section)
    table = rich.table.Table(title=section, title_justify="left", box=rich.box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("ours", no_wrap=True)
    table.add_column("torch")
    for column in ("cases", *_columns(dtypes)):
        table.add_column(column, justify="right")
    table.add_column("")
    for row in rows:
        note = row.status() or ("explained" if row.title in EXPLAINED else "")
        slow = f"{row.seconds:.0f} s" if row.seconds > SLOW else ""
        style = "red" if row.status() else "yellow" if note or slow else None
        table.add_row(row.title, PAIRS[section][row.name], str(row.num_cases), *figures(row, dtypes), f"{note} {slow}".strip(), style=style)
    console.print(table)


def _dtypes(section: str) -> tuple[str, ...]:
    return ("float32", "float64", "bfloat16") if section == "Activations" else ("float32", "float64")


def _columns(dtypes: tuple[str, ...]) -> list[str]:
    return [f"{what}, {dtype}" for dtype in dtypes for what in ("value", "gradient")]


def page(results: dict[str, list[Row]]) -> Iterator[str]:
    """Yields the lines of docs/against_torch.md."""
    rows = [row for section in results.values() for row in section]
    notes = {row.title: i for i, row in enumerate((row for row in rows if row.title in EXPLAINED), 1)}
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "jax", "jaxlib", "flax", "numpy"))
    yield "# Agreement with torch"
    yield ""
    yield "Command: `python -m benchmarks.against_torch` (after `pip install -r requirements-bench.txt`), which writes this page."
    yield f"Versions: Python {platform.python_version()}, {packages}."
    yield f"Hardware: {hardware()}. Date: {datetime.date.today()}."
    yield ""
    yield f"{sum(row.num_cases for row in rows):,} configurations in {len(rows)} rows."
    yield ABOUT
    for section, members in results.items():
        dtypes = _dtypes(section)
        columns = ["ours", "torch", "cases", *_columns(dtypes), "note"]
        yield from ("", f"## {section}", "", f"| {' | '.join(columns)} |", "|---|---|" + "--:|" * (1 + 2 * len(dtypes)) + "---|")
        for row in members:
            cells = [f"`{row.name}`{row.title.removeprefix(row.name)}", PAIRS[section][row.name], str(row.num_cases), *figures(row, dtypes)]
            note = f"[{notes[row.title]}](#notes)" if row.title in notes else ""
            yield f"| {' | '.join(cells)} | {note}{' ' * bool(note and row.status())}{row.status()} |"
    yield from ("", "## Notes", "")
    by_title = {row.title: row for row in rows}
    for title, i in notes.items():
        row = by_title[title]
        same = all(d.largest() <= TOLERANCE["float64"] for d in row.differences["float64"])
        ours, theirs = (number(row.rounding[who]) for who in ("ours", "torch"))
        off = f" From torch's float64, ours in float32 is off by {ours}, torch's by {theirs}."
        yield f"{i}. `{row.name}`{row.title.removeprefix(row.name)}. {EXPLAINED[title]}{off * same}"
    for title, column, reasons in (("Ours without a row", "ours", WITHOUT), ("torch's without a row", "torch", NOT_HERE)):
        yield from ("", f"## {title}", "", f"| {column} | why |", "|---|---|", *(f"| `{name}` | {why} |" for name, why in reasons.items()))


def main(words: list[str]) -> int:
    """Runs the comparison; returns the exit status."""
    torch.set_num_threads(2)  # torch's rounding depends on it: far from zero its BatchNorm is off by 1e-5 with two threads, 4e-5 with one
    warnings.filterwarnings("ignore", message="Using padding='same'", category=UserWarning)
    console = rich.console.Console(width=None if sys.stdout.isatty() else 200)
    results = {}
    for section, pairs in PAIRS.items():
        names = [name for name in pairs if name in CASES and (not words or any(word in name for word in words))]
        rows = [row for name in names for row in compared(name, _dtypes(section))]
        if rows:
            results[section] = rows
            show(console, section, rows)
    rows = [row for section in results.values() for row in section]
    wrong = unlisted() + [f"{row.title}: {row.status()}" for row in rows if row.status()]
    if not words:
        titles = {row.title for row in rows}
        wrong += [f"{title} is explained, but is no row" for title in EXPLAINED if title not in titles]
        PAGE.write_text("\n".join(page(results)) + "\n")
    console.print(f"{sum(row.num_cases for row in rows)} configurations, {len(rows)} rows, {sum(row.seconds for row in rows):.0f} s")
    for line in wrong:
        console.print(line, style="red", markup=False)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
