"""Files written whole or not at all, and numbers as JSON has them."""

import contextlib
import errno
import itertools
import os
import stat
import tempfile
from math import isfinite
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Writes to a neighbour first, then renames it over `path`: a reader, or a crash, sees the old file or the new one.

    Raises:
      OSError: it cannot be written; the old file is as it was.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_text(Path(folder, "note.txt"), "whole")
    ...     print(os.listdir(folder))
    ['note.txt']
    """
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(file.name)
            raise


def finite(value: Any) -> Any:
    """Returns the value with None for each number that is not finite: NaN is no JSON.

    >>> finite({"recall": [0.5, float("nan")]})
    {'recall': [0.5, None]}
    """
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def not_through_a_link(path: str, flags: int) -> int:
    """An `opener` for `open`: what a link leads to is not written.

    >>> place = tempfile.mkdtemp()
    >>> os.symlink("/dev/null", f"{place}/link")
    >>> open(f"{place}/link", "a", opener=not_through_a_link)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    OSError: [Errno 40] ...
    """
    return os.open(path, flags | os.O_NOFOLLOW, 0o644)


def read_short(path: Path, limit: int) -> bytes:
    """Returns the content of a plain file of at most so many bytes.

    Raises:
      OSError: it is longer, or no plain file: a pipe would be waited for, and a device may have no end.

    >>> read_short(Path("/dev/zero"), 10)
    Traceback (most recent call last):
    OSError: [Errno 22] it is no plain file
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no plain file")
        if found.st_size > limit:
            raise OSError(errno.EFBIG, f"it has {found.st_size:,} bytes, more than any that is written")
        return file.read(limit)


def number_of(folder: Path) -> int | None:
    """Returns what a folder keeps when it is renamed, or its disk is mounted again; None where there is none.

    >>> number_of(Path("no such folder")) is None
    True
    """
    try:
        return folder.stat().st_ino
    except OSError:
        return None


def unused(path: Path) -> Path:
    """Returns the path, or the first with a number behind it that nothing has.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     unused(Path(folder)).name.endswith("-2")
    True
    """
    others = (path.with_name(f"{path.name}-{i}") for i in itertools.count(2))
    return next(p for p in itertools.chain([path], others) if not p.exists())
