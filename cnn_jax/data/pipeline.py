"""Batches for training, from any step on, and for evaluation, each example once."""

import contextlib
import functools
import gc
import multiprocessing
import multiprocessing.connection
import os
import threading
import time
from collections.abc import Callable, Iterator

import grain
import numpy as np
from absl import flags

from cnn_jax.data.faults import described
from cnn_jax.data.samplers import Order
from cnn_jax.data.source import DecodedSource, Source
from cnn_jax.errors import UserError
from cnn_jax.stopping import unheard
from cnn_jax.types import Batch

_LAST_SECONDS = 5  # of a decoding process whose run has ended: to tidy up, if it was told to end
OnBad = Callable[[np.ndarray], None]  # is told the places of examples that cannot be used


def train_batches(
    source: Source, order: Order, *, seed: int, start_step: int, num_steps: int, workers: int, on_bad: OnBad | None = None
) -> Iterator[Batch]:
    """Returns the batches of updates start_step + 1 to num_steps. An example that cannot be used is replaced by the next that can.

    Args:
      order: from `data.samplers`: (seed, step) -> the examples of a batch.
      workers: processes that decode, for a `DecodedSource`; 0 decodes here.
      on_bad: is given the places of examples that cannot be used, as they come; None refuses them.
    """
    batch_size = len(order(seed, start_step))
    valid = np.ones(batch_size, bool)
    if isinstance(source, DecodedSource):
        stream = grain.MapDataset.range(start_step * batch_size, num_steps * batch_size)
        stream = stream.map(lambda position: _usable(source, int(_batch_of(order, seed, position // batch_size)[position % batch_size])))
        for batch in _decoded(stream, batch_size, workers):
            _tell(source, batch.pop("bad"), on_bad)
            yield {**batch, "valid": valid}
    else:
        for step in range(start_step, num_steps):
            yield {**source[order(seed, step)], "valid": valid}


@functools.lru_cache(maxsize=4)  # a worker decodes a batch's examples one by one
def _batch_of(order: Order, seed: int, step: int) -> np.ndarray:
    return order(seed, int(step))


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    workers: int,
    padded_size: int | None = None,
    first: int = 0,
    rows: slice | None = None,
    on_bad: OnBad | None = None,
) -> Iterator[Batch]:
    """Returns every example from the `first` on once, in order, `batch_size` at a time.

    Each batch is filled up to `padded_size` (by default `batch_size`, which only the last one needs) with zeros that
    `valid` marks False; so it marks examples that cannot be used, and whose places hold others.

    Args:
      rows: of each padded batch, those that this process brings; None for all.
      on_bad: as `train_batches` has it.
    """
    n = len(source)
    if rows is not None:
        yield from _rows_of_batches(source, batch_size, workers, padded_size or batch_size, rows, on_bad)
        return
    if isinstance(source, DecodedSource):
        stream = grain.MapDataset.range(first, n).map(lambda index: _usable(source, int(index)))
        batches = _decoded(stream, batch_size, workers)
    else:
        batches = (source[np.arange(start, min(start + batch_size, n))] for start in range(first, n, batch_size))
    for batch in batches:
        bad = batch.pop("bad", np.full(len(batch["targets"]), -1))
        _tell(source, bad, on_bad)
        batch = _padded(batch, padded_size or batch_size)
        batch["valid"][: len(bad)] &= bad < 0
        yield batch


def _rows_of_batches(source: Source, batch_size: int, workers: int, padded_size: int, rows: slice, on_bad: OnBad | None) -> Iterator[Batch]:
    """A piece of each batch; what fills up is copies of an example that `valid` marks False."""
    n = len(source)
    places = np.arange(0, n, batch_size)[:, None] + np.arange(padded_size)[None, rows]
    valid = (np.arange(padded_size)[None, rows] < batch_size) & (places < n)
    places = np.where(valid, places, 0)
    if isinstance(source, DecodedSource):
        stream = grain.MapDataset.source(places.reshape(-1)).map(lambda place: _usable(source, int(place)))
        batches = _decoded(stream, places.shape[1], workers)
    else:
        batches = (source[part] for part in places)
    for batch, counted in zip(batches, valid, strict=True):
        bad = batch.pop("bad", np.full(len(counted), -1))
        _tell(source, bad[counted], on_bad)
        yield {**batch, "valid": counted & (bad < 0)}


def _tell(source: Source, bad: np.ndarray, on_bad: OnBad | None) -> None:
    places = bad[bad >= 0]
    if not len(places):
        return
    if on_bad is None:
        name, why = described(source, int(places[0]))
        raise UserError(f"Example {places[0]} ({name}) cannot be used: {why}. Mend or remove it.")
    on_bad(places)


def empty_batch(size: int, image_shape: tuple[int, ...]) -> Batch:
    """Returns a batch of the form of all others, in which nothing counts: what a step is compiled for."""
    inputs = np.zeros((size, *image_shape), np.uint8)
    return {"inputs": inputs, "targets": np.zeros(size, np.int32), "valid": np.zeros(size, bool)}


def _usable(source: DecodedSource, index: int) -> dict[str, np.ndarray]:
    _end_with_the_run()
    return source.usable(index)


@functools.cache
def _end_with_the_run() -> None:
    """In a decoding process: a run that is killed takes it along, which would wait for it for ever."""
    run = multiprocessing.parent_process()

    def wait() -> None:
        multiprocessing.connection.wait([run.sentinel])
        time.sleep(_LAST_SECONDS)
        os._exit(1)

    if run is not None:
        threading.Thread(target=wait, name="end with the run", daemon=True).start()


def _decoded(stream: grain.MapDataset, batch_size: int, workers: int) -> Iterator[dict[str, np.ndarray]]:
    """Examples into batches, keeping their order; the last may be short. Decoding happens in worker processes."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain defines flags of its own and refuses to work where nobody parsed them
    batches = stream.batch(batch_size).to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
    if workers:
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2))
    try:
        with contextlib.closing(iter(batches)) as iterator:  # ends the workers, also when the loop stops early
            # Workers begin with the first batch. A terminal, or SLURM, sends its signals to them as well, and the run still needs them.
            with unheard():
                batch = next(iterator, None)
            while batch is not None:
                # Out of the memory shared with the workers, which is theirs to reuse and to free.
                yield {key: np.array(value) for key, value in batch.items()}
                batch = next(iterator, None)
    finally:
        batch = iterator = None
        gc.collect()  # grain's iterators are cycles that hold the last batch's shared memory until the process ends


def _padded(batch: dict[str, np.ndarray], padded_size: int) -> Batch:
    size = len(batch["targets"])
    missing = padded_size - size
    padded = {k: np.pad(v, [(0, missing)] + [(0, 0)] * (v.ndim - 1)) if missing else v for k, v in batch.items()}
    return {**padded, "valid": np.arange(padded_size) < size}
