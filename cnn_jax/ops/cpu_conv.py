"""How a CPU computes correlation and its gradients: by which of a few formulations, chosen by shape alone. The rule:

  correlation      depthwise, extension     its sums of taps
                   a window, extension      its products of taps; 3×3 of many channels by Winograd's; spread inputs by phases, each written
                                            where it belongs; of few output channels several positions at once
                   spread inputs            one correlation of the plain inputs for each phase of the output, put in between each other
                   grouped, extension       its sums of taps, for 2 to 16 channels a group, as many out as in; if large, up to 4
                   large, oneDNN there      its convolution
                   1×1                      a matrix product, of every stride-th position
                   depthwise                the taps, weighed and added up
                   few positions            patches times matrix: `_FEW` says how few
                   else                     XLA's convolution
  input gradient   any                      the correlation of the spread cotangent with the mirrored kernel, by this same rule
  kernel gradient  spread inputs            that with inputs and cotangent in each other's place
                   depthwise, extension     its sums
                   grouped, extension       its products of taps, group by group
                   a window, extension      its products of taps; 3×3 of many channels by Winograd's; of few, its sums over planes
                   1×1                      a matrix product, oneDNN's where it is large and oneDNN is there
                   depthwise                a product and sum for each tap
                   grouped                  patches times matrix, group by group
                   3-D, or one position     a matrix product for each tap
                   else                     XLA's convolution, its operands laid out for it

The extension is that of `extension.py`, where it was built: in float32, kernel gradients of any grouping, ungrouped and depthwise
correlations and some in groups. A window of many taps is left to XLA otherwise. docs/performance.md has what each was measured to gain.
XLA's compiler lays out operands for its convolution in a program's outermost computation only: in a loop (`lax.scan`) a gradient left to
it is a hundred times slower.
"""

import itertools
import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.ops import extension, native_conv, onednn
from cnn_jax.ops.native_conv import Geometry
from cnn_jax.ops.windows import Walk, in_whole_strides, padded, taps_by_rows

_LARGE = 2**26  # multiply-adds, from which on oneDNN is called: programs that call it cannot be kept in the compile cache
_MANY = 128  # taps, beyond which a window is not taken apart: the program would take minutes to compile
_LANES = 16  # of the largest vectors, which channels in groups are to fill
_FEW = 16  # positions of an image, up to which patches are no larger than what XLA's convolution would make of them


def correlation(
    inputs: Float[Array, "b *space c_in"], kernel: Float[Array, "*window c_in_per_group c_out"], geometry: Geometry, *, whole: bool = True
) -> Float[Array, "b *positions c_out"]:
    """Returns the correlation of inputs with a bank of kernels.

    Args:
      whole: the program runs on one device as it stands: calls that the compiler cannot split over devices may be made.

    >>> geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,))
    >>> correlation(jnp.arange(3.0).reshape(1, 3, 1), jnp.ones((2, 1, 1)), geometry).ravel().tolist()
    [1.0, 3.0]
    """
    if 0 in (*inputs.shape, *kernel.shape, *geometry.positions):
        return native_conv.correlation(inputs, kernel, geometry)
    depthwise = inputs.shape[-1] == kernel.shape[-1] == geometry.groups
    if depthwise and whole and extension.takes(inputs, kernel):
        return extension.depthwise_correlation(inputs, kernel, geometry)
    if whole and _is_built_for(geometry) and extension.takes(inputs, kernel):
        return extension.correlation(inputs, kernel, geometry)
    if max(geometry.input_dilation) > 1:
        if _has_phases(geometry):
            return _by_phases(inputs, kernel, geometry, whole)
        return native_conv.correlation(inputs, kernel, geometry)
    shape = (len(inputs), *geometry.positions, kernel.shape[-1])
    inputs, geometry = _cut(inputs, geometry)
    if 0 in inputs.shape:  # no position sees any
        return jnp.zeros(shape, inputs.dtype)
    calls = whole and _is_large(inputs, kernel.shape[-1], geometry)
    by_lanes = geometry.groups > 1 and inputs.shape[-1] == kernel.shape[-1] and inputs.shape[-1] % _LANES == 0
    if whole and by_lanes and kernel.shape[-2] in ((2, 4) if calls else (2, 4, 8, 16)) and extension.takes(inputs, kernel):
        return extension.correlation(inputs, kernel, geometry)
    if calls:
        return onednn.correlation(inputs, kernel, geometry)
    if math.prod(geometry.window) == 1 and geometry.groups == 1:
        (seen,) = _taps(inputs, geometry)
        return (_rows(seen) @ kernel.reshape(kernel.shape[-2:])).reshape(*seen.shape[:-1], kernel.shape[-1])
    many = math.prod(geometry.window) > _MANY
    if depthwise and not many:
        weights = kernel.reshape(-1, *(1,) * (inputs.ndim - 1), kernel.shape[-1])
        return sum(seen * weight for seen, weight in zip(_taps(inputs, geometry), weights, strict=True))
    if math.prod(geometry.positions) <= _FEW and geometry.groups == 1 and not many:
        patches = jnp.concatenate(_taps(inputs, geometry), -1)
        y = _rows(patches) @ kernel.reshape(-1, kernel.shape[-1])
        return y.reshape(*patches.shape[:-1], kernel.shape[-1])
    return native_conv.correlation(inputs, kernel, geometry)


def input_gradient(
    cotangent: Float[Array, "b *positions c_out"],
    kernel: Float[Array, "*window c_in_per_group c_out"],
    geometry: Geometry,
    *,
    whole: bool = True,
) -> Float[Array, "b *space c_in"]:
    """Returns the transpose of `correlation` with respect to its inputs.

    Args:
      whole: as in `correlation`.

    >>> geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,))
    >>> input_gradient(jnp.ones((1, 2, 1)), jnp.array([1.0, 10.0]).reshape(2, 1, 1), geometry).ravel().tolist()
    [1.0, 11.0, 10.0]
    """
    transposed = _transposed(geometry)
    if whole and _is_built_for(transposed) and extension.takes(cotangent, kernel) and 0 not in (*cotangent.shape, *kernel.shape):
        return extension.input_gradient(cotangent, kernel, transposed)
    mirrored = lax.rev(_exchanged(kernel, geometry.groups), tuple(range(len(geometry.window))))
    return correlation(cotangent, mirrored, transposed, whole=whole)


def kernel_gradient(
    inputs: Float[Array, "b *space c_in"], cotangent: Float[Array, "b *positions c_out"], geometry: Geometry, *, whole: bool = True
) -> Float[Array, "*window c_in_per_group c_out"]:
    """Returns the transpose of `correlation` with respect to its kernel.

    Args:
      whole: as in `correlation`.

    >>> geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,))
    >>> kernel_gradient(jnp.arange(3.0).reshape(1, 3, 1), jnp.ones((1, 2, 1)), geometry).ravel().tolist()
    [1.0, 3.0]
    """
    if 0 in (*inputs.shape, *cotangent.shape):
        return native_conv.kernel_gradient(inputs, cotangent, geometry)
    if max(geometry.input_dilation) > 1:
        if max(geometry.stride) > 1:
            return native_conv.kernel_gradient(inputs, cotangent, geometry)
        mirrored = kernel_gradient(cotangent, inputs, _transposed(geometry), whole=whole)
        return _exchanged(lax.rev(mirrored, tuple(range(len(geometry.window)))), geometry.groups)
    inputs, geometry = _cut(inputs, geometry)
    c_in, c_out, groups = inputs.shape[-1], cotangent.shape[-1], geometry.groups
    shape = (*geometry.window, c_in // groups, c_out)
    if 0 in inputs.shape:  # no position sees any
        return jnp.zeros(shape, inputs.dtype)
    calls = whole and _is_large(inputs, c_out, geometry)
    depthwise = c_in == c_out == groups
    if whole and extension.takes(inputs, cotangent):
        if depthwise:
            return extension.depthwise_kernel_gradient(inputs, cotangent, geometry)
        if groups > 1 or math.prod(geometry.window) > 1:
            return extension.kernel_gradient(inputs, cotangent, geometry)
    if math.prod(geometry.window) > _MANY:
        return _laid_out(inputs, cotangent, geometry) if groups == 1 else native_conv.kernel_gradient(inputs, cotangent, geometry)
    if depthwise:
        axes = tuple(range(cotangent.ndim - 1))
        return jnp.stack([(seen * cotangent).sum(axes) for seen in _taps(inputs, geometry)]).reshape(shape)
    if groups > 1:
        patches = jnp.stack([_rows(seen).reshape(-1, groups, c_in // groups) for seen in _taps(inputs, geometry)], 2)
        by_group = jnp.einsum("ngkc,ngo->kcgo", patches, _rows(cotangent).reshape(-1, groups, c_out // groups))
        return by_group.reshape(shape)
    if len(geometry.window) == 3 or math.prod(geometry.window) == 1 or math.prod(geometry.positions) == 1:
        b = _rows(cotangent)
        products = [onednn.product(_rows(a), b, transpose_a=True) if calls else _rows(a).T @ b for a in _taps(inputs, geometry)]
        return jnp.stack(products).reshape(shape)
    return _laid_out(inputs, cotangent, geometry)


def _is_built_for(geometry: Geometry) -> bool:
    """Whether the extension correlates so, where it is loaded: without groups; a 1×1 of all positions is a product, which oneDNN has."""
    several = max(*geometry.window, *geometry.stride, *geometry.input_dilation) > 1
    return geometry.groups == 1 and several and 0 not in geometry.positions and _has_phases(geometry)


def _has_phases(geometry: Geometry) -> bool:
    """Whether outputs of one remainder see every gap-th tap of the window, along each axis; so it is where no inputs are spread."""
    gaps = zip(geometry.input_dilation, geometry.dilation, strict=True)
    return max(geometry.input_dilation) == 1 or (max(geometry.stride) == 1 and all(math.gcd(gap, d) == 1 for gap, d in gaps))


def _is_large(inputs: Array, c_out: int, geometry: Geometry) -> bool:
    """Whether a call of oneDNN is worth that the program cannot be kept in the compile cache."""
    products = inputs.shape[0] * math.prod(geometry.positions) * math.prod(geometry.window) * inputs.shape[-1] // geometry.groups * c_out
    return products >= _LARGE and inputs.dtype == jnp.float32 and onednn.is_available()


def _by_phases(inputs: Array, kernel: Array, geometry: Geometry, whole: bool) -> Array:
    """Of inputs that lie s apart, outputs of one remainder modulo s see every s-th tap, and the inputs without the zeros between them."""
    axes = tuple(zip(geometry.space, geometry.window, geometry.pads, geometry.input_dilation, geometry.dilation, strict=True))
    rows = tuple(-(-p // s) for p, s in zip(geometry.positions, geometry.input_dilation, strict=True))
    shape = (inputs.shape[0], *rows, kernel.shape[-1])
    phases = []
    for phase in itertools.product(*map(range, geometry.input_dilation)):
        first = [_first_tap(r, *axis) for r, axis in zip(phase, axes, strict=True)]
        if None in first:
            phases.append(jnp.zeros(shape, inputs.dtype))
            continue
        taps = tuple(slice(k, None, s) for k, s in zip(first, geometry.input_dilation, strict=True))
        part, pads = kernel[taps], []
        for r, k, m, row, (n, _, (before, _), s, d) in zip(phase, first, part.shape[:-2], rows, axes, strict=True):
            start = (r + k * d - before) // s  # the input that the first output's first tap sees
            pads.append((-start, start + row - 1 + (m - 1) * d - (n - 1)))
        ones = (1,) * len(rows)
        plain = Geometry(geometry.space, part.shape[:-2], ones, tuple(pads), ones, geometry.dilation, geometry.groups)
        phases.append(correlation(inputs, part, plain, whole=whole))
    return _between_each_other(phases, geometry.input_dilation, geometry.positions)


def _first_tap(remainder: int, size: int, window: int, pads: tuple[int, int], gap: int, dilation: int) -> int | None:
    """The first tap with which outputs of this remainder see an input rather than a gap."""
    return next((k for k in range(window) if (remainder + k * dilation - pads[0]) % gap == 0), None)


def _between_each_other(phases: list[Array], gaps: tuple[int, ...], positions: tuple[int, ...]) -> Array:
    """The array of which each phase is every gap-th position, along all axes."""
    b, *rows, c = phases[0].shape
    for axis, gap in reversed(list(enumerate(gaps))):
        phases = [jnp.stack(phases[i : i + gap], axis + 2) for i in range(0, len(phases), gap)]
    y = phases[0].reshape(b, *(row * gap for row, gap in zip(rows, gaps, strict=True)), c)
    return lax.slice(y, (0,) * y.ndim, (b, *positions, c))


def _transposed(geometry: Geometry) -> Geometry:
    """The geometry of the correlation that computes the gradient of the inputs: its inputs are the cotangent, its outputs the inputs."""
    pads = []
    for n, span, s, (before, _), gap, g in zip(
        geometry.space, geometry.spans, geometry.stride, geometry.pads, geometry.input_dilation, geometry.positions, strict=True
    ):
        reach = span - 1 - before
        pads.append((reach, (n - 1) * gap + span - reach - (g - 1) * s - 1))
    return Geometry(
        geometry.positions, geometry.window, geometry.input_dilation, tuple(pads), geometry.stride, geometry.dilation, geometry.groups
    )


def _exchanged(kernel: Array, groups: int) -> Array:
    """[*window, c_in / groups, c_out] -> [*window, c_out / groups, c_in]: each group's two axes of channels exchanged."""
    *window, c_in, c_out = kernel.shape
    grouped = kernel.reshape(*window, c_in, groups, c_out // groups)
    return jnp.moveaxis(grouped, -1, -3).swapaxes(-1, -2).reshape(*window, c_out // groups, groups * c_in)


def _cut(inputs: Array, geometry: Geometry) -> tuple[Array, Geometry]:
    """Inputs without what negative paddings cut off, nor what no window reaches."""
    ends = [
        (p - 1) * s + span - before
        for p, s, span, (before, _) in zip(geometry.positions, geometry.stride, geometry.spans, geometry.pads, strict=True)
    ]
    starts = [min(max(-before, 0), n) for n, (before, _) in zip(geometry.space, geometry.pads, strict=True)]
    limits = [max(min(end, n), start) for end, n, start in zip(ends, geometry.space, starts, strict=True)]
    pads = tuple((max(before, 0), max(end - n, 0)) for (before, _), end, n in zip(geometry.pads, ends, geometry.space, strict=True))
    inputs = lax.slice(inputs, (0, *starts, 0), (inputs.shape[0], *limits, inputs.shape[-1]))
    return inputs, geometry._replace(space=tuple(inputs.shape[1:-1]), pads=pads)


def _taps(inputs: Array, geometry: Geometry) -> list[Array]:
    """What each tap of the window sees at all positions, in row-major order."""
    walk = Walk(geometry.window, geometry.stride, geometry.dilation)
    return taps_by_rows(padded(inputs, in_whole_strides(geometry.pads, geometry.space, walk), 0.0), walk)


def _rows(images: Array) -> Array:
    """Positions of all examples as rows of channels."""
    return images.reshape(-1, images.shape[-1])


def _laid_out(inputs: Array, cotangent: Array, geometry: Geometry) -> Array:
    """XLA's convolution with channels in the place of examples and the cotangent in that of the kernel, whose stride is its dilation."""
    n, letters = len(geometry.window), native_conv.SPATIAL[len(geometry.window)]
    pads = [
        (before, (k - 1) * d + (p - 1) * s + 1 - size - before)
        for k, d, p, s, size, (before, _) in zip(
            geometry.window, geometry.dilation, geometry.positions, geometry.stride, geometry.space, geometry.pads, strict=True
        )
    ]
    by_channel = lax.conv_general_dilated(
        inputs.transpose(n + 1, *range(1, n + 1), 0),
        cotangent.transpose(*range(1, n + 1), 0, n + 1),
        window_strides=geometry.dilation,
        padding=pads,
        rhs_dilation=geometry.stride,
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
    )
    return by_channel.transpose(*range(1, n + 1), 0, n + 1)
