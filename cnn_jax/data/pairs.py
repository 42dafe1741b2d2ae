"""Pairs of images for verification: are the two of one class? The two lie behind each other, as the channels of one image."""

import numpy as np

from cnn_jax.data.dataset import Dataset
from cnn_jax.data.digits import digits
from cnn_jax.data.source import MemorySource

DIFFERENT, SAME = 0, 1


def digits_pairs(*, pairs_per_image: int = 8, data_dir: str | None = None) -> Dataset:
    """Returns pairs of scikit-learn's digits, half of them of one class: 11,496 to train on and 2,880 to test, 8×8×2.

    Both images of a pair are of the same split. Each image is the first of `pairs_per_image` pairs, always the same ones.
    """
    if pairs_per_image < 2 or pairs_per_image % 2:
        raise ValueError(f"pairs_per_image={pairs_per_image} must be even and at least 2: half of the pairs are of one class")
    single = digits(data_dir=data_dir)

    def open_split(split: str) -> MemorySource:
        source = single.open(split)
        first, second, same = paired(source.labels, pairs_per_image)
        return MemorySource(np.concatenate([source.images[first], source.images[second]], axis=-1), same)

    return Dataset(
        name="digits_pairs",
        input_shape=(8, 8, 2),
        train_shape=(8, 8, 2),
        class_names=("different", "same"),
        num_train=single.num_train * pairs_per_image,
        num_test=single.num_test * pairs_per_image,
        mean=single.mean * 2,
        std=single.std * 2,
        bundled=True,
        open=open_split,
    )


def paired(labels: np.ndarray, pairs_per_image: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (first, second, same): indices of the images of each pair, and 1 where both are of one class; the same ones each time.

    Half of an image's partners are drawn from its own class, itself left out, half from the others.

    >>> first, second, same = paired(np.array([0, 0, 1, 1]), 2)
    >>> first.tolist(), same.tolist()
    ([0, 0, 1, 1, 2, 2, 3, 3], [1, 0, 1, 0, 1, 0, 1, 0])
    """
    generator = np.random.default_rng(0)
    first = np.repeat(np.arange(len(labels)), pairs_per_image)
    same = np.tile([SAME, DIFFERENT], len(first) // 2)
    second = np.empty_like(first)
    for i in range(len(labels)):
        mine, mates = first == i, np.flatnonzero((labels == labels[i]) & (np.arange(len(labels)) != i))
        second[mine & (same == SAME)] = generator.choice(mates, pairs_per_image // 2)
        second[mine & (same == DIFFERENT)] = generator.choice(np.flatnonzero(labels != labels[i]), pairs_per_image // 2)
    return first, second, same
