"""scikit-learn's handwritten digits: 1,797 real scans of 8×8 pixels, bundled with the library."""

import numpy as np

from cnn_jax.data.dataset import Dataset
from cnn_jax.data.labelled_images import LabelledImages
from cnn_jax.data.prepared import open_in_memory


class Digits(LabelledImages):
    """The UCI optical digits test set (Alpaydin & Kaynak 1998) as scikit-learn ships it, split 80/20 by class."""

    SHAPE = (8, 8, 1)
    CLASS_NAMES = tuple("0123456789")
    HOMEPAGE = "https://archive.ics.uci.edu/dataset/80"

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.datasets import load_digits  # a second to import, needed once

        data = load_digits()
        return np.round(data.images * (255 / 16)).astype(np.uint8), data.target  # ink from 0 to 16, kept exactly in 0 to 255


def digits(*, data_dir: str | None = None) -> Dataset:
    """Returns scikit-learn's digits: 1,437 train and 360 test images, 8×8×1, ten classes."""
    return Dataset(
        name="digits",
        input_shape=Digits.SHAPE,
        train_shape=Digits.SHAPE,
        class_names=Digits.CLASS_NAMES,
        num_train=1437,
        num_test=360,
        mean=(0.305,),
        std=(0.376,),
        bundled=True,
        open=lambda split: open_in_memory(Digits, split, data_dir),
    )
