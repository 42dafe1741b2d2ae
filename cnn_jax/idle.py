"""How long the device has nothing to do because its next batches are not there yet."""

import time
from collections.abc import Callable


class Idle:
    """Time that a device waits for data, of a loop that hands over the next work while the last is being done.

    The host sees when work is handed over and, afterwards, whether it is done; not when it was done. A device that is found waiting is
    taken to have worked as long as the shortest work of that size has been seen to take.

    >>> clock = iter([0.0, 2.0, 2.0, 7.0]).__next__  # 2 s of work; more, and data after 5 s
    >>> idle = Idle(clock)
    >>> idle.began(updates=1)
    >>> idle.ended()
    >>> idle.began(updates=1)
    >>> idle.fetched(done=True)
    >>> idle.take()
    3.0
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.clock, self.shortest, self.total = clock, float("inf"), 0.0
        self.start, self.updates = 0.0, 0

    def began(self, updates: int) -> None:
        """Work on so many updates has begun: what was handed over before is done."""
        self.start, self.updates = self.clock(), updates

    def fetched(self, done: bool) -> None:
        """The next data are there; `done` tells whether the device had finished by then."""
        if done:
            self.total += max(self.clock() - self.start - self.shortest * self.updates, 0.0)

    def ended(self) -> None:
        """The work is done, and the host has waited for it."""
        self.shortest = min(self.shortest, (self.clock() - self.start) / max(self.updates, 1))

    def take(self) -> float:
        """Returns the seconds since the last call, and forgets them."""
        total, self.total = self.total, 0.0
        return total
