"""Embeddings for TensorBoard's projector: three text files and a sheet of thumbnails. It finds them beside the events of a run."""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from cnn_jax.files import write_text

_MOST_PIXELS = 4096  # a side of the sheet: browsers refuse textures above 8192, older ones above this

_CONFIG = """embeddings {{
  tensor_name: "test embeddings"
  tensor_path: "tensors.tsv"
  metadata_path: "metadata.tsv"
  sprite {{
    image_path: "sprite.png"
    single_image_dim: {width}
    single_image_dim: {height}
  }}
}}
"""


def write_projector(
    folder: Path, embeddings: np.ndarray, labels: np.ndarray, images: np.ndarray, *, class_names: tuple[str, ...]
) -> None:
    """Writes `tensors.tsv`, `metadata.tsv`, `sprite.png` and, last, `projector_config.pbtxt`, which names them.

    Args:
      folder: a run's folder of events, or one of its own; it is made.
      embeddings: [n, e], n at least 1.
      labels: ints [n].
      images: uint8 [n, h, w, c] with 1 or 3 channels, the thumbnails.

    Raises:
      OSError: a file cannot be written.

    Reference: TensorBoard's plugin `projector`, `projector_config.proto`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     images = np.zeros((2, 8, 8, 1), np.uint8)
    ...     write_projector(Path(name), np.array([[0.5, 2.0], [1.0, 0.0]]), np.array([1, 0]), images, class_names=("cat", "dog"))
    ...     Path(name, "tensors.tsv").read_text().splitlines(), Path(name, "metadata.tsv").read_text().splitlines()
    (['0.5\\t2', '1\\t0'], ['class\\tindex', 'dog\\t0', 'cat\\t1'])
    """
    folder.mkdir(parents=True, exist_ok=True)
    sheet, (height, width) = sprite(images)
    sheet.save(folder / "sprite.png")
    write_text(folder / "tensors.tsv", "".join("\t".join(f"{x:.6g}" for x in row) + "\n" for row in embeddings.tolist()))
    names = [class_names[label].replace("\t", " ").replace("\n", " ") for label in labels]
    write_text(folder / "metadata.tsv", "class\tindex\n" + "".join(f"{name}\t{i}\n" for i, name in enumerate(names)))
    write_text(folder / "projector_config.pbtxt", _CONFIG.format(width=width, height=height))


def sprite(images: np.ndarray) -> tuple[Image.Image, tuple[int, int]]:
    """Returns the images in a square of as many rows as columns, filled row by row, and the (height, width) of one.

    They are made smaller where the sheet would be more than 4096 pixels high or wide.

    Args:
      images: uint8 [n, h, w, c] with 1 or 3 channels.

    >>> sheet, size = sprite(np.zeros((5, 6, 8, 3), np.uint8))
    >>> sheet.size, size
    ((24, 18), (6, 8))
    """
    side = math.ceil(math.sqrt(len(images)))
    shrink = min(1, _MOST_PIXELS // side / max(images.shape[1:3]))
    height, width = (max(1, int(n * shrink)) for n in images.shape[1:3])
    sheet = Image.new("RGB", (side * width, side * height), "white")
    for i, image in enumerate(images):
        thumbnail = Image.fromarray(np.repeat(image, 3 // image.shape[-1], axis=-1))
        sheet.paste(thumbnail.resize((width, height)), (i % side * width, i // side * height))
    return sheet, (height, width)
