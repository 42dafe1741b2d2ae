"""scikit-image's piece of Labeled Faces in the Wild: 100 faces and 100 pictures of something else, 25×25 grey."""

import numpy as np

from cnn_jax.data.dataset import Dataset
from cnn_jax.data.labelled_images import LabelledImages
from cnn_jax.data.prepared import open_in_memory


class LfwSubset(LabelledImages):
    """Faces and non-faces from Labeled Faces in the Wild (Huang et al. 2007) as scikit-image ships them, split 80/20."""

    SHAPE = (25, 25, 1)
    CLASS_NAMES = ("no face", "face")
    HOMEPAGE = "https://scikit-image.org/docs/stable/api/skimage.data.html#skimage.data.lfw_subset"

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        from skimage.data import lfw_subset as load  # needed once

        return np.round(load() * 255).astype(np.uint8), np.repeat([1, 0], 100)  # the first hundred are faces


def lfw_subset(*, data_dir: str | None = None) -> Dataset:
    """Returns scikit-image's faces and non-faces: 160 train and 40 test images, 25×25×1, two classes."""
    return Dataset(
        name="lfw_subset",
        input_shape=LfwSubset.SHAPE,
        train_shape=LfwSubset.SHAPE,
        class_names=LfwSubset.CLASS_NAMES,
        num_train=160,
        num_test=40,
        mean=(0.377,),
        std=(0.272,),
        bundled=True,
        open=lambda split: open_in_memory(LfwSubset, split, data_dir),
    )
