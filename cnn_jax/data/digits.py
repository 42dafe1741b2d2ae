"""scikit-learn's handwritten digits: 1,797 real scans of 8×8 pixels, bundled with the library."""

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from cnn_jax.data.dataset import Dataset
from cnn_jax.data.prepared import open_in_memory
from cnn_jax.data.split import stratified


class Digits(tfds.core.GeneratorBasedBuilder):
    """The UCI optical digits test set (Alpaydin & Kaynak 1998) as scikit-learn ships it, split 80/20 by class."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager):
        from sklearn.datasets import load_digits  # a second to import, needed once

        data = load_digits()
        images = np.round(data.images * (255 / 16)).astype(np.uint8)  # ink from 0 to 16, kept exactly in 0 to 255
        train, test = stratified(data.target, test_share=0.2)
        return {
            "train": self._generate_examples(images, data.target, train),
            "test": self._generate_examples(images, data.target, test),
        }

    def _generate_examples(self, images, labels, indices):
        for i in indices:
            yield f"{i:04d}", {"image": PIL.Image.fromarray(images[i]), "label": int(labels[i])}


def digits(*, data_dir: str | None = None) -> Dataset:
    """Returns scikit-learn's digits: 1,437 train and 360 test images, 8×8×1, ten classes."""
    return Dataset(
        name="digits",
        input_shape=(8, 8, 1),
        train_shape=(8, 8, 1),
        class_names=tuple("0123456789"),
        num_train=1437,
        num_test=360,
        mean=(0.305,),
        std=(0.376,),
        bundled=True,
        open=lambda split: open_in_memory(Digits, split, data_dir),
    )
