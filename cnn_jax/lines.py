"""A file of JSON lines that grows: each is there whole, or not at all."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cnn_jax.files import finite, not_through_a_link, write_text

_LONGEST = 2**24  # bytes of a line; of a longer one each part is no record


class Lines:
    """Records appended to a file. Those that cannot be written are kept, and written with the next.

    Args:
      make_sure: is called before each writing, and raises OSError where nothing must be written.

    >>> import tempfile
    >>> lines = Lines(Path(tempfile.mkdtemp(), "metrics.jsonl"))
    >>> lines.add({"step": 1, "loss": float("nan")})
    >>> lines.path.read_text()
    '{"step": 1, "loss": null}\\n'
    """

    def __init__(self, path: Path, make_sure: Callable[[], None] = lambda: None):
        self.path, self._make_sure = path, make_sure
        self._written: tuple[int, int, int] | None = None  # device and number of the file, and how long it is without what was cut short
        self._pending = b""

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Drops the records that are not wanted, and what is no record: half a line, of a process that was killed.

        Raises:
          OSError: the file cannot be read or written; it is then as it was.
        """
        if not self.path.exists():
            return
        size, kept = self.path.stat().st_size, self.wanted(wanted)
        if sum(map(len, kept)) != size:
            write_text(self.path, b"".join(kept).decode())

    def wanted(self, wanted: Callable[[dict[str, Any]], bool]) -> list[bytes]:
        """Returns the lines of the file that are records, and wanted. Leaves the file as it is: another process may write it.

        Raises:
          OSError: it cannot be read.
        """
        with open(self.path, "rb") as file:
            lines = iter(partial(file.readline, _LONGEST), b"")
            return [line for line in lines if line.endswith(b"\n") and _is(wanted, line)]

    def add(self, record: dict[str, Any]) -> None:
        """Appends a record, after those that could not be written before.

        Raises:
          OSError: it cannot be written now.
        """
        self._pending += (json.dumps(finite(record)) + "\n").encode()
        self._write()

    def _write(self) -> None:
        self._make_sure()
        with open(self.path, "ab", buffering=0, opener=not_through_a_link) as file:
            found = os.fstat(file.fileno())
            # What a full disk took of a line goes. In another file, such as that of a disk that was mounted meanwhile, nothing does.
            if self._written is not None and self._written[:2] == (found.st_dev, found.st_ino) and found.st_size > self._written[2]:
                file.truncate(self._written[2])
            rest = self._pending
            while rest:
                rest = rest[file.write(rest) :]
            self._written = (found.st_dev, found.st_ino, os.fstat(file.fileno()).st_size)
        self._pending = b""

    def synchronise(self) -> None:
        """Writes what could not be written before, and brings all of it to the disk.

        Raises:
          OSError: that cannot be done.
        """
        if self._pending:
            self._write()
        if self.path.exists():
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())


def _is(wanted: Callable[[dict[str, Any]], bool], line: bytes) -> bool:
    try:
        return wanted(json.loads(line))  # UnicodeDecodeError is a ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
