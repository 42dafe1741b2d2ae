"""How residual nets end: from the last features to the one vector an image that the head reads."""

from typing import Literal

import jax

from cnn_jax.ops.pool import global_average_max_pool, global_average_pool, global_max_pool

Pooling = Literal["average", "max", "average_max", "flatten"]  # how a net's last feature map becomes a vector: see `pool_to_vector`


def pool_to_vector(pooling: Pooling, x: jax.Array) -> jax.Array:
    """Returns one vector an image, [b, c], or [b, h·w·c] where it is flattened.

    Args:
      pooling: "average", "max" or half the sum of both ("average_max") over all places: what is there, wherever it is;
        "flatten" keeps the places apart: where things are counts too, and the net then serves one size of image only.
      x: features [b, h, w, c].

    Raises:
      ValueError: an unknown pooling.

    Reference: Lin, Chen & Yan, "Network in network", 2013, section 3.2, compares average pooling with flattened features.

    >>> x = jax.numpy.arange(8.0).reshape(1, 2, 2, 2)
    >>> [pool_to_vector(pooling, x).tolist() for pooling in ("average", "flatten")]
    [[[3.0, 4.0]], [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]]
    """
    pools = {"average": global_average_pool, "max": global_max_pool, "average_max": global_average_max_pool, "flatten": _flat}
    if pooling not in pools:
        raise ValueError(f"pooling={pooling!r} must be one of {', '.join(pools)}")
    return pools[pooling](x)


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)
