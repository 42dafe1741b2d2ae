"""The arithmetic of a convolution: output shape, weights, neurons, connections, multiply-adds. Whole numbers, no arrays."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnn_jax.ops.arguments import check_each_axis, check_flag, check_whole
from cnn_jax.ops.conv import check_transposed, transposed_padding
from cnn_jax.ops.padding import BORDERS, Border, Padding, PerAxis, explicit_padding, per_axis


class Axis(NamedTuple):
    """A window that moves along one axis.

    Attributes:
      size: of the input.
      window, stride, dilation, input_dilation, border: as in `correlate`, of this axis.
      outputs: positions of the output.
      pads: positions added to the input (before, after).
    """

    size: int
    window: int
    stride: int
    dilation: int
    outputs: int
    pads: tuple[int, int]
    input_dilation: int = 1
    border: Border = "zeros"


def output_sizes(
    sizes: Sequence[int],
    window: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    input_dilation: PerAxis = 1,
) -> tuple[int, ...]:
    """Returns the positions of a convolution or pooling along each axis: ⌈(n + p − k_eff + 1) / s⌉, k_eff = (k − 1)·dilation + 1.

    The same number is ⌊(n + p − k_eff) / s⌋ + 1. Spread inputs have n = (size − 1)·input_dilation + 1.

    Args:
      sizes: of the input, one for each spatial axis.
      window: one size for each axis.
      stride, padding, dilation, input_dilation: as in `correlate`.

    Raises:
      ValueError: the window does not fit, or a number is out of its range; names the argument and the sizes.

    Reference: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016.

    >>> output_sizes((224, 224), (7, 7), stride=2, padding=3)
    (112, 112)
    """
    return tuple(axis.outputs for axis in _axes(sizes, window, stride, padding, dilation, input_dilation))


def transposed_output_sizes(
    sizes: Sequence[int],
    window: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: Padding = "VALID",
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
) -> tuple[int, ...]:
    """Returns the positions of a transposed convolution along each axis: (n − 1)·s + k_eff − pads + output_padding.

    Args:
      sizes: of the input, one for each spatial axis.
      window: one size for each axis.
      stride, padding, output_padding, dilation: as in `transposed_correlate`.

    Raises:
      ValueError: as `transposed_correlate`.

    Reference: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016.

    >>> transposed_output_sizes((7, 7), (4, 4), stride=2, padding=1)
    (14, 14)
    """
    n = _num_space(sizes, window)
    stride, dilation = per_axis(stride, n, "stride"), per_axis(dilation, n, "dilation")
    extra = per_axis(output_padding, n, "output_padding", least=0)
    cut = transposed_padding(padding, sizes, window, stride, dilation)
    check_transposed(sizes, window, stride, dilation, extra, cut)
    rows = zip(sizes, window, stride, dilation, extra, cut, strict=True)
    return tuple((size - 1) * s + (k - 1) * d + 1 + e - sum(pair) for size, k, s, d, e, pair in rows)


def num_weights(window: Sequence[int], c_in: int, c_out: int, *, groups: int = 1) -> int:
    """Returns the weights of a convolution, biases not among them: k_h · k_w · c_in / groups · c_out.

    Args:
      window: one size for each axis.
      c_in, c_out: channels that come in and go out.

    Raises:
      ValueError: a number of channels is below 1, or the groups do not divide both.

    >>> num_weights((3, 3), 64, 128)
    73728
    """
    check_each_axis("window", window)
    for name, number in (("c_in", c_in), ("c_out", c_out), ("groups", groups)):
        check_whole(name, number)
    if c_in % groups or c_out % groups:
        raise ValueError(f"groups={groups} must divide c_in={c_in} and c_out={c_out}")
    return math.prod(window) * (c_in // groups) * c_out


def num_neurons(sizes: Sequence[int], window: Sequence[int], c_out: int, **geometry) -> int:
    """Returns the output values of a convolution for one example: positions · c_out.

    Args:
      sizes: of the input, one for each spatial axis.
      window: one size for each axis.
      c_out: channels that go out.
      geometry: stride, padding, dilation and input_dilation, as in `output_sizes`.

    Raises:
      ValueError: c_out is below 1; else as `output_sizes`.

    >>> num_neurons((32, 32), (5, 5), 6)
    4704
    """
    check_whole("c_out", c_out)
    return math.prod(output_sizes(sizes, window, **geometry)) * c_out


def num_macs(sizes: Sequence[int], window: Sequence[int], c_in: int, c_out: int, *, groups: int = 1, **geometry) -> int:
    """Returns the multiply-adds of a convolution for one example: each weight once for each position, padding included.

    It is the usual count of papers; a FLOP count is twice that.

    Args:
      sizes, window, geometry: as in `output_sizes`.
      c_in, c_out, groups: as in `num_weights`.

    Raises:
      ValueError: as `output_sizes` and `num_weights`.

    >>> num_macs((224, 224), (7, 7), 3, 64, stride=2, padding=3)
    118013952
    """
    return math.prod(output_sizes(sizes, window, **geometry)) * num_weights(window, c_in, c_out, groups=groups)


def num_connections(
    sizes: Sequence[int], window: Sequence[int], c_in: int, c_out: int, *, groups: int = 1, use_bias: bool = True, **geometry
) -> int:
    """Returns the edges of a convolution's graph: pairs of an output neuron and an input value, and one for each neuron's bias.

    Taps that fall on padding, or between spread inputs, join nothing and are not counted; without these and bias it equals `num_macs`.

    Args:
      sizes, window, geometry: as in `output_sizes`.
      c_in, c_out, groups: as in `num_weights`.

    Raises:
      ValueError: as `output_sizes` and `num_weights`.

    Reference: LeCun et al., 1998: layer C1 of LeNet-5 has 122,304 connections and 156 weights.

    >>> num_connections((32, 32), (5, 5), 1, 6)
    122304
    """
    check_flag("use_bias", use_bias)
    axes = _axes(sizes, window, **geometry)
    edges = math.prod(real_taps(axis) for axis in axes) * (num_weights(window, c_in, c_out, groups=groups) // math.prod(window))
    return edges + (math.prod(axis.outputs for axis in axes) * c_out if use_bias else 0)


def real_taps(axis: Axis) -> int:
    """Returns the pairs of an output position and an input position that a tap of its window falls on, along one axis.

    A border that repeats the input is read as well; what a window meets twice is one pair.

    >>> real_taps(Axis(size=3, window=3, stride=1, dilation=1, outputs=3, pads=(1, 1)))
    7
    """
    size, window, stride, dilation, outputs, pads, gap, border = axis
    if border == "zeros":
        positions = (i * stride + k * dilation - pads[0] for i in range(outputs) for k in range(window))
        return sum(p % gap == 0 and 0 <= p // gap < size for p in positions)
    source = np.pad(np.arange(size), pads, mode=BORDERS[border]).tolist()
    starts = range(0, outputs * stride, stride)
    return sum(len(set(source[start : start + (window - 1) * dilation + 1 : dilation])) for start in starts)


def _axes(sizes, window, stride=1, padding="VALID", dilation=1, input_dilation=1) -> list[Axis]:
    n = _num_space(sizes, window)
    stride, dilation = per_axis(stride, n, "stride"), per_axis(dilation, n, "dilation")
    gaps = per_axis(input_dilation, n, "input_dilation")
    spread = [(size - 1) * gap + 1 for size, gap in zip(sizes, gaps, strict=True)]
    pads = explicit_padding(padding, spread, window, stride, dilation)
    spans = [size + sum(pair) - (k - 1) * d for size, pair, k, d in zip(spread, pads, window, dilation, strict=True)]
    if min(spans) < 1:
        raise ValueError(f"window {tuple(window)} with dilation {dilation} does not fit sizes {tuple(spread)} with padding={padding}")
    outputs = [-(-span // s) for span, s in zip(spans, stride, strict=True)]
    return list(map(Axis, sizes, window, stride, dilation, outputs, pads, gaps))


def _num_space(sizes: Sequence[int], window: Sequence[int]) -> int:
    check_each_axis("sizes", sizes)
    check_each_axis("window", window)
    if len(window) != len(sizes):
        raise ValueError(f"window={tuple(window)} must have one number for each axis of sizes={tuple(sizes)}")
    return len(sizes)
