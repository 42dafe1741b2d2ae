"""Circle loss: each cosine is drawn to its optimum the harder, the farther it is from it."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.checks import check_margin, check_positive
from cnn_jax.losses.comparison import Miner, References, compare, mean_over_anchors, similarities_of
from cnn_jax.losses.log_sum_exp import log_sum_exp
from cnn_jax.ops.precision import result_type


def circle(
    embeddings: Float[Array, "b e"],
    labels: Array,
    *,
    where: Bool[Array, "b"] | None = None,
    references: References | None = None,
    miner: Miner | None = None,
    margin: float = 0.4,
    scale: float = 80.0,
) -> Float[Array, "b"]:
    """Returns log(1 + Σ_n exp(γ·w_n·(c_an − m)) · Σ_p exp(−γ·w_p·(c_ap − 1 + m))) for each anchor, c being cosines.

    The weights w_n = max(0, c_an + m) and w_p = max(0, 1 + m − c_ap) are constants to the gradient. Averaged over the anchors that have
    a positive and a negative. A pair that a miner gives several times counts once.

    Differs from PyTorch Metric Learning's CircleLoss where a loss rounds to 0: there it is left out of the mean.

    Args:
      margin: m; 0.25 for faces.
      scale: γ; 256 for faces.

    Raises:
      ValueError: labels are no ints [b], the embeddings no floats [b, e], the margin is negative or not finite, or the scale is not
        finite and positive.

    Reference: Sun et al., "Circle loss: a unified perspective of pair similarity optimization", 2020.

    >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> circle(x, jnp.array([0, 0, 1]), margin=0.5, scale=4.0).round(2).tolist()  # log(1 + exp(4·0.5·(0 − 0.5)) · exp(−4·0.5·(1 − 0.5)))
    [0.1899999976158142, 0.1899999976158142, 0.0]
    """
    check_margin(margin)
    check_positive("scale", scale)
    comparison = compare(embeddings, labels, where, references, miner)
    cosines, positives, negatives = similarities_of(comparison), comparison.positives != 0, comparison.negatives != 0
    constant = lax.stop_gradient(cosines)
    pulls = -scale * jnp.maximum(1 + margin - constant, 0) * (cosines - (1 - margin))
    pushes = scale * jnp.maximum(constant + margin, 0) * (cosines - margin)
    losses = jax.nn.softplus(log_sum_exp(pulls, positives) + log_sum_exp(pushes, negatives))
    return mean_over_anchors(losses, positives.any(1) & negatives.any(1), where).astype(result_type(embeddings))
