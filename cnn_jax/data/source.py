"""Random access to a split's examples: from one array in memory, or decoded one by one."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np


class Source(Protocol):
    """A split. `source[indices]` gathers the examples at an integer array of indices, as {"inputs", "targets"}."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: np.ndarray) -> dict[str, np.ndarray]: ...


class MemorySource:
    """A split held as one array of images and one of labels: a batch is one gather.

    >>> MemorySource(np.zeros((3, 8, 8, 1), np.uint8), np.arange(3))[np.array([2, 0])]["targets"].tolist()
    [2, 0]
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images, self.labels = images, labels.astype(np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"inputs": self.images[indices], "targets": self.labels[indices]}


class DecodedSource:
    """A split too large for memory: each example is read and decoded when asked for, in grain's worker processes.

    `decode` makes an image of the model's size from one of any size; it must be a module-level function or a partial
    of one, since it travels to other processes.
    """

    def __init__(self, records: Sequence[dict[str, Any]], decode: Callable[[np.ndarray], np.ndarray]):
        self.records, self.decode = records, decode

    def __len__(self) -> int:
        return len(self.records)

    def example(self, index: int) -> dict[str, np.ndarray]:
        """Returns one decoded example."""
        record = self.records[int(index)]
        return {"inputs": self.decode(record["image"]), "targets": np.int32(record["label"])}

    def __getitem__(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        examples = [self.example(i) for i in indices]
        return {key: np.stack([e[key] for e in examples]) for key in ("inputs", "targets")}
