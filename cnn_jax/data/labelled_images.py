"""A TFDS builder for arrays of images and labels that a library bundles: written as PNG, split by class."""

import abc

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from cnn_jax.data.split import stratified


class LabelledImages(tfds.core.GeneratorBasedBuilder):
    """The subclass names the classes and loads the arrays; 80 % of each class become "train", 20 % "test"."""

    VERSION = tfds.core.Version("1.0.0")
    SHAPE: tuple[int, int, int]
    CLASS_NAMES: tuple[str, ...]
    HOMEPAGE: str

    @abc.abstractmethod
    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns uint8 images [n, h, w] and integer labels [n]."""

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=self.SHAPE, encoding_format="png"),
            "label": tfds.features.ClassLabel(names=list(self.CLASS_NAMES)),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage=self.HOMEPAGE,
        )

    def _split_generators(self, dl_manager):
        images, labels = self.load()
        train, test = stratified(labels, test_share=0.2)
        return {name: self._generate_examples(images, labels, indices) for name, indices in (("train", train), ("test", test))}

    def _generate_examples(self, images, labels, indices):
        digits = len(str(len(labels)))
        for i in indices:
            yield f"{i:0{digits}d}", {"image": PIL.Image.fromarray(images[i]), "label": int(labels[i])}
