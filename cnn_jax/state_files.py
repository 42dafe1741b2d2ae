"""A state as files, and back: what orbax is used for. The only importer of it."""

import contextlib
import functools
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from cnn_jax import processes
from cnn_jax.state import TrainState
from cnn_jax.tree_difference import shapes, tree_difference


def on_the_host(state: TrainState) -> TrainState:
    """Returns the state as NumPy arrays of its own: the step that follows overwrites the state, and reading it on a CPU is no copy.

    Where a state lies in parts on several processes all must call it.
    """
    return jax.tree.map(np.array, jax.device_get(_first_copies(_raw_keys(state))))


def write_state(folder: Path, state: TrainState) -> None:
    """Writes a state that is on the host. The folder must not be there yet.

    Raises:
      OSError, ValueError: it cannot be written.
    """
    with _orbax() as checkpointer:
        checkpointer.save(folder, args=ocp.args.StandardSave(state))


def read_state(folder: Path, like: TrainState) -> TrainState | str:
    """Returns the state in a folder, placed on devices as `like` is; or, where it is another model's, how they differ, a line an array.

    Args:
      like: arrays, or shapes that know where they are to be placed.

    Raises:
      ValueError: the files cannot be read.
    """
    raw = jax.eval_shape(_raw_keys, like)
    try:
        with _orbax() as checkpointer:
            difference = tree_difference(shapes(checkpointer.metadata(folder).item_metadata.tree), shapes(raw))
            if difference:
                return difference
            # As NumPy arrays, by each process for itself: where they go is for the devices of today to say.
            target = jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), raw)
            arrays = checkpointer.restore(folder, args=ocp.args.StandardRestore(target))
    except Exception as error:  # orbax raises a dozen kinds here; each means the same to the user
        raise ValueError(in_short(error)) from error
    return jax.tree.map(_placed, like, arrays)


def in_short(error: BaseException) -> str:
    """Returns what went wrong, which tensorstore says between the file's path and all of its own settings.

    >>> in_short(ValueError("disk full [tensorstore_spec='{…}']"))
    'disk full'
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = re.split(r" \[(?:tensorstore_spec|source locations)=", lines[0])[0]
    return line if len(line) <= 200 else f"… {line[-160:]}"


def _first_copies(state: TrainState) -> TrainState:
    """The state on one device, where each holds it whole: of several copies one is read. Parts of other processes are fetched."""

    def one(x: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
        if isinstance(x, np.ndarray):
            return x
        if x.is_fully_replicated:
            return x.addressable_data(0)
        return x if x.is_fully_addressable else multihost_utils.process_allgather(x, tiled=True)

    return jax.tree.map(one, state)


def _raw_keys(state: TrainState) -> TrainState:
    """Random keys are stored as the integers they hold."""
    return state.replace(key=jax.random.key_data(state.key))


def _placed(like: jax.ShapeDtypeStruct, array: np.ndarray) -> jax.Array:
    """The array on the devices that `like` names, each of which takes its part."""
    if jax.dtypes.issubdtype(like.dtype, jax.dtypes.prng_key):
        shape = jax.eval_shape(jax.random.key_data, like)
        whole = jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=like.sharding)
        return jax.random.wrap_key_data(_placed(whole, array))
    return jax.make_array_from_callback(like.shape, like.sharding, lambda index: array[index])


@contextlib.contextmanager
def _orbax() -> Iterator[ocp.Checkpointer]:
    """What writes and reads arrays, for this process alone: no other is waited for."""
    _hear_once()
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.CRITICAL)  # orbax reports every file otherwise, and what is raised here as well
    try:
        alone = ocp.options.MultiprocessingOptions(primary_host=processes.index(), active_processes={processes.index()})
        handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
        with ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
            yield checkpointer
    finally:
        log.setLevel(level)


@functools.cache
def _hear_once() -> None:
    """Of several arrays that cannot be written one is raised. The others' errors are not printed by whichever thread meets them."""
    # Bound now: each hook goes on to what was there before.
    at_exit, of_threads, unraisable = sys.excepthook, threading.excepthook, sys.unraisablehook
    sys.excepthook = lambda kind, error, trace: None if _is_orbaxs(error) else at_exit(kind, error, trace)
    threading.excepthook = lambda args: None if _is_orbaxs(args.exc_value) else of_threads(args)
    sys.unraisablehook = lambda args: None if _is_orbaxs(args.exc_value) else unraisable(args)
    logging.getLogger("asyncio").addFilter(lambda record: "orbax" not in record.getMessage())


def _is_orbaxs(error: BaseException | None) -> bool:
    """Whether an error that nobody catches is of orbax's own threads, or of a write that ends after its loop."""
    if error is None:
        return False
    names = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    in_a_thread = bool(names) and os.path.basename(names[0]) == "threading.py"
    return str(error) == "Event loop is closed" or (in_a_thread and any("orbax" in name for name in names))
