"""Random keys that do not depend on how many devices share the batch."""

import reprlib

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Key, PRNGKeyArray

from cnn_jax.ops.arguments import check_whole


def example_keys(key: PRNGKeyArray, num: int, *, axis_name: str | None = None) -> Key[Array, "{num}"]:
    """Returns one key for each of the `num` examples here, decided by the example's place in the *global* batch.

    Args:
      num: examples in the batch this function sees.
      axis_name: under pmap, the device axis: device i holds places i·num to (i + 1)·num − 1.

    Raises:
      ValueError: the key is none, or `num` no whole number.

    >>> example_keys(jax.random.key(0), 3).shape
    (3,)
    """
    check_key(key)
    check_whole("num", num, 0)
    first = 0 if axis_name is None else lax.axis_index(axis_name) * num
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, first + jnp.arange(num))


def check_key(key: object) -> None:
    """Raises ValueError unless it is one random key: of `jax.random.key`, or the older `jax.random.PRNGKey`.

    >>> check_key(0)
    Traceback (most recent call last):
    ValueError: key=0 must be one random key, such as jax.random.key(0)
    """
    try:
        jax.eval_shape(jax.random.fold_in, key, 0)
    except (TypeError, ValueError):
        raise ValueError(f"key={reprlib.repr(key)} must be one random key, such as jax.random.key(0)") from None
