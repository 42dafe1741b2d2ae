"""Data sets split by class, for retrieval: the test classes are never trained on. One that is bundled, three of the TFDS catalogue."""

from collections.abc import Callable
from functools import partial

import numpy as np

from cnn_jax.data.catalogue import central_square
from cnn_jax.data.dataset import Dataset
from cnn_jax.data.digits import digits
from cnn_jax.data.image_cache import cached
from cnn_jax.data.prepared import open_decoded
from cnn_jax.data.source import DecodedSource, MemorySource


def digits_unseen(*, symmetries: int = 1, data_dir: str | None = None) -> Dataset:
    """Returns scikit-learn's digits split by class: all 901 images of 0 to 4 to train on, all 896 of 5 to 9 to retrieve among.

    Five classes are few to learn from what tells classes apart. With 4 `symmetries` each train image comes in all quarter turns, with 8
    mirrored as well, and each of a digit's forms is a class of its own: 20 or 40 to train on. Test images stay as they are.
    """
    if symmetries not in (1, 4, 8):
        raise ValueError(f"symmetries={symmetries} must be 1, 4 (quarter turns) or 8 (mirrored as well)")
    whole = digits(data_dir=data_dir)

    def open_split(split: str) -> MemorySource:
        parts = [whole.open(name) for name in ("train", "test")]
        images, labels = (np.concatenate([getattr(part, field) for part in parts]) for field in ("images", "labels"))
        kept = (labels < 5) == (split == "train")
        images, labels = images[kept], labels[kept]
        if split == "test":
            return MemorySource(images, labels)
        forms = [np.rot90(images[:, :, ::-1] if i >= 4 else images, i % 4, axes=(1, 2)) for i in range(symmetries)]
        numbers = [labels + (5 + 5 * i if i else 0) for i in range(symmetries)]  # after the ten digits as they are
        return MemorySource(np.concatenate(forms), np.concatenate(numbers))

    return Dataset(
        name="digits_unseen",
        input_shape=whole.input_shape,
        train_shape=whole.train_shape,
        class_names=whole.class_names + tuple(f"{c}, form {i + 1}" for i in range(1, symmetries) for c in range(5)),
        num_train=901 * symmetries,
        num_test=896,
        mean=whole.mean,
        std=whole.std,
        bundled=True,
        open=open_split,
    )


def cars196(*, image_size: int = 224, train_image_size: int = 256, data_dir: str | None = None) -> Dataset:
    """Returns Cars-196 (Krause et al. 2013): 8,054 photographs of 98 models to train on, 8,131 of the other 98 to retrieve among."""
    open_split = partial(_halves, "cars196", 98, data_dir)
    return _photographs("cars196", 196, (8054, 8131), image_size, train_image_size, open_split)


def cub200(*, image_size: int = 224, train_image_size: int = 256, data_dir: str | None = None) -> Dataset:
    """Returns CUB-200-2011 (Wah et al. 2011): 5,864 photographs of 100 birds to train on, 5,924 of the other 100 to retrieve among."""
    open_split = partial(_halves, "caltech_birds2011", 100, data_dir)
    return _photographs("cub200", 200, (5864, 5924), image_size, train_image_size, open_split)


def stanford_online_products(*, image_size: int = 224, train_image_size: int = 256, data_dir: str | None = None) -> Dataset:
    """Returns Stanford Online Products (Oh Song et al. 2016): 59,551 photographs of 11,318 products, 60,502 of 11,316 others; 12 groups."""

    def open_split(split: str, decode: Callable[[np.ndarray], np.ndarray]) -> DecodedSource:
        return open_decoded("stanford_online_products", split, data_dir, decode, label="class_id", group="super_class_id")

    return _photographs("stanford_online_products", 22634, (59551, 60502), image_size, train_image_size, open_split)


def _halves(
    name: str, num_train_classes: int, data_dir: str | None, split: str, decode: Callable[[np.ndarray], np.ndarray]
) -> DecodedSource:
    """The usual split of retrieval: by class, not by image as the catalogue has it."""
    keep = partial(_first if split == "train" else _others, num_train_classes)
    return open_decoded(name, "train+test", data_dir, decode, keep=keep)


def _first(num_classes: int, labels: np.ndarray) -> np.ndarray:
    return labels < num_classes


def _others(num_classes: int, labels: np.ndarray) -> np.ndarray:
    return labels >= num_classes


def _photographs(name, num_classes, sizes, image_size, train_image_size, open_split) -> Dataset:
    """Train images are the central square at `train_image_size`, cropped on the device; test images the central `image_size` square."""
    decoders = {
        "train": partial(central_square, size=train_image_size, resize=train_image_size),
        "test": partial(central_square, size=image_size, resize=round(image_size * 256 / 224)),
    }

    def decoded(split: str) -> DecodedSource:
        return open_split(split, decoders[split])

    return Dataset(
        name=name,
        input_shape=(image_size, image_size, 3),
        train_shape=(train_image_size, train_image_size, 3),
        class_names=tuple(str(i) for i in range(num_classes)),
        num_train=sizes[0],
        num_test=sizes[1],
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        bundled=False,
        open=lambda split: cached(decoded(split)),
        decoded=decoded,
    )
