"""What is printed must not end a run: a reader that is gone (`| head`, a `tee` that Ctrl-C has ended too), or a log on a full disk."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, Any


@contextlib.contextmanager
def unfailing() -> Iterator[None]:
    """Inside, what cannot be written to the standard output and error is dropped; also at the interpreter's end.

    >>> with unfailing():
    ...     print("heard")
    heard
    """
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_Unfailing, streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        for stream in streams:
            try:
                stream.flush()
            except OSError:
                _forget(stream)


class _Unfailing:
    def __init__(self, stream: IO[str]):
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            _forget(self._stream)
        except OSError:
            pass  # of a full disk the next line may be written again
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            _forget(self._stream)
        except OSError:
            pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _forget(stream: IO[str]) -> None:
    """What is in its buffer, and all that follows, goes nowhere."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
