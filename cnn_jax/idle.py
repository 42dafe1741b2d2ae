"""How long the device has nothing to do because its next data are not there yet."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax


class Idle:
    """Time that a device waits for data: from the end of its work until the data of the next are on the device. Use it with `with`.

    Both moments are watched by threads, which sleep until they come: the host, which is fetching then, would see neither.

    Args:
      watch: (arrays) -> the moment at which all of them are there, in seconds.

    >>> def known(moment):
    ...     future = Future()
    ...     future.set_result(moment)
    ...     return future
    >>> idle = Idle(watch=known)
    >>> idle.works_on(2.0)  # its results are there after 2 s
    >>> idle.fetched(7.0)  # more data after 7 s
    >>> idle.works_on(9.0)
    >>> idle.fetched(8.0)
    >>> idle.take()
    5.0
    """

    def __init__(self, watch: Callable[[Any], "Future[float]"] | None = None):
        # At most two pieces of work and one of data are under way: nothing waits for a thread, which would make its moment late.
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="idle")
        self._watch = watch or (lambda arrays: self._threads.submit(_moment, arrays))
        self._end: Future[float] | None = None
        self._gaps: list[tuple[Future[float], Future[float]]] = []

    def __enter__(self) -> "Idle":
        return self

    def __exit__(self, *_) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def works_on(self, results: Any) -> None:
        """Work has been handed over that makes these arrays."""
        self._end = self._watch(results)

    def fetched(self, data: Any) -> None:
        """The data of the next work have been sent on their way to the device; None where there are no more."""
        if self._end is not None and data is not None:
            self._gaps.append((self._end, self._watch(data)))

    def take(self) -> float:
        """Returns the seconds waited since the last call, as far as the moments have come."""
        over = [gap for gap in self._gaps if all(moment.done() for moment in gap)]
        self._gaps = [gap for gap in self._gaps if gap not in over]
        return sum(max(there.result() - end.result(), 0.0) for end, there in over)


def _moment(arrays: Any) -> float:
    jax.block_until_ready(arrays)
    return time.perf_counter()
