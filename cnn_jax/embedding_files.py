"""What an evaluation of embeddings leaves to look at: a picture, a sheet of the worst retrievals, files for TensorBoard's projector."""

from pathlib import Path

import numpy as np
from rich.table import Table

from cnn_jax.data.source import Source
from cnn_jax.embedding_picture import draw_embeddings
from cnn_jax.errors import UserError
from cnn_jax.metrics.retrieval import Retrieval, per_class
from cnn_jax.projector import write_projector
from cnn_jax.report import say, table
from cnn_jax.worst_retrievals import draw_worst_retrievals, worst_retrievals

_MOST_ROWS = 20
_MOST_POINTS = 10_000  # of the projector, which itself draws no more, and of the picture


def write_embedding_files(
    workdir: Path, embeddings: np.ndarray, retrieval: Retrieval, source: Source, class_names: tuple[str, ...]
) -> None:
    """Writes `embeddings.png`, `worst_retrievals.png` and, in `tensorboard/`, the projector's files; says which.

    Args:
      embeddings: of the examples of `source`, in order.
      retrieval: what each of them finds among the others.

    Raises:
      UserError: a file cannot be written.
    """
    if not np.isfinite(embeddings).all():
        say("the embeddings are not all finite: no pictures of them are drawn")
        return
    some = evenly(len(embeddings), _MOST_POINTS)
    labels = retrieval.labels
    try:
        methods = draw_embeddings(embeddings[some], labels[some], workdir / "embeddings.png", class_names=class_names)
        say(f"wrote {workdir / 'embeddings.png'}: {len(some)} of {len(labels)} embeddings by {' and '.join(methods)}")
        if found := worst_retrievals(embeddings, retrieval):
            draw_worst_retrievals(found, labels, source, workdir / "worst_retrievals.png", class_names=class_names)
            say(f"wrote {workdir / 'worst_retrievals.png'}: the {len(found)} images whose own class is farthest down, and what they find")
        folder = workdir / "tensorboard"
        write_projector(folder, embeddings[some], labels[some], source[some]["inputs"], class_names=class_names)
        say(f"wrote {folder / 'projector_config.pbtxt'}: see them turn with tensorboard --logdir={folder}, under Projector")
    except OSError as error:
        raise UserError(f"The pictures cannot be written to {workdir}: {error.strerror or error}.") from None


def evenly(num: int, most: int) -> np.ndarray:
    """Returns the indices of `num` examples, or `most` of them, evenly spaced.

    >>> evenly(4, 10).tolist(), evenly(10, 4).tolist()
    ([0, 1, 2, 3], [0, 2, 5, 7])
    """
    return np.arange(num) if num <= most else np.arange(most) * num // most


def retrieval_table(retrieval: Retrieval, class_names: tuple[str, ...]) -> Table:
    """Returns each class's retrieval figures as a table; of many classes those with the lowest MAP@R.

    >>> from cnn_jax.metrics.retrieval import retrieval_report
    >>> retrieval_table(retrieval_report(np.array([[0.0], [1.0], [3.0]]), np.array([0, 0, 1])), ("cat", "dog")).row_count
    2
    """
    columns = per_class(retrieval)
    rows = [[class_names[label], *values] for label, *values in zip(*columns.values(), strict=True)]
    title = None
    if len(rows) > _MOST_ROWS:
        title = f"the {_MOST_ROWS} of {len(rows)} classes with the lowest MAP@R; all are in evaluation.json"
        rows = sorted(rows, key=lambda row: (np.isnan(row[-1]), row[-1]))[:_MOST_ROWS]
    return table(["class", "examples", "alone", "precision@1", "R-precision", "MAP@R"], rows, title=title)
