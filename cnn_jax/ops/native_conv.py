"""Correlation and its two gradients as XLA has them, and the geometry that all ways of computing them share."""

from typing import NamedTuple

import jax
from jax import lax
from jaxtyping import Array, Float

# Spatial letters by number of spatial dimensions: NWC, NHWC, NDHWC.
SPATIAL = {1: "W", 2: "HW", 3: "DHW"}


class Geometry(NamedTuple):
    """How a bank of kernels moves over inputs; one number for each spatial axis.

    Attributes:
      space: sizes of the inputs.
      pads: (before, after); negative where positions are cut off.
      input_dilation: the inputs lie so far apart, zeros between them.

    >>> Geometry(space=(5, 4), window=(3, 3), stride=(2, 1), pads=((1, 1), (0, 0)), input_dilation=(1, 1), dilation=(1, 1)).positions
    (3, 2)
    """

    space: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    input_dilation: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def positions(self) -> tuple[int, ...]:
        """The sizes of the output."""
        rows = zip(self.space, self.window, self.stride, self.pads, self.input_dilation, self.dilation, strict=True)
        return tuple(((n - 1) * i + sum(p) - (k - 1) * d) // s + 1 for n, k, s, p, i, d in rows)

    @property
    def spans(self) -> tuple[int, ...]:
        """The positions from the window's first tap to its last."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.window, self.dilation, strict=True))


def correlation(
    inputs: Float[Array, "b *space c_in"], kernel: Float[Array, "*window c_in_per_group c_out"], geometry: Geometry
) -> Float[Array, "b *positions c_out"]:
    """Returns the correlation of inputs with a bank of kernels.

    >>> import jax.numpy as jnp
    >>> geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,))
    >>> correlation(jnp.arange(3.0).reshape(1, 3, 1), jnp.ones((2, 1, 1)), geometry).ravel().tolist()
    [1.0, 3.0]
    """
    space = SPATIAL[len(geometry.window)]
    return lax.conv_general_dilated(
        inputs,
        kernel,
        window_strides=geometry.stride,
        padding=geometry.pads,
        lhs_dilation=geometry.input_dilation,
        rhs_dilation=geometry.dilation,
        dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
        feature_group_count=geometry.groups,
    )


def input_gradient(
    cotangent: Float[Array, "b *positions c_out"], kernel: Float[Array, "*window c_in_per_group c_out"], geometry: Geometry
) -> Float[Array, "b *space c_in"]:
    """Returns the transpose of `correlation` with respect to its inputs.

    >>> import jax.numpy as jnp
    >>> geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,))
    >>> input_gradient(jnp.ones((1, 2, 1)), jnp.array([1.0, 10.0]).reshape(2, 1, 1), geometry).ravel().tolist()
    [1.0, 11.0, 10.0]
    """
    inputs = jax.ShapeDtypeStruct((len(cotangent), *geometry.space, kernel.shape[-2] * geometry.groups), cotangent.dtype)
    return jax.linear_transpose(lambda x: correlation(x, kernel, geometry), inputs)(cotangent)[0]


def kernel_gradient(
    inputs: Float[Array, "b *space c_in"], cotangent: Float[Array, "b *positions c_out"], geometry: Geometry
) -> Float[Array, "*window c_in_per_group c_out"]:
    """Returns the transpose of `correlation` with respect to its kernel.

    >>> import jax.numpy as jnp
    >>> geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,))
    >>> kernel_gradient(jnp.arange(3.0).reshape(1, 3, 1), jnp.ones((1, 2, 1)), geometry).ravel().tolist()
    [1.0, 3.0]
    """
    shape = (*geometry.window, inputs.shape[-1] // geometry.groups, cotangent.shape[-1])
    kernel = jax.ShapeDtypeStruct(shape, inputs.dtype)
    return jax.linear_transpose(lambda w: correlation(inputs, w, geometry), kernel)(cotangent)[0]
