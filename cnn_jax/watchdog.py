"""Ends a process that is stuck: one of several that waits for ever for another, or for a disk that does not answer."""

import faulthandler
import os
import sys
import threading
import time

from cnn_jax import processes
from cnn_jax.errors import EXIT_STUCK

_SEVERAL = 1800  # seconds without progress that are too many for one of several processes


class Watchdog:
    """Ends the process with `EXIT_STUCK`, after it has printed what each thread is doing, if `alive` is not called for too long.

    Use it with `with`. Where not even Python's threads can run, the exit code is 1.

    Args:
      seconds: that may pass between two calls; None for half an hour where there are several processes, and for ever where there is one.

    >>> with Watchdog(60) as watchdog:
    ...     watchdog.alive()
    """

    def __init__(self, seconds: float | None):
        self.seconds = _SEVERAL if seconds is None and processes.count() > 1 else seconds
        self._last = time.monotonic()
        self._over = threading.Event()

    def __enter__(self) -> "Watchdog":
        if self.seconds is not None:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()

    def alive(self) -> None:
        """Says that work goes on."""
        self._last = time.monotonic()

    def _watch(self) -> None:
        # By its own turns rather than by the clock alone: a process that was stopped for a while is given its time anew.
        turn = min(self.seconds / 10, 5.0)
        missed = 0.0
        before = self._last
        stderr = sys.__stderr__ or 2
        # Where a thread keeps Python's lock, in a read of a disk that is gone for example, this one never runs again. That needs none.
        faulthandler.dump_traceback_later(self.seconds + 2 * turn, exit=True, file=stderr)
        while not self._over.wait(turn):
            faulthandler.dump_traceback_later(self.seconds + 2 * turn, exit=True, file=stderr)
            missed = missed + turn if self._last == before else 0.0
            before = self._last
            if missed >= self.seconds:
                print(f"\nstuck: nothing has gone on for {missed:.0f} s. What each thread is doing:", file=sys.stderr, flush=True)
                faulthandler.dump_traceback(stderr, all_threads=True)
                print("the same command continues from what was saved", file=sys.stderr, flush=True)
                os._exit(EXIT_STUCK)
        faulthandler.cancel_dump_traceback_later()
