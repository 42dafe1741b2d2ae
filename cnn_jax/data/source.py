"""Random access to a split's examples: from one array in memory, or decoded one by one."""

import errno
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cnn_jax.errors import UserError, shortened

_OF_THE_MACHINE = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)  # faults that are not an image's
_IN_A_ROW = 100  # examples that are tried, one after the other, before it is the disk rather than an image


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

    def content(self, index: int) -> bytes:
        """Returns what an image is known by: its pixels."""
        return self.images[index].tobytes()

    def fault(self, index: int) -> str | None:
        """Returns why an example cannot be used: None, what is in memory can."""
        return None


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
      num_classes: labels from there on are none; None takes any.
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
        num_classes: int | None = None,
    ):
        self.records, self.decode, self.label, self.cache, self.num_classes = records, decode, label, cache, num_classes
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
        """Returns one decoded example. Raises what its decoder does, and ValueError if its label is no class."""
        record = self.records[self.place_of(index)]
        label = int(record[self.label])
        if self.num_classes is not None and not 0 <= label < self.num_classes:
            raise ValueError(f"its label {label} is none of the {self.num_classes} classes")
        return {"inputs": self.decode(record["image"]), "targets": np.int32(label)}

    def usable(self, index: int) -> dict[str, np.ndarray]:
        """Returns one decoded example and, as "bad", −1; or, where it cannot be used, the next that can, and the place of the bad one.

        Raises:
          UserError: many in a row cannot be used.
        """
        for step in range(_IN_A_ROW):
            try:
                example = self.example((index + step) % len(self))
            except Exception as error:  # whatever broken data make of a decoder
                if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE):
                    raise  # with which every example would look broken for a while
                why = error
                continue
            return {**example, "bad": np.int64(-1 if step == 0 else index)}
        raise UserError(
            f"{_IN_A_ROW} examples in a row cannot be used, from example {index} on: {shortened(why)}. Are the data where they were?"
        )

    def fault(self, index: int) -> str | None:
        """Returns why an example cannot be used; None if it can."""
        try:
            self.example(index)
        except Exception as error:  # as above
            return shortened(str(error) or type(error).__name__)
        return None

    def content(self, index: int) -> bytes:
        """Returns what an image is known by: its file's content where that is kept, else its pixels."""
        image = (self.records if self._undecoded is None else self._whole)[self.place_of(index)].get("image")
        image = self.records[self.place_of(index)]["image"] if image is None else image
        return image if isinstance(image, bytes) else np.asarray(image).tobytes()

    @cached_property
    def _whole(self) -> Sequence[dict[str, Any]]:
        return self._undecoded()

    def place_of(self, index: int) -> int:
        """Returns an example's place among the records."""
        return int(index if self._keep is None else self._kept[index])

    def __getitem__(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        examples = [self.usable(int(i)) for i in indices]
        return {key: np.stack([e[key] for e in examples]) for key in ("inputs", "targets")}


class Part:
    """Some examples of a source, by their places in it.

    >>> source = MemorySource(np.zeros((3, 8, 8, 1), np.uint8), np.array([5, 6, 7]))
    >>> Part(source, np.array([0, 2])).labels.tolist()
    [5, 7]
    """

    def __init__(self, source: Source, places: np.ndarray):
        self.source, self.places = source, places

    def __len__(self) -> int:
        return len(self.places)

    @property
    def labels(self) -> np.ndarray:
        return self.source.labels[self.places]

    @property
    def groups(self) -> np.ndarray | None:
        return None if self.source.groups is None else self.source.groups[self.places]

    def __getitem__(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return self.source[self.places[indices]]
