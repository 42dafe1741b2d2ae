"""scikit-image's piece of Labeled Faces in the Wild: 100 faces and 100 pictures of something else, 25×25 grey."""

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from cnn_jax.data.dataset import Dataset
from cnn_jax.data.prepared import open_in_memory
from cnn_jax.data.split import stratified


class LfwSubset(tfds.core.GeneratorBasedBuilder):
    """Faces and non-faces from Labeled Faces in the Wild (Huang et al. 2007) as scikit-image ships them, split 80/20."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(25, 25, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["no face", "face"]),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://scikit-image.org/docs/stable/api/skimage.data.html#skimage.data.lfw_subset",
        )

    def _split_generators(self, dl_manager):
        from skimage.data import lfw_subset as load  # needed once

        images = np.round(load() * 255).astype(np.uint8)
        labels = np.repeat([1, 0], 100)  # the first hundred are faces
        train, test = stratified(labels, test_share=0.2)
        return {
            "train": self._generate_examples(images, labels, train),
            "test": self._generate_examples(images, labels, test),
        }

    def _generate_examples(self, images, labels, indices):
        for i in indices:
            yield f"{i:03d}", {"image": PIL.Image.fromarray(images[i]), "label": int(labels[i])}


def lfw_subset(*, data_dir: str | None = None) -> Dataset:
    """Returns scikit-image's faces and non-faces: 160 train and 40 test images, 25×25×1, two classes."""
    return Dataset(
        name="lfw_subset",
        input_shape=(25, 25, 1),
        train_shape=(25, 25, 1),
        class_names=("no face", "face"),
        num_train=160,
        num_test=40,
        mean=(0.377,),
        std=(0.272,),
        bundled=True,
        open=lambda split: open_in_memory(LfwSubset, split, data_dir),
    )
