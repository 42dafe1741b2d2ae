"""A file of JSON lines that grows: each is there whole, or not at all."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnn_jax.files import finite, write_text


class Lines:
    """Records appended to a file. Those that cannot be written are kept, and written with the next.

    >>> import tempfile
    >>> lines = Lines(Path(tempfile.mkdtemp(), "metrics.jsonl"))
    >>> lines.add({"step": 1, "loss": float("nan")})
    >>> lines.path.read_text()
    '{"step": 1, "loss": null}\\n'
    """

    def __init__(self, path: Path):
        self.path = path
        self._size = path.stat().st_size if path.exists() else 0
        self._pending = b""

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Drops the records that are not wanted, and what is no record: half a line, of a process that was killed.

        Raises:
          OSError: the file cannot be read or written; it is then as it was.
        """
        if not self.path.exists():
            return
        text = self.path.read_text(errors="replace")
        kept = "".join(line + "\n" for line in text.splitlines() if _is(wanted, line))
        if kept != text:
            write_text(self.path, kept)
        self._size = self.path.stat().st_size

    def add(self, record: dict[str, Any]) -> None:
        """Appends a record, after those that could not be written before.

        Raises:
          OSError: it cannot be written now.
        """
        self._pending += (json.dumps(finite(record)) + "\n").encode()
        if not self.path.exists():
            self._size = 0
        with open(self.path, "r+b" if self._size else "wb", buffering=0) as file:
            # What a full disk took of a line is written over.
            file.seek(self._size)
            rest = self._pending
            while rest:
                rest = rest[file.write(rest) :]
            file.truncate()
            self._size = file.tell()
        self._pending = b""

    def synchronise(self) -> None:
        """Brings what is written to the disk.

        Raises:
          OSError: that cannot be done.
        """
        if self.path.exists():
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())


def _is(wanted: Callable[[dict[str, Any]], bool], line: str) -> bool:
    try:
        return wanted(json.loads(line))
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
