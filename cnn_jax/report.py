"""What a run tells: progress on the console, JSON lines and TensorBoard events in the workdir, timing."""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import rich.progress
from rich.console import Console
from rich.table import Table

from cnn_jax import processes
from cnn_jax.events import Events
from cnn_jax.lines import Lines

_ACRONYMS = {"ami", "auc", "cmc", "mrr", "ndcg", "nmi", "roc"}
_SECONDS_A_LINE = 30


def console(min_width: int = 0) -> Console:
    """Returns the console; where the output is no terminal, lines are long and never broken.

    Args:
      min_width: of tables that are better scrolled sideways than squeezed.

    >>> console(min_width=300).width >= 300
    True
    """
    if not sys.stdout.isatty():
        return Console(highlight=False, width=max(200, min_width), no_color=True)
    return Console(highlight=False, width=max(Console().width, min_width))


def say(line: str) -> None:
    """Prints one line at once. Of several processes the first does.

    >>> say("done")
    done
    """
    if processes.is_first():
        print(line, flush=True)


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Prints "what … 3.2 s" around a piece of work.

    >>> with timed("a sum"):  # doctest: +ELLIPSIS
    ...     total = 1 + 1
    a sum … ... s
    """
    start = time.perf_counter()
    if not processes.is_first():
        yield
        return
    print(f"{what} …", end=" " if sys.stdout.isatty() else "", flush=True)
    yield
    print(f"{'' if sys.stdout.isatty() else ' '}{time.perf_counter() - start:.1f} s", flush=True)


def table(columns: list[str], rows: list[list[object]], *, title: str | None = None) -> Table:
    """Returns a table; columns of numbers are set flush right, the first column is never cut: it holds what one types.

    >>> table(["layer", "parameters"], [["conv1", 156], ["head", 850]]).row_count
    2
    """
    result = Table(title=title, title_justify="left", box=rich.box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for i, name in enumerate(columns):
        numeric = all(isinstance(row[i], int | float) for row in rows) and bool(rows)
        result.add_column(name, justify="right" if numeric else "left", no_wrap=i == 0)
    for row in rows:
        result.add_row(*(number(v) if isinstance(v, int | float) else str(v) for v in row))
    return result


def number(value: float) -> str:
    """Returns a number as tables show it.

    >>> number(11689512), number(0.98765), number(float("nan")), number(1e-5)
    ('11,689,512', '0.9877', '-', '1e-05')
    """
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.3g}"


def spelled(name: str) -> str:
    """Returns a figure's name as people write it.

    >>> spelled("learning_rate"), spelled("recall_at_1"), spelled("map_at_r"), spelled("roc_auc")
    ('learning rate', 'recall@1', 'MAP@R', 'ROC AUC')
    """
    whole = {"map_at_r": "MAP@R", "r_precision": "R-precision"}
    return whole.get(name) or " ".join(w.upper() if w in _ACRONYMS else w for w in name.replace("_at_", "@").split("_"))


def num_bytes(size: float) -> str:
    """Returns a number of bytes as tables show it.

    >>> num_bytes(25_557_032 * 4)
    '102 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.3g} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def times(shape: Iterable[int]) -> str:
    """Returns a shape as tables show it.

    >>> times((224, 224, 3))
    '224×224×3'
    """
    return "×".join(map(str, shape))


def progress(what: str, counts: Iterable[int], total: int) -> None:
    """Goes through a piece of work that yields how many images it has done: a bar, or a line now and then where the output is no terminal.

    >>> progress("squaring", [1, 2], total=2)  # doctest: +ELLIPSIS
    squaring 2/2  ... images/s  eta 0:00
    """
    if sys.stdout.isatty():
        with _bar() as bar:
            task = bar.add_task(what, total=total)
            for count in counts:
                bar.update(task, completed=count)
        return
    last, since = 0, time.perf_counter()
    for count in counts:
        seconds = time.perf_counter() - since
        if count == total or seconds >= _SECONDS_A_LINE:
            rate = (count - last) / max(seconds, 1e-9)
            say(f"{what} {count:>{len(f'{total:,}')},}/{total:,}  {rate:,.0f} images/s  eta {_clock((total - count) / rate)}")
            last, since = count, time.perf_counter()


def _bar(*columns: str) -> rich.progress.Progress:
    return rich.progress.Progress(
        "[progress.description]{task.description}",
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        *columns,
        rich.progress.TimeElapsedColumn(),
        "eta",
        rich.progress.TimeRemainingColumn(),
    )


class Report:
    """Progress and records of one training run. Use it with `with`.

    Records that cannot be written, since the disk is full or the folder gone, are kept and written as soon as that goes again.

    Args:
      workdir: gets `metrics.jsonl` and `tensorboard/`.
      start_step, num_steps: in updates. Records of steps after `start_step`, left by a run that was killed, are dropped.
      batch_size: for the throughput.
      evaluated: whether the state at `start_step` has been evaluated; if not, a record that says so is dropped.
      make_sure: of `Lines`.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        start_step: int,
        num_steps: int,
        batch_size: int,
        evaluated: bool = True,
        make_sure: Callable[[], None] = lambda: None,
    ):
        self.num_steps, self.batch_size = num_steps, batch_size
        self.lines = Lines(workdir / "metrics.jsonl", make_sure)
        made_again = () if evaluated else (start_step, "test")
        self.lines.keep(lambda record: record["step"] <= start_step and (record["step"], record["split"]) != made_again)
        self.events = Events(workdir / "tensorboard", start_step)
        self.unwritten = False
        self.since = (start_step, time.perf_counter())
        self.bar: rich.progress.Progress | None = None
        if sys.stdout.isatty():
            self.bar = _bar("[cyan]{task.fields[figures]}")
            self.task = self.bar.add_task("train", total=num_steps, completed=start_step, figures="")

    def __enter__(self) -> "Report":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self.bar:
            self.bar.stop()
        with contextlib.suppress(OSError):
            self.events.close()

    def restart_clock(self, step: int) -> None:
        """Leaves out of the throughput what was not training: compilation, evaluation."""
        self.since = (step, time.perf_counter())

    def advance(self, step: int) -> None:
        """Moves the bar."""
        if self.bar:
            self.bar.update(self.task, completed=step)

    def train(self, step: int, values: dict[str, float], *, waited: float = 0.0) -> None:
        """Records the means since the last record, the throughput, and the share of the time in which the device `waited` for data (s)."""
        last, start = self.since
        seconds = max(time.perf_counter() - start, 1e-9)
        rate, waiting = (step - last) * self.batch_size / seconds, min(waited / seconds, 1.0)
        self.restart_clock(step)
        self._record(step, "train", {**values, "examples_per_second": rate, "waiting": waiting})
        shown = {k: v for k, v in values.items() if k != "gradient_norm" and "/" not in k}  # a group's figures would fill lines
        figures = f"{_figures(shown)}  {rate:,.0f} images/s  waiting {100 * waiting:.0f} %"
        if self.bar:
            self.bar.update(self.task, completed=step, figures=figures)
        else:
            seconds = (self.num_steps - step) * self.batch_size / rate
            say(f"step {step:>{len(str(self.num_steps))}}/{self.num_steps}  {figures}  eta {_clock(seconds)}")

    def test(self, step: int, values: dict[str, float], num_examples: int, of: int) -> None:
        """Records an evaluation."""
        self._record(step, "test", values)
        self.note(f"test at step {step}: {_figures(values)}  evaluated {num_examples} of {of}")

    def note(self, line: str) -> None:
        """Prints a line above the bar."""
        if self.bar:
            self.bar.console.print(line, highlight=False)
        else:
            say(line)

    def skipped(self, step: int, why: str, examples: list[int]) -> None:
        """Records an update that was left out, with the batch's examples: their places in the train split."""
        self._write({"step": step, "split": "skipped", "why": why, "examples": examples})
        self.note(f"WARNING: the update of step {step} is left out: {why}; its examples are in {self.lines.path.name}")

    def synchronise(self) -> None:
        """Brings the records to the disk, also if the power fails: before a state is saved that stands for them."""
        self._try(self.lines.synchronise)

    def _record(self, step: int, split: str, values: dict[str, float]) -> None:
        self._write({"step": step, "split": split, **values})
        with contextlib.suppress(OSError):  # they are a picture of the lines, and told of with them
            self.events.add({f"{split}/{name}": value for name, value in values.items() if math.isfinite(value)}, step)

    def _write(self, record: dict[str, Any]) -> None:
        self._try(lambda: self.lines.add(record))

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
            if self.unwritten:
                self.note(f"all records are written to {self.lines.path} again")
            self.unwritten = False
        except OSError as error:
            if not self.unwritten:
                self.note(f"WARNING: {self.lines.path} cannot be written ({error.strerror}); records are kept until it can")
            self.unwritten = True


class Unread:
    """A report that nobody reads: of each process but the first."""

    unwritten = False

    def __enter__(self) -> "Unread":
        return self

    def __exit__(self, *_) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **options: None


def _figures(values: dict[str, float]) -> str:
    return "  ".join(f"{spelled(name)} {number(value)}" for name, value in values.items())


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
