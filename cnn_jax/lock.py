"""One run a folder: a lock that the kernel gives back when its process ends, however that ends."""

import contextlib
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO

from cnn_jax.errors import UserError, shortened


class Lock:
    """The right to write to a folder, by the file `lock` in it. Held until the process ends, or until `release`; never left behind.

    Args:
      folder: of a run.
    """

    def __init__(self, folder: Path):
        self.path = folder / "lock"
        self._file: IO | None = None

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_) -> None:
        self.release()

    def check(self) -> None:
        """Takes the lock where there is a file for it already. Writes nothing.

        Raises:
          UserError: another run holds it.
        """
        if self._file is None and self.path.exists():
            self._take("r+" if os.access(self.path, os.W_OK) else "r")

    def take(self) -> None:
        """Takes the lock, and writes down who holds it.

        Raises:
          UserError: another run holds it.
          OSError: the folder cannot be written.
        """
        if self._file is None or not self._file.writable():
            self.release()
            self._take("a+")
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        self._file.flush()

    def release(self) -> None:
        """Gives the lock back."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _take(self, mode: str) -> None:
        file = open(self.path, mode)  # noqa: SIM115  it stays open for as long as the lock is held
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                holder = shortened(file.readline().strip()) or "another process"
            raise UserError(
                f"Another run is writing to {self.path.parent}: {holder}. Wait for it or end it, or use another --workdir. "
                f"The lock goes with its process: there is nothing to delete."
            ) from None
        except OSError:
            pass  # some network file systems have no locks
        self._file = file
