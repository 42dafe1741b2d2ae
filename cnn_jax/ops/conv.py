"""Convolution of the networks' kind (correlation) in one, two or three dimensions, channels last."""

from collections.abc import Sequence

import jax
from jax import lax

# Spatial letters by number of spatial dimensions: NWC, NHWC, NDHWC.
_SPATIAL = {1: "W", 2: "HW", 3: "DHW"}


def correlate(
    inputs: jax.Array,
    kernel: jax.Array,
    *,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int | tuple[int, int]] = "VALID",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> jax.Array:
    """Returns the cross-correlation of `inputs` with a bank of kernels, what network papers call convolution.

    y[n, i, o] = Σ_k Σ_c x[n, i·stride + k·dilation − padding, c] · w[k, c, o], values outside the input being zero.
    The output has ⌈(size + pads − k_eff + 1) / stride⌉ positions, k_eff = (k − 1)·dilation + 1.

    Args:
      inputs: [b, *space, c_in] with one to three spatial axes.
      kernel: [*window, c_in // groups, c_out].
      stride: one number, or one for each spatial axis.
      padding: "VALID" (none), "SAME" (output ⌈size / stride⌉), a number of zeros for both sides of each axis (torch's
        meaning), or one such number or (before, after) pair for each spatial axis.
      dilation: spacing of the kernel's taps.
      groups: the channels are split in so many groups that do not see each other.

    Raises:
      ValueError: the ranks or channel counts do not fit.

    Reference: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016.

    >>> import jax.numpy as jnp
    >>> image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> correlate(image, jnp.ones((3, 3, 1, 1)))[0, :, :, 0].tolist()
    [[45.0, 54.0], [81.0, 90.0]]
    """
    num_space = inputs.ndim - 2
    if num_space not in _SPATIAL:
        raise ValueError(f"inputs must be [b, *space, c] with 1 to 3 spatial axes, got shape {inputs.shape}")
    if kernel.ndim != num_space + 2:
        raise ValueError(f"kernel must be [*window, c_in/groups, c_out] of rank {num_space + 2}, got shape {kernel.shape}")
    if inputs.shape[-1] != kernel.shape[-2] * groups or kernel.shape[-1] % groups:
        raise ValueError(
            f"{inputs.shape[-1]} input channels do not fit a kernel {kernel.shape} in {groups} group(s): "
            f"c_in must be kernel.shape[-2] * groups, and groups must divide c_out"
        )
    space = _SPATIAL[num_space]
    return lax.conv_general_dilated(
        inputs,
        kernel,
        window_strides=_per_axis(stride, num_space),
        padding=_explicit(padding, num_space),
        rhs_dilation=_per_axis(dilation, num_space),
        dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
        feature_group_count=groups,
    )


def _per_axis(value: int | Sequence[int], num_space: int) -> tuple[int, ...]:
    return (value,) * num_space if isinstance(value, int) else tuple(value)


def _explicit(padding, num_space: int):
    if isinstance(padding, str):
        return padding
    if isinstance(padding, int):
        padding = (padding,) * num_space
    return [(p, p) if isinstance(p, int) else tuple(p) for p in padding]
