"""A data set as a value: what is known of it before anything is read, and how a split is opened."""

from collections.abc import Callable
from dataclasses import dataclass

from cnn_jax.data.source import DecodedSource, Source


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Labelled images in a train and a test split.

    Attributes:
      input_shape: (h, w, c) of what the model reads; train images may be larger when an augmentation crops them.
      train_shape: (h, w, c) of the train split's images.
      mean, std: of each channel of images in [0, 1], for normalisation.
      bundled: ships inside an installed library, needs no network.
      open: "train" or "test" -> Source; prepares the data at first use. Images are uint8.
      contents: tells one content from another, of folders that can change; None where the numbers of examples do.
      decoded: the same without a look at what is cached, for data sets that are decoded image by image; None for those in memory.
    """

    name: str
    input_shape: tuple[int, int, int]
    train_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    num_train: int
    num_test: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bundled: bool
    open: Callable[[str], Source]
    decoded: Callable[[str], DecodedSource] | None = None
    contents: str | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)
