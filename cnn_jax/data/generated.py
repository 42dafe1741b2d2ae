"""A data set that is made up on the spot, in any shape, for tests and `--tiny`."""

import numpy as np

from cnn_jax.data.dataset import Dataset
from cnn_jax.data.image_cache import cached
from cnn_jax.data.prepared import cache_folder
from cnn_jax.data.source import DecodedSource, MemorySource, Source


def generated(
    *,
    shape: tuple[int, ...] = (8, 8, 1),
    train_shape: tuple[int, ...] | None = None,
    num_classes: int = 10,
    num_train: int = 64,
    num_test: int = 40,
    in_memory: bool = True,
    data_dir: str | None = None,
) -> Dataset:
    """Returns images of noise around one pattern a class, which any network can learn by heart; no files.

    `in_memory=False` passes them through the decoding path, as data sets too large for memory do; `data_dir` is for their cache, where one
    is made. Even and odd classes are its two groups.
    """

    if min(*shape, num_classes, num_train, num_test) < 1 or len(shape) != 3:
        raise ValueError(f"shape={shape} must be three sizes, and num_classes, num_train and num_test at least 1")

    def open_split(split: str) -> Source:
        size = {"train": train_shape or shape, "test": shape}[split]
        rng = np.random.default_rng([0, split == "train"])
        labels = rng.integers(num_classes, size={"train": num_train, "test": num_test}[split])
        images = rng.integers(0, 128, (len(labels), *size), dtype=np.uint8)
        rows = labels % size[0]
        images[np.arange(len(labels)), rows] += np.uint8(127)  # the class is the bright row
        if in_memory:
            return MemorySource(images, labels, labels % 2)
        facts = (split, "x".join(map(str, size)), f"{len(labels)}-images", f"{num_classes}-classes")
        return DecodedSource(_Records(images, labels), np.asarray, group="group", cache=cache_folder(data_dir, "generated", *facts))

    return Dataset(
        name="generated",
        input_shape=shape,
        train_shape=train_shape or shape,
        class_names=tuple(str(i) for i in range(num_classes)),
        num_train=num_train,
        num_test=num_test,
        mean=(0.25,) * shape[-1],
        std=(0.2,) * shape[-1],
        bundled=True,
        open=open_split if in_memory else lambda split: cached(open_split(split)),
        decoded=None if in_memory else open_split,
    )


class _Records:
    """Images and labels as the records of a TFDS data source."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {"image": self.images[index], "label": self.labels[index], "group": self.labels[index] % 2}
