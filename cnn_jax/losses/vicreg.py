"""VICReg: embeddings of two views agree (invariance), while every feature varies (variance) and none repeats another (covariance)."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_margin, check_rows, check_same_shape
from cnn_jax.losses.comparison import Miner, References, compare, spread_mean, weigh
from cnn_jax.losses.examples import hide, read
from cnn_jax.ops.distance import squared_distances
from cnn_jax.ops.precision import result_type


def vicreg(
    first: Float[Array, "b e"],
    second: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    epsilon: float = 1e-4,
) -> Float[Array, "b"]:
    """Returns λ·mean_e (z − z')² + μ·(v(z) + v(z')) / 2 + ν·(c(z) + c(z')) for each pair of views (row i of each).

    v = mean_e max(0, 1 − √(var_e + ε)) and c = (1/e)·Σ_{j≠k} cov_jk² are of the batch, the same for each example, and 0 of fewer than
    two. Embeddings are not of unit length.

    Args:
      invariance: λ.
      variance: μ.
      covariance: ν.

    Raises:
      ValueError: the views are no floats [b, e] of one shape, or a weight or ε is negative or not finite.

    Reference: Bardes et al., "VICReg", 2022, with the scales of its program: the paper's own formulas have e times the invariance and
    twice the variance. PyTorch Metric Learning's VICRegLoss.

    >>> views = jnp.array([[0.0, 0.0], [2.0, 2.0]])  # variances 2; covariances 2, twice, in two views, of two features
    >>> vicreg(views, views + 1).tolist()
    [33.0, 33.0]
    """
    _check_weights(invariance, variance, covariance, epsilon)
    check_rows("first", first, "[b, e]")
    check_same_shape(first=first, second=second)
    z, other = read("first", first, where), read("second", second, where)
    batch = sum(_spread(x, where, variance, covariance, epsilon) for x in (z, other))
    return hide(invariance * jnp.square(z - other).mean(1) + batch, where).astype(result_type(first))


def vicreg_by_label(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    epsilon: float = 1e-4,
) -> Float[Array, "b"]:
    """Returns `vicreg` with the other examples of a label for views: the invariance is the mean over pairs of one label.

    Variance and covariance are those of the batch as a whole. The views of one picture are given one label. Sums over pairs are scaled.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], or a weight or ε is negative or not finite.

    >>> vicreg_by_label(jnp.array([[0.0, 0.0], [2.0, 2.0]]), jnp.array([0, 0])).tolist()  # 25 · 4 and 2 · 4
    [108.0, 108.0]
    """
    _check_weights(invariance, variance, covariance, epsilon)
    comparison = compare(embeddings, labels, where, references, miner)
    squares = squared_distances(comparison.anchors, comparison.references) / embeddings.shape[1]
    agreement = spread_mean(weigh(squares, comparison.positives).sum(1), comparison.positives.sum(1), where)
    batch = 2 * _spread(comparison.anchors, where, variance, covariance, epsilon)
    return hide(invariance * agreement + batch, where).astype(result_type(embeddings))


def _check_weights(invariance, variance, covariance, epsilon):
    for name, value in (("invariance", invariance), ("variance", variance), ("covariance", covariance), ("epsilon", epsilon)):
        check_margin(value, name)


def _spread(z: Float[Array, "b e"], where: Array | None, variance: float, covariance: float, epsilon: float) -> Float[Array, ""]:
    """μ·v / 2 + ν·c of one view's embeddings, which are 0 where they do not count."""
    num = z.shape[0] if where is None else where.sum()
    divisor = jnp.maximum(num - 1, 1)
    centred = hide(z - z.sum(0, keepdims=True) / jnp.maximum(num, 1), where)
    covariances = jnp.matmul(centred.T, centred, precision=lax.Precision.HIGHEST) / divisor
    variances = jnp.diagonal(covariances)
    # ε of zero would have no derivative where a feature is constant.
    deviations = jnp.where(variances + epsilon > 0, jnp.sqrt(jnp.where(variances + epsilon > 0, variances + epsilon, 1)), 0)
    hinges = jnp.maximum(1 - deviations, 0).mean()
    apart = (jnp.square(covariances).sum() - jnp.square(variances).sum()) / z.shape[1]
    return jnp.where(num > 1, variance * hinges / 2 + covariance * apart, 0)
