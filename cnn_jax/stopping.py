"""The wish that a run end early: SIGTERM, Ctrl-C, SLURM's notice (SIGUSR1), or time that is up. Heard by the loop between two steps."""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator

# What a run ends early for, and what it calls them.
SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGUSR1: "SIGUSR1"}


class Stop:
    """Whether a run is to end early, and why. Use it with `with`: signals are as before afterwards.

    A second signal ends the process at once, with 128 + its number as exit code, whatever it is doing.

    Args:
      deadline: moment of `time.monotonic()` at which time is up; None for never.
      leave: what is called with a signal's number until `begin` is: there is nothing to save yet. It ends the process.

    >>> with Stop() as stop:
    ...     print(stop.reason)
    ...     os.kill(os.getpid(), signal.SIGTERM)
    ...     stop.wait(10)
    ...     print(stop.reason)
    None
    SIGTERM
    """

    def __init__(
        self,
        deadline: float | None = None,
        *,
        leave: Callable[[int], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._deadline, self._leave, self._clock = deadline, leave, clock
        self._signal: int | None = None
        self._heard = threading.Event()
        self._restore = contextlib.ExitStack()

    @property
    def reason(self) -> str | None:
        """Why the run is to end; None while it is not."""
        if self._signal is not None:
            return SIGNALS[self._signal]
        return "--max_minutes" if self._deadline is not None and self._clock() >= self._deadline else None

    def begin(self) -> None:
        """Says that there is something to save from now on."""
        self._leave = None

    def wait(self, seconds: float) -> None:
        """Returns when a signal has come, or after so many seconds."""
        self._heard.wait(seconds)

    def __enter__(self) -> "Stop":
        if threading.current_thread() is not threading.main_thread():
            return self  # only there can signals be listened to
        # Python runs its handlers between two of its instructions, so not while a step is compiled or waited for. What the interpreter
        # writes to a pipe at once is read by a thread, which runs while C++ does.
        read, write = os.pipe()
        os.set_blocking(write, False)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` and a shell's background jobs have it
                before = signal.signal(number, _leave_it_to_the_thread)
                self._restore.callback(signal.signal, number, before or signal.SIG_DFL)
        self._restore.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(write, warn_on_full_buffer=False))
        thread = threading.Thread(target=self._listen, args=(read,), name="stopping", daemon=True)
        thread.start()
        # In this order, from the last: signals as before, then the thread's end, then the pipe's.
        self._restore, handlers = contextlib.ExitStack(), self._restore
        for descriptor in (read, write):
            self._restore.callback(os.close, descriptor)
        self._restore.callback(thread.join)
        self._restore.callback(os.write, write, b"\0")
        self._restore.push(handlers)
        return self

    def __exit__(self, *_) -> None:
        self._restore.close()

    def _listen(self, descriptor: int) -> None:
        while number := os.read(descriptor, 1)[0]:
            if number not in SIGNALS:
                continue
            if self._leave is not None:
                self._leave(number)
            if self._signal is not None:
                _tell("left at once; the same command continues from what was saved")
                os._exit(128 + number)
            self._signal = number
            self._heard.set()
            _tell(f"{SIGNALS[number]}: the run finishes this step, saves and ends; once more to leave at once")


def _tell(line: str) -> None:
    """On the standard error, if somebody reads it: neither a reader that is gone nor one that is slow keeps a signal from its work."""
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [2], [], 0)[1]:
            os.write(2, f"\n{line}\n".encode())


def _leave_it_to_the_thread(number: int, frame: object) -> None:
    pass


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Processes started inside, by this thread, never see Ctrl-C or SIGUSR1: a terminal sends it to all, and the run still needs them.

    >>> with unheard():
    ...     signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    True
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGUSR1])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
