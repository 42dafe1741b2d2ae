"""How batches reach the device: several updates' at a time, from data that lie there already where they fit, else brought ahead of time."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from cnn_jax.data.source import MemorySource, Source
from cnn_jax.types import Batch, PyTree

RESIDENT_BYTES = 2**30  # images that take no more than this are put on the device once, whole


class Chunk(NamedTuple):
    """The batches of `num` updates, stacked: each array [size, b, …], of which the first `num` count."""

    num: int
    batches: Mapping[str, PyTree]


class Ahead:
    """Items for the device, one of which is fetched and sent on its way while those before it are computed. Never more than one lies ready.

    What uses it hands an item over and then calls `fetch`, before it waits for anything. An error in fetching is raised when its item is
    due: what was handed over before can be finished, and saved.

    Args:
      items: made by the host: gathered, decoded.
      place: (item) -> the item on the device, or on its way there: a copy that goes on while the host does other things.

    >>> ahead = Ahead("ab", place=lambda item: print("place", item) or item)
    >>> for item in ahead:
    ...     print("compute", item)
    ...     ready = ahead.fetch()
    place a
    compute a
    place b
    compute b
    """

    def __init__(self, items: Iterable[Any], place: Callable[[Any], Any]):
        self._items, self._place = iter(items), place
        self._ready: tuple[Any, Exception | None] | None = None

    def fetch(self) -> Any:
        """Fetches the next item, where that is not done, and returns it; None where there is none."""
        if self._ready is None:
            try:
                self._ready = self._place(next(self._items)), None
            except Exception as error:  # the end of the items as well; both are raised when this one is due
                self._ready = None, error
        return self._ready[0]

    def __iter__(self) -> "Ahead":
        return self

    def __next__(self) -> Any:
        self.fetch()
        (item, error), self._ready = self._ready, None
        if error is not None:
            raise error
        return item


class Indexed:
    """A source that names examples rather than hold them: `source[indices]` is {"indices": indices}. For data that lie on the device.

    >>> from cnn_jax.data.source import MemorySource
    >>> Indexed(MemorySource(np.zeros((3, 8, 8, 1), np.uint8), np.arange(3)))[np.array([2, 0])]["indices"].tolist()
    [2, 0]
    """

    def __init__(self, source: Source):
        self.labels, self.groups, self._size = source.labels, source.groups, len(source)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"indices": np.asarray(indices, np.int32)}


def resident(source: Source) -> dict[str, np.ndarray] | None:
    """Returns a split's images and labels to be put on the device once; None where they are not in memory, or too large.

    >>> resident(MemorySource(np.zeros((3, 8, 8, 1), np.uint8), np.arange(3)))["targets"].tolist()
    [0, 1, 2]
    """
    if not isinstance(source, MemorySource) or isinstance(source.images, np.memmap) or source.images.nbytes > RESIDENT_BYTES:
        return None
    return {"inputs": source.images, "targets": source.labels}


def taken(data: PyTree, batch: Batch) -> Batch:
    """Returns the batch whose examples are named by `batch["indices"]`, of those in `data`; without data, the batch itself.

    >>> taken({"inputs": np.array([5, 6, 7])}, {"indices": np.array([2, 0]), "valid": np.ones(2)})["inputs"].tolist()
    [7, 5]
    >>> taken({}, {"inputs": np.array([5])})["inputs"].tolist()
    [5]
    """
    if not data:
        return batch
    rest = {name: value for name, value in batch.items() if name != "indices"}
    return {**{name: values[batch["indices"]] for name, values in data.items()}, **rest}


def chunks(batches: Iterator[Batch], *, size: int, start_step: int, stop: Callable[[int], int]) -> Iterator[Chunk]:
    """Returns batches in chunks of `size` updates, or fewer where the loop has something to do in between.

    Args:
      batches: of the updates after `start_step`.
      stop: (completed updates) -> the next number of completed updates after which the loop does something else.

    >>> batches = ({"x": np.array([step])} for step in range(4))
    >>> [(chunk.num, chunk.batches["x"].ravel().tolist()) for chunk in chunks(batches, size=3, start_step=0, stop=lambda step: step + 2)]
    [(2, [0, 1, 0]), (2, [2, 3, 2])]
    """
    for num in cuts(size=size, start_step=start_step, stop=stop):
        kept = list(itertools.islice(batches, num))
        if len(kept) < num:
            return
        yield Chunk(num, stacked(kept, size))


def cuts(*, size: int, start_step: int, stop: Callable[[int], int]) -> Iterator[int]:
    """Returns how many updates each chunk holds, until `stop` gives no further update. Arguments as those of `chunks`.

    >>> list(cuts(size=3, start_step=0, stop=lambda step: min(step + 5, 9)))
    [3, 3, 3]
    >>> list(cuts(size=3, start_step=0, stop=lambda step: 4 if step < 4 else 5))
    [3, 1, 1]
    """
    step = start_step
    while num := min(size, stop(step) - step):
        yield num
        step += num


def stacked(batches: list[Batch], size: int) -> dict[str, Any]:
    """Returns batches as one with a leading axis of `size`; where they are fewer, the first fills up.

    >>> stacked([{"x": np.array([1])}], 2)["x"].tolist()
    [[1], [1]]
    """
    filled = [*batches, *[batches[0]] * (size - len(batches))]
    return {name: np.stack([batch[name] for batch in filled]) for name in batches[0]}
