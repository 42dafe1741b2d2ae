"""Weights of classes: as an option, and from how often each class occurs."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnn_jax.ops.arguments import check_array, check_number, check_values

Weights = tuple[float, ...] | Array
"""One weight a class. A tuple can be written as a setting: `--set loss.class_weights=1,2,0.5`."""


def weights_array(name: str, weights: Weights | float, num_classes: int, dtype: DTypeLike) -> Float[Array, "k"]:
    """Returns an option of class weights as an array [k]. A single weight, a number or a tuple of one, serves all.

    Raises:
      ValueError: there are neither k weights nor one, or one is negative, infinite or NaN (where values are known).

    >>> weights_array("class_weights", (1.0, 2.0), 2, jnp.float32).tolist()
    [1.0, 2.0]
    """
    weights = weights if isinstance(weights, jax.Array) else np.asarray(weights)
    check_array(name, weights)
    if weights.shape not in ((num_classes,), (1,), ()):
        shown = f" = {weights.tolist()}" if isinstance(weights, np.ndarray) else ""
        raise ValueError(f"{name} {list(weights.shape)}{shown} must be one number for each of {num_classes} classes")
    check_values(name, weights, lambda w: (w >= 0) & np.isfinite(w), "finite and not negative")
    return jnp.broadcast_to(jnp.asarray(weights, dtype), (num_classes,))


def class_balanced_weights(counts: Array, *, beta: float = 0.999) -> Float[Array, "k"]:
    """Returns (1 − β) / (1 − β^n_j) for each class j of n_j examples, scaled to sum to the number of classes.

    (1 − β^n) / (1 − β) is the effective number of n examples that overlap: β = 0 gives equal weights, β = 1 (the limit) gives
    weights in inverse proportion to the counts. Meant for `class_weights` of cross-entropy or focal loss.

    Args:
      counts: examples of each class [k], at least 1 (under jit a class without examples gives NaN).
      beta: from 0 to 1.

    Raises:
      ValueError: β lies outside [0, 1], or a count is below 1.

    Reference: Cui et al., "Class-balanced loss based on effective number of samples", 2019, equation 8.

    >>> [round(weight, 3) for weight in class_balanced_weights(jnp.array([10, 30]), beta=1.0).tolist()]
    [1.5, 0.5]
    """
    check_number("beta", beta, lambda v: 0 <= v <= 1, "from 0 to 1")
    counts = counts if isinstance(counts, jax.Array) else np.asarray(counts)
    check_array("counts", counts)
    if counts.ndim != 1 or len(counts) == 0:
        raise ValueError(f"counts {list(counts.shape)} must be [k], one number for each class")
    check_values("counts", counts, lambda n: n >= 1, "at least 1")
    n = jnp.where(counts >= 1, counts.astype(jnp.result_type(float)), jnp.nan)
    # expm1, as 1 − β^n cancels for β near 1; with β = 0 the logarithm is −∞ and the result 1, as it should be.
    with np.errstate(divide="ignore"):
        weights = 1 / n if beta == 1 else -1 / jnp.expm1(n * np.log(beta).astype(n.dtype))
    return weights * len(counts) / weights.sum()
