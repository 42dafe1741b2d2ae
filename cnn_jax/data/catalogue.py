"""Data sets of the TFDS catalogue by name. They need the network, and TensorFlow, once, to be prepared; not to be read."""

from functools import partial

import numpy as np
import PIL.Image

from cnn_jax.data.dataset import Dataset
from cnn_jax.data.image_cache import cached
from cnn_jax.data.prepared import open_decoded, open_in_memory
from cnn_jax.data.source import DecodedSource

_FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _numbered(num_classes: int) -> tuple[str, ...]:
    return tuple(str(i) for i in range(num_classes))


def _small(name: str, shape, class_names, num_train: int, num_test: int, mean, std, data_dir: str | None) -> Dataset:
    """A catalogue data set that fits in memory."""
    return Dataset(
        name=name,
        input_shape=shape,
        train_shape=shape,
        class_names=class_names,
        num_train=num_train,
        num_test=num_test,
        mean=mean,
        std=std,
        bundled=False,
        open=lambda split: open_in_memory(name, split, data_dir),
    )


def mnist(*, data_dir: str | None = None) -> Dataset:
    """Returns MNIST (LeCun et al. 1998): 60,000 + 10,000 digits, 28×28×1."""
    return _small("mnist", (28, 28, 1), _numbered(10), 60000, 10000, (0.1307,), (0.3081,), data_dir)


def fashion_mnist(*, data_dir: str | None = None) -> Dataset:
    """Returns Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 garments, 28×28×1."""
    return _small("fashion_mnist", (28, 28, 1), _FASHION, 60000, 10000, (0.2860,), (0.3530,), data_dir)


def cifar10(*, data_dir: str | None = None) -> Dataset:
    """Returns CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 photographs, 32×32×3, ten classes."""
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    return _small("cifar10", (32, 32, 3), _CIFAR10, 50000, 10000, mean, std, data_dir)


def cifar100(*, data_dir: str | None = None) -> Dataset:
    """Returns CIFAR-100 (Krizhevsky 2009): 50,000 + 10,000 photographs, 32×32×3, a hundred classes."""
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    return _small("cifar100", (32, 32, 3), _numbered(100), 50000, 10000, mean, std, data_dir)


def imagenet2012(*, image_size: int = 224, train_image_size: int = 256, data_dir: str | None = None) -> Dataset:
    """Returns ImageNet (ILSVRC 2012): 1,281,167 + 50,000 photographs, a thousand classes.

    Train images are the central square at `train_image_size`, to be cropped on the device by `random_resized_crop`; test
    images the central `image_size` square of the picture resized to 256 / 224 of that, the usual protocol.
    """
    decoders = {
        "train": partial(central_square, size=train_image_size, resize=train_image_size),
        "test": partial(central_square, size=image_size, resize=round(image_size * 256 / 224)),
    }
    names = {"train": "train", "test": "validation"}  # the labels of ImageNet's own test split are not public

    def decoded(split: str) -> DecodedSource:
        return open_decoded("imagenet2012", names[split], data_dir, decoders[split], num_classes=1000)

    return Dataset(
        name="imagenet2012",
        input_shape=(image_size, image_size, 3),
        train_shape=(train_image_size, train_image_size, 3),
        class_names=_numbered(1000),
        num_train=1281167,
        num_test=50000,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        bundled=False,
        open=lambda split: cached(decoded(split)),
        decoded=decoded,
    )


def central_square(image: np.ndarray, *, size: int, resize: int) -> np.ndarray:
    """Returns the central size × size pixels of the image once its shorter side is `resize` long, as uint8.

    >>> central_square(np.zeros((30, 40, 3), np.uint8), size=8, resize=10).shape
    (8, 8, 3)
    """
    height, width = image.shape[:2]
    scale = resize / min(height, width)
    side = size / scale  # of the wanted square, in the picture's own pixels: one resampling does both
    left, top = (width - side) / 2, (height - side) / 2
    picture = PIL.Image.fromarray(image)
    return np.asarray(picture.resize((size, size), PIL.Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)))
