"""Pooling to an output of given size, whatever the input's: the window follows from both."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

from cnn_jax.ops.max_pool import first_maximum
from cnn_jax.ops.padding import PerAxis, per_axis
from cnn_jax.ops.precision import result_type, widened
from cnn_jax.ops.windows import spatial_sizes


@jax.named_scope("adaptive_average_pool")
def adaptive_average_pool(inputs: Float[Array, "b *space c"], output_size: PerAxis) -> Float[Array, "b *sizes c"]:
    """Returns the means of `output_size` bins along each spatial axis.

    Bin i of m along n positions reaches from ⌊i·n/m⌋ to before ⌈(i + 1)·n/m⌉ (torch's bins): all positions are covered, neighbouring bins
    may share some, and more bins than positions repeat values.

    Args:
      inputs: with one to three spatial axes.
      output_size: one number for all of them, or one for each.

    Raises:
      ValueError: the inputs' rank, or a number below 1.

    Reference: He et al., "Spatial pyramid pooling in deep convolutional networks for visual recognition", 2014.

    >>> adaptive_average_pool(jnp.arange(5.0).reshape(1, 5, 1), 2)[0, :, 0].tolist()
    [1.0, 3.0]
    """
    spatial_sizes(inputs)
    means = _by_bins(widened(inputs), output_size, lambda x, axis: x.mean(axis, keepdims=True))
    return means.astype(result_type(inputs))


@jax.named_scope("adaptive_max_pool")
def adaptive_max_pool(inputs: Shaped[Array, "b *space c"], output_size: PerAxis) -> Shaped[Array, "b *sizes c"]:
    """Returns the maxima of `output_size` bins along each spatial axis; bins and arguments as `adaptive_average_pool`.

    The gradient goes to a bin's first maximum in row-major order. NaN is handed on.

    Raises:
      ValueError: as `adaptive_average_pool`.

    Reference: that of `adaptive_average_pool`.

    >>> adaptive_max_pool(jnp.arange(5.0).reshape(1, 5, 1), 2)[0, :, 0].tolist()
    [2.0, 4.0]
    """
    return _by_bins(inputs, output_size, first_maximum)


def _by_bins(inputs: jax.Array, output_size: PerAxis, reduce: Callable[[jax.Array, int], jax.Array]) -> jax.Array:
    """Reduces axis by axis, the last one first, so that of equal maxima the first in row-major order is kept."""
    sizes = per_axis(output_size, len(spatial_sizes(inputs)), "output_size")
    for axis in range(len(sizes), 0, -1):
        n, m = inputs.shape[axis], sizes[axis - 1]
        if n % m == 0:  # bins of one length
            binned = inputs.reshape(*inputs.shape[:axis], m, n // m, *inputs.shape[axis + 1 :])
            inputs = lax.squeeze(reduce(binned, axis + 1), (axis + 1,))
        else:
            bins = [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
            inputs = jnp.concatenate([reduce(lax.slice_in_dim(inputs, *ends, axis=axis), axis) for ends in bins], axis)
    return inputs
