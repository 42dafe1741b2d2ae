"""Random access to a split's examples: from one array in memory, or decoded one by one."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np


class Source(Protocol):
    """A split. `source[indices]` gathers the examples at an integer array of indices, as {"inputs", "targets"}.

    `labels` [n] are all targets; `groups` [n] the group of each example's class, None where a data set has none.
    """

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def groups(self) -> np.ndarray | None: ...

    def __len__(self) -> int: ...

    def __getitem__(self, indices: np.ndarray) -> dict[str, np.ndarray]: ...


class MemorySource:
    """A split held as one array of images and one of labels: a batch is one gather.

    >>> MemorySource(np.zeros((3, 8, 8, 1), np.uint8), np.arange(3))[np.array([2, 0])]["targets"].tolist()
    [2, 0]
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None):
        self.images, self.labels, self.groups = images, labels.astype(np.int32), groups

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"inputs": self.images[indices], "targets": self.labels[indices]}


class DecodedSource:
    """A split too large for memory: each example is read and decoded when asked for, in grain's worker processes.

    Args:
      records: of a TFDS data source, decoded one at a time.
      decode: makes an image of the model's size from one of any size; it must be a module-level function or a partial of one, since it
        travels to other processes.
      undecoded: () -> the same records with images left encoded, from which all labels are read, once, when they are asked for.
      label, group: what a record calls its class, and the group of its class (None: it has none).
      keep: labels -> bool [n], the examples that are of this split; None keeps all.
      cache: where its images lie once they are cached, named for all that decides their pixels (`image_cache.py`).
    """

    def __init__(
        self,
        records: Sequence[dict[str, Any]],
        decode: Callable[[np.ndarray], np.ndarray],
        *,
        undecoded: Callable[[], Sequence[dict[str, Any]]] | None = None,
        label: str = "label",
        group: str | None = None,
        keep: Callable[[np.ndarray], np.ndarray] | None = None,
        cache: Path | None = None,
    ):
        self.records, self.decode, self.label, self.cache = records, decode, label, cache
        self._undecoded, self._group, self._keep = undecoded, group, keep

    def __len__(self) -> int:
        return len(self.records if self._keep is None else self._kept)

    @property
    def labels(self) -> np.ndarray:
        return self._columns[0] if self._keep is None else self._columns[0][self._kept]

    @property
    def groups(self) -> np.ndarray | None:
        if self._group is None:
            return None
        return self._columns[1] if self._keep is None else self._columns[1][self._kept]

    @cached_property
    def _kept(self) -> np.ndarray:
        return np.flatnonzero(self._keep(self._columns[0]))

    @cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray | None]:
        records = self.records if self._undecoded is None else self._undecoded()
        found = [(r[self.label], r[self._group] if self._group else 0) for r in (records[i] for i in range(len(records)))]
        labels, groups = np.array(found, np.int32).T
        return labels, groups if self._group else None

    def example(self, index: int) -> dict[str, np.ndarray]:
        """Returns one decoded example."""
        record = self.records[int(index if self._keep is None else self._kept[index])]
        return {"inputs": self.decode(record["image"]), "targets": np.int32(record[self.label])}

    def __getitem__(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        examples = [self.example(i) for i in indices]
        return {key: np.stack([e[key] for e in examples]) for key in ("inputs", "targets")}
