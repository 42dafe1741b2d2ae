"""Decoded images on disk: written once by `--mode=cache_data`, then read as one memory-mapped array instead of being decoded again.

A cache is a folder of images.npy, labels.npy, checksums.npy, groups.npy where classes have groups, and cache.json, which tells what the
others hold. It is written under another name, and gets its own when it is complete. It is compared with the data when it is opened, and
each image with its checksum when it is first read: what is damaged is refused, never used.
"""

import fcntl
import importlib
import io
import json
import math
import os
import shlex
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np

from cnn_jax.data.pipeline import eval_batches
from cnn_jax.data.prepared import image_decoder
from cnn_jax.data.source import DecodedSource, Source
from cnn_jax.errors import UserError
from cnn_jax.files import write_text

_TOGETHER = 64  # images decoded, written and checked at a time


class DamagedCache(UserError):
    """A cache that must not be used; `what` is wrong with it."""

    def __init__(self, folder: Path, what: str):
        super().__init__(
            f"The cached images in {folder} are damaged: {what}. Run --mode=cache_data with the same settings to write them anew, "
            f"or delete the folder to decode images as before: rm -r {shlex.quote(str(folder))}"
        )
        self.what = what


class CachedSource:
    """A split whose decoded images lie in one file: a batch is one gather."""

    def __init__(self, folder: Path, images: np.ndarray, labels: np.ndarray, groups: np.ndarray | None, checksums: np.ndarray):
        self.folder, self.images, self.labels, self.groups = folder, images, labels, groups
        self._checksums, self._checked = checksums, np.zeros(len(labels), bool)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        images, labels = self.images[indices], self.labels[indices]
        for i in np.flatnonzero(~self._checked[indices]):
            if _checksum(images[i], labels[i]) != self._checksums[indices[i]]:
                raise DamagedCache(self.folder, f"image {indices[i]} is not what was written")
        self._checked[indices] = True
        return {"inputs": images, "targets": labels}

    def check(self) -> Iterator[int]:
        """Reads all images, and yields how many are what was written.

        Raises:
          DamagedCache: one is not.
        """
        for start in range(0, len(self), _TOGETHER):
            indices = np.arange(start, min(start + _TOGETHER, len(self)))
            yield start + len(self[indices]["targets"])


def cached(source: DecodedSource) -> Source:
    """Returns the split's cache, and says so, where there is one; the source itself where there is none.

    Raises:
      DamagedCache: there is one, which must not be used.
    """
    cache = open_cache(source)
    if cache is None:
        return source
    print(f"reading {len(cache):,} images from the cache in {cache.folder}", flush=True)
    return cache


def open_cache(source: DecodedSource) -> CachedSource | None:
    """Returns the split's cache, compared with the split; None where there is none.

    Raises:
      DamagedCache: its files are not what was written, or not what the split holds.
    """
    folder = source.cache
    if folder is None or not folder.exists():
        return None
    try:
        record = json.loads((folder / "cache.json").read_text())
        tables = {name: _table(folder, name, checksum) for name, checksum in record["crc32"].items()}
        if (size := (folder / "images.npy").stat().st_size) != record["bytes"]:
            raise DamagedCache(folder, f"images.npy has {size} bytes, not {record['bytes']}")
        images = np.lib.format.open_memmap(folder / "images.npy", mode="r")
        if images.dtype != np.uint8 or [*images.shape] != record["shape"]:
            raise DamagedCache(folder, f"images.npy holds {images.dtype} {[*images.shape]}, not uint8 {record['shape']}")
        cache = CachedSource(folder, np.asarray(images), tables["labels"], tables.get("groups"), tables["checksums"])
        made_by = record["decoder"]
    except OSError as error:
        raise DamagedCache(folder, f"{Path(error.filename or folder).name}: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise DamagedCache(folder, "cache.json is not of the form that it is written in") from None
    except (ValueError, OverflowError) as error:
        raise DamagedCache(folder, f"images.npy: {error}") from None
    if not len(source) == len(images) == len(cache) == len(tables["checksums"]):
        raise DamagedCache(folder, f"it holds {len(images)} images and {len(cache)} labels, but the data set has {len(source)}")
    for i in sorted({0, len(source) // 2, len(source) - 1}):
        example, found = source.usable(i), cache[np.array([i])]
        if not all(np.array_equal(found[key][0], example[key]) for key in ("inputs", "targets")):
            raise DamagedCache(folder, f"example {i} is not what decoding gives (cached by {made_by}, here is {_decoder()})")
    return cache


def unfinished(folder: Path) -> Path:
    """Returns where a cache lies until it is complete."""
    return folder.with_name(f"{folder.name}.unfinished")


def write_cache(source: DecodedSource, shape: tuple[int, ...], *, workers: int) -> Iterator[int]:
    """Decodes all images, appends them to the cache's files, and yields how many are there; continues what was interrupted.

    Args:
      shape: of an image.
      workers: processes that decode; 0 decodes here.

    Raises:
      UserError: another process is at it.
      OSError: it cannot be written. What is there is kept, to be continued.
    """
    folder, n = unfinished(source.cache), len(source)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        files = [
            stack.enter_context(_Rows(folder / f"{name}.npy", dtype, (n, *row)))
            for name, dtype, row in (("images", np.uint8, shape), ("labels", np.int32, ()), ("checksums", np.uint32, ()))
        ]
        done = 0
        for done in _whole(folder, *files):
            yield done
        for file in files:
            file.keep(done)
        for batch in eval_batches(source, batch_size=_TOGETHER, workers=workers, first=done) if done < n else ():
            images, labels = batch["inputs"][batch["valid"]], batch["targets"][batch["valid"]]
            checksums = np.array([_checksum(image, label) for image, label in zip(images, labels, strict=True)], np.uint32)
            for file, rows in zip(files, (images, labels, checksums), strict=True):
                file.append(rows)
            done += len(labels)
            yield done
    if source.groups is not None:
        np.save(folder / "groups.npy", source.groups, allow_pickle=False)
    tables = [name for name in ("labels", "checksums", "groups") if (folder / f"{name}.npy").exists()]
    record = {
        "shape": [n, *shape],
        "bytes": (folder / "images.npy").stat().st_size,
        "decoder": _decoder(),
        "crc32": {name: zlib.crc32((folder / f"{name}.npy").read_bytes()) for name in tables},
    }
    write_text(folder / "cache.json", json.dumps(record, indent=2) + "\n")
    os.replace(folder, source.cache)


def _whole(folder: Path, images: "_Rows", labels: "_Rows", checksums: "_Rows") -> Iterator[int]:
    """Counts the images of an interrupted writing, up to those that are not what was to be written: a machine may have gone down."""
    count = min(images.count(), labels.count(), checksums.count())
    if count:
        found = CachedSource(folder, images.read(count), labels.read(count), None, checksums.read(count))
        with suppress(DamagedCache):
            yield from found.check()


def _checksum(image: np.ndarray, label: np.ndarray) -> int:
    return zlib.crc32(label.tobytes(), zlib.crc32(image))


def _table(folder: Path, name: str, checksum: int) -> np.ndarray:
    content = (folder / f"{name}.npy").read_bytes()
    if zlib.crc32(content) != checksum:
        raise DamagedCache(folder, f"{name}.npy is not what was written")
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def _decoder() -> str:
    """What decodes here, with its version: another one's pixels may differ."""
    name = image_decoder()
    return f"{name} {importlib.import_module(name).__version__}"


class _Rows:
    """An .npy file that grows by rows; its header tells of all of them from the start. It is this process's alone.

    Appended to rather than mapped: on a full disk that is an error, where writing to mapped memory ends the process.
    """

    def __init__(self, path: Path, dtype: type, shape: tuple[int, ...]):
        self.path, self.dtype, self.shape = path, np.dtype(dtype), shape
        header = io.BytesIO()
        fields = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, fields)
        self.offset, self.row = header.tell(), self.dtype.itemsize * math.prod(shape[1:])
        self.file = path.open("a+b")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.close()
            raise UserError(f"Another process is writing to {path.parent}. Wait for it, or end it.") from None
        except OSError:
            pass  # some network file systems have no locks
        self.file.seek(0)
        if self.file.read(self.offset) != header.getvalue():
            self.file.truncate(0)
            self.file.write(header.getvalue())

    def __enter__(self) -> "_Rows":
        return self

    def __exit__(self, error: type | None, *_) -> None:
        with self.file:
            if error is None:
                os.fsync(self.file.fileno())

    def count(self) -> int:
        """Returns the number of whole rows."""
        return (self.file.seek(0, os.SEEK_END) - self.offset) // self.row

    def read(self, count: int) -> np.ndarray:
        """Returns the first rows, mapped."""
        return np.memmap(self.path, self.dtype, "r", offset=self.offset, shape=(count, *self.shape[1:]))

    def keep(self, count: int) -> None:
        """Drops what is behind the first rows."""
        self.file.truncate(self.offset + count * self.row)

    def append(self, rows: np.ndarray) -> None:
        """Writes rows at the end."""
        if rows.dtype != self.dtype or rows.shape[1:] != self.shape[1:]:
            raise ValueError(f"rows of {self.path} are {self.dtype} {self.shape[1:]}, not {rows.dtype} {rows.shape[1:]}")
        self.file.write(rows.tobytes())
        self.file.flush()
