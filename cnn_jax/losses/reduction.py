"""How per-example losses become one number."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cnn_jax.losses.examples import hide, read
from cnn_jax.ops.arguments import check_array, check_values
from cnn_jax.ops.precision import result_type


def reduce(
    per_example: Float[Array, "b"],
    where: Bool[Array, "b"] | None = None,
    *,
    how: str = "mean",
    weights: Float[Array, "b"] | None = None,
) -> Float[Array, ""]:
    """Returns Σ values / (number that count), or with `how="sum"` Σ values; 0, with zero gradient, where none counts.

    With `weights` the mean is Σ values / Σ weights: for values that are already weighted, as with `class_weights`. So
    `reduce(losses, weights=class_weights[labels])` is torch's weighted mean, and `reduce(losses, labels != ignore_index)` its mean with
    an `ignore_index` of labels [b]. Half precision is summed in float32; the result has the type of the values.

    Raises:
      ValueError: `how` is neither "mean" nor "sum", a shape differs, `where` is not boolean, values are not floats, or a weight that
        counts is negative (not noticed under jit).

    >>> reduce(jnp.array([1.0, 5.0]), jnp.array([True, False])).item(), reduce(jnp.array([1.0, 5.0]), how="sum").item()
    (1.0, 6.0)
    >>> reduce(jnp.array([1.0, 5.0]), weights=jnp.array([1.0, 3.0])).item()
    1.5
    """
    if how not in ("mean", "sum"):
        raise ValueError(f"how={how!r} must be 'mean' or 'sum'")
    check_array("values", per_example)
    for name, array in (("where", where), ("weights", weights)):
        if array is not None:
            check_array(name, array)
        if array is not None and array.shape != per_example.shape:
            raise ValueError(f"{name} {list(array.shape)} must have the shape of the values, {list(per_example.shape)}")
    total = read("values", per_example, where).sum()
    if weights is not None:
        weights = hide(weights, where)
        check_values("weights", weights, lambda w: (w >= 0) & np.isfinite(w), "not negative, and finite")
    if how == "sum":
        return total.astype(result_type(per_example))
    if weights is None:
        count = per_example.size if where is None else where.sum()
        return (total / jnp.maximum(count, 1)).astype(result_type(per_example))
    divisor = weights.astype(jnp.promote_types(weights.dtype, jnp.float32)).sum()
    return jnp.where(divisor > 0, total / jnp.where(divisor > 0, divisor, 1), 0).astype(result_type(per_example))


def masked_mean(values: Float[Array, "b"], where: Bool[Array, "b"] | None = None) -> Float[Array, ""]:
    """Returns the mean of the values that count; 0, with zero gradient, where none does.

    Raises:
      ValueError: as `reduce`.

    >>> masked_mean(jnp.array([1.0, 5.0]), jnp.array([True, False])).item()
    1.0
    """
    return reduce(values, where)
