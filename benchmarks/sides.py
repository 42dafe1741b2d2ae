"""Peers side by side: each in a process of its own, prepared once, then timed in turns, so that a drift of the machine meets all alike."""

import dataclasses
import importlib
import multiprocessing
import os
import statistics
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Side:
    """One way of doing a thing.

    Attributes:
      name: in the table.
      make: "module:function", (case) -> a function of no arguments that does the work once and waits for it; imported in the child process.
      env: environment variables of that process; None takes one away.
    """

    name: str
    make: str
    env: tuple[tuple[str, str | None], ...] = ()


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds for one run: median, least and most; and seconds until the first was done. `error` says why there are none."""

    median: float = float("nan")
    least: float = float("nan")
    most: float = float("nan")
    first: float = float("nan")
    error: str = ""


def timed(sides: Iterable[Side], case: Any, *, repeats: int = 7, at_least: float = 0.05) -> dict[str, Timing]:
    """Returns each side's timing of a case, taken in turns A B C A B C …

    Args:
      case: what `make` is given; it travels to the processes.
      repeats: turns.
      at_least: seconds of a turn; short work is repeated within it.
    """
    workers = {side.name: _Worker(side, case) for side in sides}
    try:
        times = {name: [] for name, worker in workers.items() if worker.ready()}
        counts = {name: max(1, round(at_least / max(workers[name].run(1), 1e-6))) for name in times}
        for _ in range(repeats):
            for name, record in times.items():
                record.append(workers[name].run(counts[name]))
        taken = {n: Timing(statistics.median(r), min(r), max(r), workers[n].first) for n, r in times.items()}
        return {name: taken.get(name, Timing(error=worker.error)) for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.stop()


class _Worker:
    """A side's process. While it waits for its turn it does nothing."""

    def __init__(self, side: Side, case: Any):
        self.first, self.error = float("nan"), ""
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        before = dict(os.environ)
        for key, value in side.env:
            os.environ.pop(key, None)
            os.environ |= {} if value is None else {key: value}
        self.process = context.Process(target=_serve, args=(theirs, side.make, case), daemon=True)
        self.process.start()
        os.environ.clear()
        os.environ.update(before)
        theirs.close()

    def ready(self) -> bool:
        try:
            self.first, self.error = self.pipe.recv()
        except EOFError:
            self.error = "the process died"
        return not self.error

    def run(self, times: int) -> float:
        self.pipe.send(times)
        return self.pipe.recv()

    def stop(self) -> None:
        self.pipe.close()
        self.process.join(10)
        self.process.kill()


def _serve(pipe, make: str, case: Any) -> None:
    start = time.perf_counter()
    try:
        module, name = make.split(":")
        work: Callable[[], Any] = getattr(importlib.import_module(module), name)(case)
        work()
        first = time.perf_counter() - start
        work()
        pipe.send((first, ""))
    except Exception:
        pipe.send((float("nan"), traceback.format_exc(limit=-2)))
        return
    while True:
        try:
            times = pipe.recv()
        except EOFError:
            return
        start = time.perf_counter()
        for _ in range(times):
            work()
        pipe.send((time.perf_counter() - start) / times)
