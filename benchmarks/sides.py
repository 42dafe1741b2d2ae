"""Peers side by side: each in a process of its own, prepared once, then timed in turns, so that a drift of the machine meets all alike."""

import dataclasses
import importlib
import multiprocessing
import os
import statistics
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

SLOW = 4.0  # seconds of one run, from which on a side has three turns


@dataclasses.dataclass(frozen=True)
class Side:
    """One way of doing a thing.

    Attributes:
      name: in the table.
      make: "module:function", (case) -> a function of no arguments that does the work once and waits for it, or a `Work`; imported in the
        child process.
      env: environment variables of that process; None takes one away.
    """

    name: str
    make: str
    env: tuple[tuple[str, str | None], ...] = ()


class Work(NamedTuple):
    """What `make` returns where there is more to say than the function.

    Attributes:
      once: does the work once and waits for it.
      beside: functions that are timed once in each turn too, by name: what the machine can do at most, in the same process and minute.
      facts: what is told of the work; it travels back from the process.
    """

    once: Callable[[], Any]
    beside: Mapping[str, Callable[[], Any]] = {}
    facts: Any = None


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds for one run: median, least and most; and seconds until the first was done. `error` says why there are none.

    `beside` has the medians, and `facts` what was told, of `Work`.
    """

    median: float = float("nan")
    least: float = float("nan")
    most: float = float("nan")
    first: float = float("nan")
    beside: Mapping[str, float] = dataclasses.field(default_factory=dict)
    facts: Any = None
    error: str = ""


def timed(sides: Iterable[Side], case: Any, *, repeats: int = 7, at_least: float = 0.05) -> dict[str, Timing]:
    """Returns each side's timing of a case, taken in turns A B C A B C …

    Args:
      case: what `make` is given; it travels to the processes.
      repeats: turns; three for sides that take SLOW seconds.
      at_least: seconds of a turn; short work is repeated within it.
    """
    workers = {side.name: _Worker(side, case) for side in sides}
    try:
        turns = {name: [] for name, worker in workers.items() if worker.ready()}
        seconds = {name: workers[name].run(1)[0] for name in turns}
        counts = {name: max(1, round(at_least / max(seconds[name], 1e-6))) for name in turns}
        for turn in range(repeats):
            for name, record in turns.items():
                if turn < 3 or seconds[name] < SLOW:
                    record.append(workers[name].run(counts[name]))
        return {name: worker.timing(turns.get(name, [])) for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.stop()


def started(side: Side, case: Any) -> Timing:
    """Returns the seconds from a process' first import to the end of the first run, in a process that is alone on the machine."""
    worker = _Worker(side, case)
    try:
        worker.ready()
        return worker.timing([])
    finally:
        worker.stop()


class _Worker:
    """A side's process. While it waits for its turn it does nothing."""

    def __init__(self, side: Side, case: Any):
        self.first, self.facts, self.error = float("nan"), None, ""
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        before = dict(os.environ)
        for key, value in side.env:
            os.environ.pop(key, None)
            os.environ |= {} if value is None else {key: value}
        # Not a daemon: those may have no processes of their own, which load data.
        self.process = context.Process(target=_serve, args=(theirs, side.make, case))
        self.process.start()
        os.environ.clear()
        os.environ.update(before)
        theirs.close()

    def ready(self) -> bool:
        try:
            self.first, self.facts, self.error = self.pipe.recv()
        except EOFError:
            self.error = "the process died"
        return not self.error

    def run(self, times: int) -> tuple[float, dict[str, float]]:
        """Returns the seconds of one run, the mean of so many, and of what is timed beside."""
        self.pipe.send(times)
        return self.pipe.recv()

    def timing(self, turns: list[tuple[float, dict[str, float]]]) -> Timing:
        if not turns:
            return Timing(first=self.first, facts=self.facts, error=self.error)
        times = [seconds for seconds, _ in turns]
        beside = {name: statistics.median(beside[name] for _, beside in turns) for name in turns[0][1]}
        return Timing(statistics.median(times), min(times), max(times), self.first, beside, self.facts)

    def stop(self) -> None:
        self.pipe.close()
        self.process.join(10)
        self.process.kill()


def _serve(pipe, make: str, case: Any) -> None:
    start = time.perf_counter()
    try:
        module, name = make.split(":")
        made = getattr(importlib.import_module(module), name)(case)
        work = made if isinstance(made, Work) else Work(made)
        work.once()
        first = time.perf_counter() - start
        for function in (work.once, *work.beside.values()):
            function()
        pipe.send((first, work.facts, ""))
    except Exception:
        pipe.send((float("nan"), None, traceback.format_exc(limit=-2)))
        return
    while True:
        try:
            times = pipe.recv()
        except EOFError:
            return
        seconds = _seconds(work.once, times)
        pipe.send((seconds, {name: _seconds(function, 1) for name, function in work.beside.items()}))


def _seconds(function: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - start) / times
