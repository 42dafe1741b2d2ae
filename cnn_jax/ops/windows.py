"""A window's walk over space: how many places it has, what each of its taps sees there, and the way back."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Shaped

from cnn_jax.ops.arguments import check_array, check_flag
from cnn_jax.ops.padding import Padding, PerAxis, explicit_padding, per_axis

# Up to so many taps a window is taken apart into a strided slice a tap, which XLA fuses; compiling many more takes too long.
FEW = 32


class Walk(NamedTuple):
    """The windows over the spatial axes of padded inputs; one number for each axis.

    >>> walk = Walk(window=(3,), stride=(2,), dilation=(1,))
    >>> walk.places((7,)), list(walk.offsets())
    ((3,), [(0,), (1,), (2,)])
    """

    window: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    def places(self, space: Sequence[int]) -> tuple[int, ...]:
        """Returns the number of windows along each axis of a space of that size."""
        return tuple((n - (w - 1) * d - 1) // s + 1 for n, w, s, d in zip(space, *self, strict=True))

    def offsets(self) -> Iterator[tuple[int, ...]]:
        """Yields the position of each tap, counted from the first, in row-major order."""
        return itertools.product(*(range(0, w * d, d) for w, d in zip(self.window, self.dilation, strict=True)))

    @property
    def few(self) -> bool:
        """Tells whether the windows are best taken apart into their taps."""
        return math.prod(self.window) <= FEW and math.prod(self.stride) <= FEW

    def by_axis(self) -> "list[Walk]":
        """Returns walks along one axis each, the last axis first, which together do what this one does."""
        moving = [axis for axis, (w, s) in enumerate(zip(self.window, self.stride, strict=True)) if (w, s) != (1, 1)]
        return [Walk(*(tuple(v if i == axis else 1 for i, v in enumerate(field)) for field in self)) for axis in reversed(moving)]


class Windows(NamedTuple):
    """A walk, the padding that was asked for, and the padding that the walk's places need."""

    walk: Walk
    asked: tuple[tuple[int, int], ...]
    pads: tuple[tuple[int, int], ...]


def spatial_sizes(inputs: Shaped[Array, "..."]) -> tuple[int, ...]:
    """Returns the sizes of the spatial axes of [b, *space, c].

    Raises:
      ValueError: there are none, more than three, or an empty one; the inputs are no array of real numbers.

    >>> spatial_sizes(jnp.zeros((2, 8, 6, 3)))
    (8, 6)
    """
    check_array("inputs", inputs)
    space = inputs.shape[1:-1]
    if not 1 <= len(space) <= 3 or 0 in space:
        raise ValueError(f"inputs must be [b, *space, c] with 1 to 3 spatial axes, none of them empty, got shape {inputs.shape}")
    return space


def sliding_windows(
    inputs: Shaped[Array, "..."],
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Windows:
    """Returns the windows that cover `inputs` [b, *space, c].

    ⌊(n + p − k_eff) / s⌋ + 1 places along an axis, k_eff = (k − 1)·dilation + 1; with `ceil_mode` ⌈…⌉ + 1, a last window that
    reaches beyond the padding, unless it would start beyond the input and the padding before it (torch's rule).

    Args:
      stride: the window where it is None.
      padding: as in `explicit_padding`; at most half the window where it is given in numbers, so that no window sees padding only.

    Raises:
      ValueError: a number is out of its range, no window fits, or one would see padding only; names the argument and the sizes.

    >>> sliding_windows(jnp.zeros((1, 6, 1)), 3, stride=2, ceil_mode=True).pads
    ((0, 1),)
    """
    check_flag("ceil_mode", ceil_mode)
    space = spatial_sizes(inputs)
    num_space = len(space)
    window = per_axis(window, num_space, "window")
    stride = window if stride is None else per_axis(stride, num_space, "stride")
    dilation = per_axis(dilation, num_space, "dilation")
    asked = explicit_padding(padding, space, window, stride, dilation)
    spans = tuple((w - 1) * d + 1 for w, d in zip(window, dilation, strict=True))
    if not isinstance(padding, str) and any(max(pad) > span // 2 for pad, span in zip(asked, spans, strict=True)):
        raise ValueError(f"padding={padding} must be at most half the window's span {spans}, else a window would see nothing but padding")
    pads = []
    for n, (before, after), w, d, span, s in zip(space, asked, window, dilation, spans, stride, strict=True):
        num = (n + before + after - span + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (num - 1) * s >= n + before:
            num -= 1
        if num < 1:
            raise ValueError(f"a window={window} that spans {spans} does not fit into the space {space} with padding={padding}")
        if _misses(np.arange(num) * s - before, n, w, d):
            raise ValueError(
                f"a window={window} with dilation={dilation} and stride={stride} would see nothing but padding={padding} "
                f"on the sizes {space}: its taps step over all values"
            )
        pads.append((before, max((num - 1) * s + span - n - before, 0)))
    return Windows(Walk(window, stride, dilation), tuple(asked), tuple(pads))


def padded(inputs: Shaped[Array, "b *space c"], pads: Sequence[tuple[int, int]], value: float | int | bool) -> Shaped[Array, "b *larger c"]:
    """Returns `inputs` with (before, after) positions of `value` around each spatial axis.

    >>> padded(jnp.ones((1, 2, 1)), [(1, 0)], -2.0)[0, :, 0].tolist()
    [-2.0, 1.0, 1.0]
    """
    inputs = jnp.asarray(inputs)
    return lax.pad(inputs, jnp.array(value, inputs.dtype), [(0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)])


def in_whole_strides(pads: Sequence[tuple[int, int]], space: Sequence[int], walk: Walk) -> list[tuple[int, int]]:
    """Returns the padding with more after it, so that each axis is a multiple of its stride, if that adds no window: for `taps_by_rows`.

    >>> in_whole_strides([(1, 1)], (7,), Walk((3,), (2,), (1,)))
    [(1, 2)]
    """
    larger = [(before, after + -(n + before + after) % s) for (before, after), n, s in zip(pads, space, walk.stride, strict=True)]
    counts = [walk.places([n + sum(pair) for n, pair in zip(space, each, strict=True)]) for each in (pads, larger)]
    return [wide if few == many else pad for pad, wide, few, many in zip(pads, larger, *counts, strict=True)]


def taps(inputs: Shaped[Array, "b *space c"], walk: Walk) -> list[Shaped[Array, "b *places c"]]:
    """Returns what each tap of the window sees at all places, in row-major order.

    >>> [tap[0, :, 0].tolist() for tap in taps(jnp.arange(5.0).reshape(1, 5, 1), Walk((2,), (2,), (1,)))]
    [[0.0, 2.0], [1.0, 3.0]]
    """
    b, *space, c = inputs.shape
    places = walk.places(space)
    ends = [[o + (p - 1) * s + 1 for o, p, s in zip(offset, places, walk.stride, strict=True)] for offset in walk.offsets()]
    starts = walk.offsets()
    return [lax.slice(inputs, (0, *start, 0), (b, *end, c), (1, *walk.stride, 1)) for start, end in zip(starts, ends, strict=True)]


def taps_by_rows(inputs: Shaped[Array, "b *space c"], walk: Walk) -> list[Shaped[Array, "b *places c"]]:
    """Returns the same as `taps`, read in a way that a CPU is twice as fast at, but in which no receptive field can be read off a program.

    Each axis is split in (rows, stride): a tap is then a block of rows of one remainder, rather than every s-th value.

    >>> [tap[0, :, 0].tolist() for tap in taps_by_rows(jnp.arange(5.0).reshape(1, 5, 1), Walk((2,), (2,), (1,)))]
    [[0.0, 2.0], [1.0, 3.0]]
    """
    b, *space, c = inputs.shape
    places = walk.places(space)
    rows = [max(-(-n // s), (w - 1) * d // s + p) for n, p, (w, s, d) in zip(space, places, zip(*walk, strict=True), strict=True)]
    after = [(0, r * s - n, 0) for n, r, s in zip(space, rows, walk.stride, strict=True)]
    grid = lax.pad(inputs, jnp.zeros((), inputs.dtype), [(0, 0, 0), *after, (0, 0, 0)]) if any(a for _, a, _ in after) else inputs
    grid = grid.reshape(b, *itertools.chain(*zip(rows, walk.stride, strict=True)), c)
    seen = []
    for offset in walk.offsets():
        where = [(slice(o // s, o // s + p), o % s) for o, p, s in zip(offset, places, walk.stride, strict=True)]
        starts, limits = zip(*(edge for pair in where for edge in _edges(*pair)), strict=True)
        tap = lax.slice(grid, (0, *starts, 0), (b, *limits, c))
        seen.append(tap.reshape(b, *places, c))
    return seen


def _edges(block: slice, remainder: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (block.start, block.stop), (remainder, remainder + 1)


def spread(pieces: Sequence[Shaped[Array, "b *places c"]], walk: Walk, space: Sequence[int]) -> Shaped[Array, "b *space c"]:
    """Returns the transpose of `taps`: each tap's piece is put where that tap has looked, and what meets is added.

    Positions of one remainder modulo the stride lie on a grid of their own, on which a tap's piece is merely shifted. That is
    several times faster than adding pieces with gaps between their values.

    >>> spread([jnp.ones((1, 2, 1)), jnp.full((1, 2, 1), 3.0)], Walk((2,), (1,), (1,)), (3,))[0, :, 0].tolist()
    [1.0, 4.0, 3.0]
    """
    (b, *places, c), dtype = pieces[0].shape, pieces[0].dtype
    rows = [-(-n // s) for n, s in zip(space, walk.stride, strict=True)]
    zero = jnp.zeros((), dtype)
    phases = {phase: jnp.zeros((b, *rows, c), dtype) for phase in itertools.product(*map(range, walk.stride))}
    for offset, piece in zip(walk.offsets(), pieces, strict=True):
        phase = tuple(o % s for o, s in zip(offset, walk.stride, strict=True))
        shifts = [o // s for o, s in zip(offset, walk.stride, strict=True)]
        around = [(shift, row - place - shift, 0) for shift, row, place in zip(shifts, rows, places, strict=True)]
        phases[phase] += lax.pad(piece, zero, [(0, 0, 0), *around, (0, 0, 0)])
    grids = list(phases.values())
    for axis in reversed(range(len(space))):
        s = walk.stride[axis]
        grids = [jnp.stack(grids[i : i + s], axis + 2) for i in range(0, len(grids), s)]
    whole = grids[0].reshape(b, *(row * s for row, s in zip(rows, walk.stride, strict=True)), c)
    return lax.slice(whole, (0,) * whole.ndim, (b, *space, c))


def tap_at(inputs: Shaped[Array, "b *space c"], tap: int | jax.Array, walk: Walk, axis: int) -> Shaped[Array, "b *places c"]:
    """Returns what one tap sees at all places of a walk along one array axis; the tap may be a traced number.

    >>> tap_at(jnp.arange(5.0).reshape(1, 5, 1), 1, Walk((2,), (2,), (1,)), 1)[0, :, 0].tolist()
    [1.0, 3.0]
    """
    s, places = walk.stride[axis - 1], walk.places(inputs.shape[1:-1])[axis - 1]
    seen = lax.dynamic_slice_in_dim(inputs, tap * walk.dilation[axis - 1], (places - 1) * s + 1, axis)
    return lax.slice_in_dim(seen, 0, seen.shape[axis], s, axis)


def spread_at(
    total: Shaped[Array, "b *space c"], piece: Shaped[Array, "b *places c"], tap: int | jax.Array, walk: Walk, axis: int
) -> Shaped[Array, "b *space c"]:
    """Returns `total` plus the transpose of `tap_at`.

    >>> spread_at(jnp.ones((1, 5, 1)), jnp.ones((1, 2, 1)), 1, Walk((2,), (2,), (1,)), 1)[0, :, 0].tolist()
    [1.0, 2.0, 1.0, 2.0, 1.0]
    """
    gaps = [(0, 0, walk.stride[axis - 1] - 1 if i == axis else 0) for i in range(piece.ndim)]
    wide = lax.pad(piece, jnp.zeros((), piece.dtype), gaps)
    start = tap * walk.dilation[axis - 1]
    before = lax.dynamic_slice_in_dim(total, start, wide.shape[axis], axis)
    return lax.dynamic_update_slice_in_dim(total, before + wide, start, axis)


def _misses(starts: np.ndarray, size: int, window: int, dilation: int) -> bool:
    """Whether one of the windows along an axis has no tap in 0 … size − 1."""
    first = starts + np.maximum(-(starts // dilation), 0) * dilation  # the first tap that is not before the input
    return bool(((first >= size) | (first > starts + (window - 1) * dilation)).any())
