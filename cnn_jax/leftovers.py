"""What lies beside checkpoints: what a run that was killed left half written or half deleted, and what is to be deleted."""

import contextlib
import os
import re
import shutil
from pathlib import Path

from cnn_jax.files import unused


def tidy_up(folder: Path) -> None:
    """Deletes what a run that was killed left half written, or half deleted.

    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp())
    >>> (place / ".3.partial").mkdir()
    >>> tidy_up(place)
    >>> os.listdir(place)
    []
    """
    if folder.is_dir():
        for name in os.listdir(folder):
            if re.fullmatch(r"\.[0-9]+\.(partial|removed)(-[0-9]+)?", name):
                delete(folder / name)


def delete(path: Path) -> None:
    """Deletes a folder, a file or a link; what cannot be deleted, such as a file that another machine has open, stays."""
    with contextlib.suppress(OSError):
        path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path)


def remove(checkpoint: Path) -> None:
    """Deletes a checkpoint. It is renamed first: what is killed half way must not look like a damaged one.

    Raises:
      OSError: it cannot be renamed; it is as it was.
    """
    removed = unused(checkpoint.with_name(f".{checkpoint.name}.removed"))
    os.replace(checkpoint, removed)
    delete(removed)


def leave_nothing(folder: Path, written: Path) -> None:
    """Where a workdir went, orbax may have made another of its name, which would be in the way of the one that comes back."""
    with contextlib.suppress(OSError):
        shutil.rmtree(written, ignore_errors=True)
        tidy_up(folder)
        for empty in (folder, folder.parent):
            empty.rmdir()  # only if it is empty
