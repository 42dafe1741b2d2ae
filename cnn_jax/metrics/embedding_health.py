"""Whether a batch of embeddings is on its way to separate classes, or has collapsed: figures for the training log."""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cnn_jax.losses.checks import check_margin
from cnn_jax.losses.comparison import compare, distances_of
from cnn_jax.losses.triplet_sums import hinge_sums
from cnn_jax.metrics.mean import Mean
from cnn_jax.ops.distance import DistanceName

# Below these a batch has collapsed. Networks at their start are above them by far, and so are two classes drawn to two points.
_SPREAD = 0.02  # of the norm
_RANK = 1.5
_NORM = 1e-6
_SEPARATED = 0.5  # of the negative distance: a positive distance below it tells of classes on a line, not of a collapse


def embedding_health(
    embeddings: Float[Array, "b e"],
    labels: Int[Array, "b"],
    *,
    where: Bool[Array, "b"] | None = None,
    margin: float = 0.0,
    distance: DistanceName = "euclidean",
) -> dict[str, Mean]:
    """Returns the figures of one batch by name, as means that merge:

    - embeddings/active_triplets: the share of triplets with d(a, p) − d(a, n) + margin > 0;
    - embeddings/positive_distance, …/negative_distance: mean Euclidean distances within a class, and between classes;
    - embeddings/norm, …/norm_deviation: mean and standard deviation of ‖x‖;
    - embeddings/spread: √(mean ‖x − mean x‖²), 0 where all coincide;
    - embeddings/effective_rank: exp(−Σ p·log p), p being the eigenvalues of the covariance over their sum: the number of directions in
      which embeddings vary, if equally. At most e, b − 1, and for classes drawn to points their number − 1. 0 where all coincide.

    Args:
      margin: of the triplets; 0 counts those in the wrong order.
      distance: of the triplets.

    Raises:
      ValueError: as the losses on embeddings do.

    Reference: Roy and Vetterli, "The effective rank", 2007; Jing et al., "Understanding dimensional collapse", 2022.

    >>> figures = embedding_health(jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]), jnp.array([0, 1, 0, 1]))
    >>> {name.removeprefix("embeddings/"): round(mean.result(), 2) for name, mean in figures.items()}
    {'active_triplets': 1.0, 'positive_distance': 2.0, 'negative_distance': 1.41, 'norm': 1.0, 'norm_deviation': 0.0, 'spread': 1.0,
     'effective_rank': 2.0}
    """
    check_margin(margin)
    comparison = compare(lax.stop_gradient(embeddings), labels, where)
    x, positives, negatives = comparison.anchors, comparison.positives, comparison.negatives
    counts = jnp.ones(len(x), bool) if where is None else where
    num = jnp.maximum(counts.sum(), 1).astype(x.dtype)
    distances, norms = distances_of(comparison), jnp.sqrt(jnp.square(x).sum(1))
    _, active = hinge_sums(distances_of(comparison, distance), positives, negatives, margin)
    triplets = positives.sum(1).astype(x.dtype) * negatives.sum(1).astype(x.dtype)  # floats: they may be more than 2³¹
    centred = jnp.where(counts[:, None], x - x.sum(0, keepdims=True) / num, 0)
    deviations = jnp.where(counts, norms - norms.sum() / num, 0)

    def once(value: Array) -> Mean:
        return Mean(jnp.where(counts.any(), value, 0), counts.any().astype(jnp.int32))

    figures = {
        "active_triplets": Mean(active.sum(), triplets.sum()),
        "positive_distance": Mean(jnp.where(positives, distances, 0).sum(), positives.sum()),
        "negative_distance": Mean(jnp.where(negatives, distances, 0).sum(), negatives.sum()),
        "norm": Mean.of(norms, where),
        "norm_deviation": once(jnp.sqrt(jnp.square(deviations).sum() / num)),
        "spread": once(jnp.sqrt(jnp.square(centred).sum() / num)),
        "effective_rank": once(_effective_rank(centred)),
    }
    return {f"embeddings/{name}": mean for name, mean in figures.items()}


def collapse_warning(figures: Mapping[str, float]) -> str | None:
    """Returns a sentence that names how embeddings have collapsed and what may help; None where they have not, or nothing is known.

    Args:
      figures: of `embedding_health`, by name; others are passed over.

    >>> collapse_warning({"embeddings/norm": 1.0, "embeddings/spread": 0.7}) is None
    True
    >>> collapse_warning({"embeddings/norm": 1.0, "embeddings/spread": 0.001}).partition(":")[0]
    'point collapse'
    """
    names = ("norm", "spread", "effective_rank", "positive_distance", "negative_distance")
    norm, spread, rank, positive, negative = (figures.get(f"embeddings/{name}", float("nan")) for name in names)
    help_ = "Lower optimizer.learning_rate, lengthen schedule.warmup_steps, or take a loss over more pairs, such as triplet_batch_all."
    if norm < _NORM:
        return f"norm collapse: the embeddings have shrunk to zero (mean norm {norm:.2g}). {help_}"
    if spread < _SPREAD * norm:
        return f"point collapse: all embeddings all but coincide (spread {spread:.2g} at a mean norm of {norm:.2g}). {help_}"
    if rank < _RANK and positive > _SEPARATED * negative:
        return (
            f"dimensional collapse: the embeddings lie along one line (effective rank {rank:.2f}), and classes on it are not apart (mean "
            f"distance {positive:.2g} within, {negative:.2g} between). {help_}"
        )
    return None


def _effective_rank(centred: Float[Array, "b e"]) -> Float[Array, ""]:
    b, e = centred.shape
    # Both products have the same eigenvalues but for zeros; those of the smaller one are sooner found.
    spectrum = jnp.maximum(jnp.linalg.eigvalsh(centred.T @ centred if e <= b else centred @ centred.T), 0)
    total = spectrum.sum()
    p = spectrum / jnp.where(total > 0, total, 1)
    return jnp.where(total > 0, jnp.exp(-(p * jnp.log(jnp.where(p > 0, p, 1))).sum()), 0)
