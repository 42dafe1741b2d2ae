"""Files written whole or not at all, and numbers as JSON has them."""

import contextlib
import itertools
import os
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
