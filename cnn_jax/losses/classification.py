"""Losses on logits."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def softmax_cross_entropy(
    logits: Float[Array, "b k"], labels: Int[Array, "b"], *, where: Bool[Array, "b"] | None = None, smoothing: float = 0.0
) -> Float[Array, "b"]:
    """Returns −Σ_j q_j · log softmax(logits)_j for each example; 0 where `where` is False.

    q is the one-hot label mixed with the uniform distribution: (1 − smoothing)·[j = label] + smoothing / k, which is
    torch's `label_smoothing`.

    Raises:
      ValueError: smoothing lies outside [0, 1).

    Reference: Szegedy et al., "Rethinking the Inception architecture", 2015, section 7.

    >>> softmax_cross_entropy(jnp.zeros((1, 4)), jnp.array([2])).item() == jnp.log(4.0).item()
    True
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing={smoothing} must be at least 0 and less than 1")
    log_p = jax.nn.log_softmax(logits)
    of_label = jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
    # Without smoothing a class that is all but impossible (log p of −inf) must not enter as 0 · −inf.
    spread = smoothing * log_p.mean(axis=1) if smoothing else 0.0
    losses = -(1 - smoothing) * of_label - spread
    return losses if where is None else jnp.where(where, losses, 0)
