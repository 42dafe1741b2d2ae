"""Which examples count, and how an example's elements become its one value. What every loss does first and last."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cnn_jax.ops.arguments import check_array
from cnn_jax.ops.precision import result_type, widened


def hide(x: Array, where: Array | None, *, fill: float = 0.0) -> Array:
    """Returns x with `fill` in place of what does not count. `where` has the leading axes of x.

    Masking the values alone would not do: the derivative of a hidden NaN is NaN, and 0 · NaN is NaN.

    Raises:
      ValueError: `where` is not boolean, or has not the leading axes of x.

    >>> hide(jnp.array([[1.0], [jnp.nan]]), jnp.array([True, False])).tolist()
    [[1.0], [0.0]]
    """
    if where is None:
        return x
    check_array("where", where)
    if where.dtype != jnp.bool_ or where.shape != x.shape[: max(where.ndim, 1)]:
        wanted = list(x.shape[: max(where.ndim, 1)])
        raise ValueError(f"where {list(where.shape)} ({where.dtype}) must be bool {wanted}: True for what counts")
    return jnp.where(where.reshape(where.shape + (1,) * (x.ndim - where.ndim)), x, np.asarray(fill, x.dtype))


def read(name: str, outputs: Array, where: Array | None = None) -> Float[Array, "..."]:
    """Returns a network's outputs ready to compute with: in float32 at least, and hidden where they do not count.

    Args:
      name: what to call them in the error.

    Raises:
      ValueError: the outputs are not floats.

    >>> read("logits", jnp.ones(2, jnp.bfloat16)).dtype
    dtype('float32')
    """
    check_array(name, outputs)
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise ValueError(f"{name} {list(outputs.shape)} ({outputs.dtype}) must be floats")
    return hide(widened(outputs), where)


def per_example(
    values: Float[Array, "b *n"], where: Bool[Array, "b"] | None, like: Array, *, counts: Bool[Array, "b *n"] | None = None
) -> Float[Array, "b"]:
    """Returns the mean of each example's elements, 0 where `where` is False, in the type of `like`.

    Args:
      counts: the elements that the mean is taken over; all, if None. An example without any has 0.

    Raises:
      ValueError: `where` is not boolean, or not [b].

    >>> per_example(jnp.array([[1.0, 3.0], [5.0, 5.0]]), jnp.array([True, False]), jnp.zeros(2)).tolist()
    [2.0, 0.0]
    """
    check_array("values", values)
    check_array("like", like)
    rest = tuple(range(1, values.ndim))
    if counts is not None:
        values = jnp.where(counts, values, 0)
        values = values.sum(rest) / jnp.maximum(counts.sum(rest), 1) if rest else values
    elif rest:
        values = values.mean(rest)
    return hide(values, where).astype(result_type(like))
