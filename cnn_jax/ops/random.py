"""Random keys that do not depend on how many devices share the batch."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Key, PRNGKeyArray


def example_keys(key: PRNGKeyArray, num: int, *, axis_name: str | None = None) -> Key[Array, "{num}"]:
    """Returns one key for each of the `num` examples here, decided by the example's place in the *global* batch.

    Args:
      num: examples in the batch this function sees.
      axis_name: under pmap, the device axis: device i holds places i·num to (i + 1)·num − 1.

    >>> example_keys(jax.random.key(0), 3).shape
    (3,)
    """
    first = 0 if axis_name is None else lax.axis_index(axis_name) * num
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, first + jnp.arange(num))
