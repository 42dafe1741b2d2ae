"""One run a folder: a lock that the kernel gives back when its process ends, however that ends."""

import contextlib
import errno
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO

from cnn_jax.errors import UserError, shortened
from cnn_jax.files import not_through_a_link, number_of


class Lock:
    """The right to write to a folder, by the file `lock` in it. Held until the process ends, or until `release`; never left behind.

    Args:
      folder: of a run.
    """

    def __init__(self, folder: Path):
        self.path = folder / "lock"
        self._file: IO | None = None
        self._home: int | None = None

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_) -> None:
        self.release()

    def check(self) -> None:
        """Takes the lock where there is a file for it already. Writes nothing.

        Raises:
          UserError: another run holds it, or it is a folder or a link.
        """
        if self._file is None and os.path.lexists(self.path):
            try:
                self._take("r+" if os.access(self.path, os.W_OK) else "r")
            except OSError as error:
                raise UserError(f"{self.path} is not the lock of a run: {error.strerror}. Delete it, or use another --workdir.") from None

    def take(self) -> None:
        """Takes the lock, and writes down who holds it.

        Raises:
          UserError: another run holds it.
          OSError: the folder cannot be written.
        """
        if self._file is None or not self._file.writable():
            self.release()
            self._take("a+")
        self._home = number_of(self.path.parent)
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        self._file.flush()

    def make_sure(self) -> None:
        """Returns if the folder is still there, and still this run's; before anything is written to it.

        Raises:
          OSError: it is gone, or another run's folder stands in its place.
        """
        if self._file is None or (there := number_of(self.path)) == os.fstat(self._file.fileno()).st_ino:
            return
        folder = self.path.parent
        if there is None and number_of(folder) == self._home:  # somebody has deleted the file
            self.release()
            self.take()
            return
        if number_of(folder) is None:
            raise FileNotFoundError(errno.ENOENT, f"{folder} is gone")
        raise OSError(errno.EBUSY, f"{folder} is another folder by now, perhaps of another run")

    def release(self) -> None:
        """Gives the lock back."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _take(self, mode: str) -> None:
        file = open(self.path, mode, opener=not_through_a_link)  # noqa: SIM115  it stays open for as long as the lock is held
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
