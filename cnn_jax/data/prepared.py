"""TFDS data on disk as sources: found, prepared at first use, or refused with the way out. Needs no TensorFlow to read."""

import contextlib
import importlib.util
import io
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cnn_jax.data.source import DecodedSource, MemorySource
from cnn_jax.errors import UserError

# What can be used where other data cannot be had, for messages.
BUNDLED = "digits and lfw_subset need neither network nor TensorFlow (--experiment=digits_resnet)"


def open_in_memory(builder: type[tfds.core.DatasetBuilder] | str, split: str, data_dir: str | None) -> MemorySource:
    """Returns a split as arrays in memory, preparing it first if need be."""
    records = _records(builder, split, data_dir)
    examples = [records[i] for i in range(len(records))]
    images = np.stack([e["image"] for e in examples])
    return MemorySource(images, np.array([e["label"] for e in examples]))


def open_decoded(
    builder: str,
    split: str,
    data_dir: str | None,
    decode: Callable[[np.ndarray], np.ndarray],
    *,
    label: str = "label",
    group: str | None = None,
    keep: Callable[[np.ndarray], np.ndarray] | None = None,
    num_classes: int | None = None,
) -> DecodedSource:
    """Returns a split whose images are decoded when asked for, preparing it first if need be.

    Args:
      label, group, keep, num_classes: as `DecodedSource` has them.
    """
    undecoded = partial(_records, builder, split, data_dir, decoders={"image": tfds.decode.SkipDecoding()})
    records = _records(builder, split, data_dir)
    facts = (split, *([] if keep is None else [_described(keep)]), _described(decode), image_decoder())
    cache = cache_folder(data_dir, records.dataset_info.full_name, *facts)
    return DecodedSource(records, decode, undecoded=undecoded, label=label, group=group, keep=keep, cache=cache, num_classes=num_classes)


def data_folder(data_dir: str | None) -> Path:
    """Returns where data sets lie: in the folder named, in TFDS_DATA_DIR, or where TFDS has them."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or tfds.core.constants.DATA_DIR).expanduser()


def cache_folder(data_dir: str | None, name: str, *facts: str) -> Path:
    """Returns where a split's decoded images are cached, below its data.

    Args:
      name: of the data set, with its version.
      facts: all that decides the split's pixels: other facts are another folder.

    >>> cache_folder("data", "imagenet2012/5.1.0", "validation", "central_square-resize256-size224", "PIL").as_posix()
    'data/cached_images/imagenet2012/5.1.0/validation_central_square-resize256-size224_PIL'
    """
    return data_folder(data_dir) / "cached_images" / name / "_".join(facts)


def image_decoder() -> str:
    """Returns the library that TFDS decodes images with, "cv2" or "PIL": it takes what there is, and pixels can differ."""
    return "cv2" if importlib.util.find_spec("cv2") else "PIL"


def _described(function: Callable) -> str:
    """A function with the arguments it was given: central_square-resize256-size224."""
    if not isinstance(function, partial):
        return function.__name__
    options = (f"{key}{value}" for key, value in sorted(function.keywords.items()))
    return "-".join([function.func.__name__.strip("_"), *map(str, function.args), *options])


def _records(
    builder_or_name: type[tfds.core.DatasetBuilder] | str, split: str, data_dir: str | None, **options: Any
) -> Sequence[dict[str, Any]]:
    bundled = not isinstance(builder_or_name, str)
    folder = data_folder(data_dir)
    try:
        if bundled:
            builder = builder_or_name(data_dir=str(folder), file_format="array_record")
        else:
            with _silenced():
                try:
                    builder = tfds.builder(builder_or_name, data_dir=str(folder), file_format="array_record", try_gcs=False)
                except ValueError:  # the folder holds it in another format
                    raise _unreadable(builder_or_name, str(folder / builder_or_name)) from None
        try:
            return builder.as_data_source(split=split, **options)
        except (KeyError, NotImplementedError, AssertionError, ValueError):
            # Not prepared: done below. Prepared, but not readable: said with the way out.
            if (Path(builder.data_dir) / "dataset_info.json").exists():
                raise _unreadable(builder.name, builder.data_dir) from None
        if not bundled:
            _check_can_prepare(builder)
        _check_writable(folder, builder.name)
        _prepare(builder)
        return builder.as_data_source(split=split, **options)
    except OSError as error:
        raise UserError(f"Data set {builder_or_name if not bundled else builder_or_name.name}: {error}. "
                        f"Choose another folder with --set dataset.data_dir=FOLDER or TFDS_DATA_DIR.") from error  # fmt: skip


def _unreadable(name: str, folder: str) -> UserError:
    return UserError(
        f"{name} in {folder} cannot be read without TensorFlow: it was prepared in another file format than array_record, or is damaged. "
        f"Move it away to prepare it anew, or name another folder with --set dataset.data_dir=FOLDER. {BUNDLED}."
    )


def _prepare(builder: tfds.core.DatasetBuilder) -> None:
    print(f"preparing {builder.name} in {builder.data_dir} (once)", flush=True)
    # TFDS prints its own two lines, with sizes it does not know, around what is said above.
    with _silenced(), contextlib.redirect_stdout(io.StringIO()):
        tfds.disable_progress_bar()
        try:
            builder.download_and_prepare()
        except Exception as error:
            # Two runs may prepare at the same time: the first to finish wins, the other finds the folder taken.
            if not builder.is_prepared():
                raise UserError(f"{builder.name} could not be prepared in {builder.data_dir}: {error}. {BUNDLED}.") from error


def _check_writable(folder: Path, name: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{name} must be prepared, but {folder} cannot be written ({error.strerror}). "
            f"Choose another folder with --set dataset.data_dir=FOLDER or the variable TFDS_DATA_DIR."
        ) from error


def _check_can_prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Fails at once where TFDS would fail after minutes of retries and pages of traceback."""
    where = f"{builder.name} was not found in {builder.data_dir}"
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"{where}, and preparing it needs TensorFlow (reading it does not). Install it once with 'pip install tensorflow' and run "
            f"this again with a network; or copy a folder prepared elsewhere with file_format='array_record'. {BUNDLED}."
        )
    fetched = Path(builder.data_dir).parents[1] / "downloads"  # archives that are there already, or were put there by hand
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")) or fetched.is_dir():
        return
    try:
        socket.create_connection(("storage.googleapis.com", 443), timeout=5).close()
    except OSError:
        raise UserError(
            f"{where}, and it cannot be downloaded: there is no network. Copy a folder prepared elsewhere with "
            f"file_format='array_record', or name where it is with --set dataset.data_dir=FOLDER. {BUNDLED}."
        ) from None


class _silenced:
    """TFDS and absl warn at length about what is handled here."""

    def __enter__(self):
        self.levels = {name: logging.getLogger(name).level for name in ("absl", "tensorflow_datasets", "urllib3")}
        for name in self.levels:
            logging.getLogger(name).setLevel(logging.CRITICAL)

    def __exit__(self, *_):
        for name, level in self.levels.items():
            logging.getLogger(name).setLevel(level)
