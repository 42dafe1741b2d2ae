"""What a folder must hold, written when it is complete: each file's size and checksum. What does not agree with it is not used.

The manifest guards against faults, not against people: whoever can write the folder can write a manifest that agrees with it.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cnn_jax.errors import shortened
from cnn_jax.files import read_short

NAME = "manifest.json"  # of the file, in the folder that it tells of
_PART = f".{NAME}.part"
LIMIT = 2**26  # bytes; a longer manifest is not read: nothing that this project writes comes near


class Damaged(Exception):
    """A folder that is not as it was written; the message says in what."""


def write_manifest(folder: Path, record: dict[str, Any]) -> None:
    """Writes `manifest.json`: the record, and what the folder holds. Afterwards all of it is on the disk, also if the power fails.

    Args:
      record: JSON, to be found again by `read_manifest`.

    Raises:
      OSError: it cannot be written.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "weights").write_bytes(b"1234")
    >>> write_manifest(folder, {"step": 7})
    >>> read_manifest(folder)["step"]
    7
    """
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (NAME, _PART)):
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": _checksum_of(path)}
    content = {**record, "files": files}
    text = json.dumps({"sha256": _checksum(content), "content": content}, indent=1)
    # Into place by renaming: where a manifest is written anew, a reader or a crash finds the old one or the new one.
    with open(folder / _PART, "w") as file:
        file.write(text)
    for path in [*folder.rglob("*"), folder]:
        synchronise(path)
    os.replace(folder / _PART, folder / NAME)
    synchronise(folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns the record that was written, and "files".

    Raises:
      Damaged: there is no manifest, or it is not as it was written.

    >>> read_manifest(Path("no such folder"))
    Traceback (most recent call last):
    cnn_jax.manifest.Damaged: it has no manifest.json: it is not this program's, or of an earlier version, or not complete
    """
    path = folder / NAME
    try:
        whole = json.loads(read_short(path, LIMIT))
        content = whole["content"]
        if _checksum(content) != whole["sha256"] or not isinstance(content["files"], dict):
            raise Damaged(f"{NAME} is not what was written")
    except (FileNotFoundError, NotADirectoryError):
        raise Damaged(f"it has no {NAME}: it is not this program's, or of an earlier version, or not complete") from None
    except OSError as error:
        raise Damaged(f"{NAME}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Damaged(f"{NAME} is not what was written") from None
    return content


def check_files(folder: Path) -> dict[str, Any]:
    """Returns the record of a folder whose files are all as they were written. Reads all of them.

    Raises:
      Damaged: a file is missing, of another size, or of other content; names it.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "weights").write_bytes(b"1234")
    >>> write_manifest(folder, {})
    >>> _ = (folder / "weights").write_bytes(b"1235")
    >>> check_files(folder)
    Traceback (most recent call last):
    cnn_jax.manifest.Damaged: weights is not what was written (its checksum differs)
    """
    content = read_manifest(folder)
    for name, expected in content["files"].items():
        _check_file(folder, name, expected)
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise Damaged(f"{shortened(path.relative_to(folder).as_posix())} is a link; links are not followed")
    return content


def _check_file(folder: Path, name: str, expected: Any) -> None:
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise Damaged(f"{NAME} names {shortened(name)}, which lies outside of the folder")
    try:
        size, checksum = expected["bytes"], expected["sha256"]
    except (KeyError, TypeError):
        raise Damaged(f"{NAME} is not of this version's form") from None
    if not isinstance(size, int) or not isinstance(checksum, str):
        raise Damaged(f"{NAME} is not of this version's form")
    try:
        if path.is_symlink():
            raise Damaged(f"{shortened(name)} is a link; links are not followed")
        if not path.is_file():
            raise Damaged(f"{shortened(name)} is missing")
        if path.stat().st_size != size:
            raise Damaged(f"{shortened(name)} has {path.stat().st_size:,} bytes instead of {size:,}")
        if _checksum_of(path) != checksum:
            raise Damaged(f"{shortened(name)} is not what was written (its checksum differs)")
    except OSError as error:
        raise Damaged(f"{shortened(name)}: {error.strerror}") from None


def synchronise(path: Path) -> None:
    """Returns when a file's content, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
