"""Anti-aliased pooling: blur before leaving positions out, so that a shifted input gives a shifted output."""

import math

import jax
from jaxtyping import Array, Float

from cnn_jax.ops.max_pool import max_pool
from cnn_jax.ops.padding import Border, Padding, PerAxis, pad_space, per_axis
from cnn_jax.ops.precision import result_type, widened
from cnn_jax.ops.windows import Walk, spatial_sizes, taps


@jax.named_scope("blur_pool")
def blur_pool(
    inputs: Float[Array, "b *space c"], *, window: PerAxis = 3, stride: PerAxis = 2, border: Border = "reflect"
) -> Float[Array, "b *places c"]:
    """Returns every `stride`-th position of the blurred inputs, ⌈n / stride⌉ along each axis.

    Each channel is blurred by a binomial kernel: 1 2 1 / 4 for window 3, 1 3 3 1 / 8 for 4, and so on, along each axis. With window 1
    positions are only left out.

    Args:
      inputs: with one to three spatial axes.
      window, stride: one number, or one for each axis.
      border: what the blur sees outside, as in `pad_space`; window − 1 positions in all, the odd one after.

    Raises:
      ValueError: the inputs' rank, a number below 1, or a border wider than the inputs allow.

    Reference: Zhang, "Making convolutional networks shift-invariant again", 2019.

    >>> import jax.numpy as jnp
    >>> blur_pool(jnp.array([0.0, 0.0, 4.0, 0.0, 0.0]).reshape(1, 5, 1))[0, :, 0].tolist()
    [0.0, 2.0, 0.0]
    """
    num_space = len(spatial_sizes(inputs))
    window, stride = per_axis(window, num_space, "window"), per_axis(stride, num_space, "stride")
    outputs = widened(inputs)
    for walk in Walk(window, stride, (1,) * num_space).by_axis():  # one axis at a time: the product of the rows is the kernel
        k = max(walk.window)
        outputs = pad_space(outputs, [((n - 1) // 2, n // 2) for n in walk.window], border=border)
        outputs = sum(math.comb(k - 1, i) / 2 ** (k - 1) * tap for i, tap in enumerate(taps(outputs, walk)))
    return outputs.astype(result_type(inputs))


@jax.named_scope("max_blur_pool")
def max_blur_pool(
    inputs: Float[Array, "b *space c"], window: PerAxis, *, blur: PerAxis = 3, stride: PerAxis = 2, padding: Padding = 0
) -> Float[Array, "b *places c"]:
    """Returns the maximum of each window, taken at every position, then blurred and thinned out: an anti-aliased max pooling.

    Args:
      window, padding: of the maximum, as in `max_pool`.
      blur: window of the binomial blur.
      stride: of the blur; the maximum has stride 1.

    Raises:
      ValueError: as `max_pool` and `blur_pool`.

    Reference: Zhang, "Making convolutional networks shift-invariant again", 2019.

    >>> import jax.numpy as jnp
    >>> max_blur_pool(jnp.array([0.0, 4.0, 0.0, 0.0]).reshape(1, 4, 1), 2)[0, :, 0].tolist()
    [4.0, 2.0]
    """
    blur = per_axis(blur, len(spatial_sizes(inputs)), "blur")
    return blur_pool(max_pool(inputs, window, stride=1, padding=padding), window=blur, stride=stride)
