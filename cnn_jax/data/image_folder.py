"""Your own images: a folder with a folder a class."""

import hashlib
import os
from functools import partial
from pathlib import Path

import numpy as np

from cnn_jax.data.catalogue import central_square
from cnn_jax.data.dataset import Dataset
from cnn_jax.data.image_cache import cached
from cnn_jax.data.image_file import MAX_BYTES, BadImage, decode_image
from cnn_jax.data.prepared import cache_folder
from cnn_jax.data.source import DecodedSource
from cnn_jax.errors import shortened

# Names of images end so, in any case.
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_TEST_NAMES = ("test", "val", "validation")


def image_folder(
    *,
    folder: str,
    image_size: int = 224,
    train_image_size: int = 256,
    test_share: float = 0.2,
    data_dir: str | None = None,
) -> Dataset:
    """Returns the images of a folder: `train/<class>/…` and `test/<class>/…` (or `val`), or `<class>/…`, of which some are for testing.

    Sizes, and what becomes of them, are those of `imagenet2012`. Files are told to be images by their names, and decoded by their content.
    An image that cannot be decoded is replaced by the one that follows it, counted and recorded, up to `max_bad_fraction` of all.

    Args:
      folder: of the images. Links that lead out of it are not followed.
      test_share: of each class, where there are no folders `train` and `test`: chosen by the files' names, so always the same.
      data_dir: for decoded images, where they are cached.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"test_share={test_share} must lie between 0 and 1")
    if min(image_size, train_image_size) < 1:
        raise ValueError(f"image_size={image_size} and train_image_size={train_image_size} must be at least 1")
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    splits = _splits(root, test_share)
    names = sorted({name for files in splits.values() for name, _ in files})
    if len(names) < 2 or not all(splits.values()):
        found = ", ".join(f"{len(files)} images to {split}" for split, files in splits.items())
        raise ValueError(
            f"{root} holds {found}, of {len(names)} classes ({shortened(', '.join(names))}). It needs train/<class>/… and "
            f"test/<class>/…, or <class>/…, with images called *{', *'.join(SUFFIXES)}"
        )
    place = {name: i for i, name in enumerate(names)}
    sizes = {"train": (train_image_size, train_image_size), "test": (image_size, round(image_size * 256 / 224))}

    def decoded(split: str) -> DecodedSource:
        size, resize = sizes[split]
        files = splits[split]
        labels = np.array([place[name] for name, _ in files], np.int32)
        listed = hashlib.sha256("\n".join(str(path) for _, path in files).encode()).hexdigest()[:12]
        cache = cache_folder(data_dir, "image_folder", split, f"size{size}-resize{resize}", listed)
        records, decode = _Files(root, [path for _, path in files], labels), partial(_square, size=size, resize=resize)
        return DecodedSource(records, decode, undecoded=lambda: _Labels(labels), cache=cache)

    return Dataset(
        name="image_folder",
        input_shape=(image_size, image_size, 3),
        train_shape=(train_image_size, train_image_size, 3),
        class_names=tuple(names),
        num_train=len(splits["train"]),
        num_test=len(splits["test"]),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        bundled=True,
        open=lambda split: cached(decoded(split)),
        decoded=decoded,
        contents=hashlib.sha256(repr([[str(p.relative_to(root)) for _, p in splits[split]] for split in splits]).encode()).hexdigest()[:16],
    )


class _Files:
    """Image files as records: read when asked for."""

    def __init__(self, root: Path, paths: list[Path], labels: np.ndarray):
        self.root, self.paths, self.labels = root, paths, labels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, bytes | np.int32]:
        path = self.paths[index]
        if not path.resolve().is_relative_to(self.root):
            raise BadImage("it is a link that leads out of the folder")
        if not path.is_file():  # a pipe would be waited for
            raise BadImage("it is no file")
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        return {"image": content, "label": self.labels[index]}

    def name(self, index: int) -> str:
        """Returns what a person finds the example by."""
        return self.paths[index].relative_to(self.root).as_posix()


class _Labels:
    """The records without their images."""

    def __init__(self, labels: np.ndarray):
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, np.int32]:
        return {"label": self.labels[index]}


def _square(content: bytes, *, size: int, resize: int) -> np.ndarray:
    return central_square(decode_image(content), size=size, resize=resize)


def _splits(root: Path, test_share: float) -> dict[str, list[tuple[str, Path]]]:
    """(class, file) of each split, in the order of their names."""
    test = next((name for name in _TEST_NAMES if (root / name).is_dir()), None)
    if (root / "train").is_dir() and test is not None:
        return {"train": _files(root / "train"), "test": _files(root / test)}
    files = _files(root)
    # The least of a class's names, as a checksum shuffles them: a new file moves few others from one split to the other.
    ranks: dict[str, list[str]] = {}
    for name, path in files:
        ranks.setdefault(name, []).append(_shuffled(root, path))
    chosen = {rank for found in ranks.values() for rank in sorted(found)[: round(test_share * len(found))]}
    split = {path: "test" if _shuffled(root, path) in chosen else "train" for _, path in files}
    return {name: [file for file in files if split[file[1]] == name] for name in ("train", "test")}


def _shuffled(root: Path, path: Path) -> str:
    return hashlib.sha256(path.relative_to(root).as_posix().encode("utf-8", "surrogateescape")).hexdigest()


def _files(folder: Path) -> list[tuple[str, Path]]:
    found = []
    for name in sorted(os.listdir(folder)):
        if (folder / name).is_dir() and not name.startswith("."):
            for place, folders, files in os.walk(folder / name):  # which does not follow links to folders
                folders.sort()
                found += [(name, Path(place, file)) for file in sorted(files) if file.lower().endswith(SUFFIXES)]
    return found
