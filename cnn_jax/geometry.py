"""What windows a convolution or a pooling moves over its input: as text, and how many positions they read."""

import math
from collections.abc import Sequence
from functools import partial

from cnn_jax.layers import Conv, ConvTranspose
from cnn_jax.ops.arithmetic import Axis, real_taps
from cnn_jax.ops.conv import transposed_padding
from cnn_jax.ops.padding import explicit_padding, per_axis
from cnn_jax.receptive_field import Record


def conv_geometry(module: Conv | ConvTranspose, sizes: tuple[int, ...], outputs: tuple[int, ...]) -> tuple[str, int]:
    """Returns the text for a convolution, and the pairs of an output position and an input position that it reads.

    Args:
      sizes, outputs: of its input and its output, one for each spatial axis.

    Raises:
      ValueError: the module does not take inputs of these sizes.

    >>> conv_geometry(Conv(8, (3, 3), stride=2), (6, 6), (3, 3))
    ('3×3 /2 pad 0,1', 64)
    """
    window, n = tuple(module.window), len(sizes)
    stride, dilation = per_axis(module.stride, n, "stride"), per_axis(module.dilation, n, "dilation")
    text = partial(_text, window, stride, groups=module.groups, dilation=dilation)
    if isinstance(module, ConvTranspose):  # a convolution of spread inputs
        cut = transposed_padding(module.padding, sizes, window, stride, dilation)
        pads = [((k - 1) * d - before, (k - 1) * d - after) for k, d, (before, after) in zip(window, dilation, cut, strict=True)]
        axes = map(Axis, sizes, window, (1,) * n, dilation, outputs, pads, stride)
        return text(cut, extra=per_axis(module.output_padding, n, "output_padding", least=0)), _num_pairs(axes)
    gaps = per_axis(module.input_dilation, n, "input_dilation")
    spread = tuple((size - 1) * gap + 1 for size, gap in zip(sizes, gaps, strict=True))
    pads = explicit_padding(module.padding, spread, window, stride, dilation)
    axes = map(Axis, sizes, window, stride, dilation, outputs, pads, gaps, (module.border,) * n)
    return text(pads, border=module.border, gaps=gaps), _num_pairs(axes)


def pool_geometry(kind: str, records: Sequence[Record]) -> tuple[str, int]:
    """Returns the text for a pooling, and the pairs of an output position and an input position that it reads.

    Padding is told from the output: what no window reaches is taken to be like that before.

    Args:
      kind: the pooling's name.
      records: its operations.

    >>> import jax
    >>> from cnn_jax.ops.pool import max_pool
    >>> from cnn_jax.receptive_field import trace_fields
    >>> images = jax.ShapeDtypeStruct((1, 8, 8, 1), "float32")
    >>> pool_geometry("max_pool", trace_fields(lambda _, x: max_pool(x, 2, dilation=3), None, images))
    ('2×2 /2 dilated 3', 36)
    """
    first, last = records[0], records[-1]
    sizes, outputs = first.source_shape[1:-1], last.shape[1:-1]
    axes = _pool_axes(records)
    if axes:
        window, stride, dilation = ([getattr(axis, name) for axis in axes] for name in ("window", "stride", "dilation"))
        pads = [_whole_pads(axis) for axis in axes]
        return _text(window, stride, pads, dilation=dilation, border=axes[0].border), _num_pairs(axes)
    if kind.startswith("adaptive"):
        rows = zip(sizes, outputs, strict=True)
        return "bins", math.prod(sum(-(-(i + 1) * n // m) - i * n // m for i in range(m)) for n, m in rows)
    return "all", math.prod(sizes)


def _pool_axes(records: Sequence[Record]) -> list[Axis]:
    """A pooling's windows, told from how the field has changed; nothing where space is gone or pooled in parts."""
    source, sizes, last = records[0].source, records[0].source_shape[1:-1], records[-1]
    before, after = (tuple(a for a in field.axes if a) for field in (source, last.field))
    if len(before) != len(sizes) or len(before) != len(after):
        return []
    dilations = [r.params["window_dilation"][1:-1] for r in records if "window_dilation" in r.params]  # XLA's
    dilations += [r.params["geometry"].dilation for r in records if "geometry" in r.params]  # ours
    border, axes = _border_of(records), []
    for a, b, n, m, *dilation in zip(after, before, sizes, last.shape[1:-1], (1,) * len(sizes), *dilations, strict=True):
        d, stride, span = max(dilation), int(a.jump / b.jump), int((a.high - a.low - b.high + b.low) / abs(b.jump)) + 1
        pad = int((b.low - a.low if b.jump > 0 else b.high - a.high) / b.jump)
        needed = max((m - 1) * stride + span - n - pad, 0)
        axes.append(Axis(n, (span - 1) // d + 1, stride, d, m, (pad, needed), 1, border))
    return axes


def _border_of(records: Sequence[Record]) -> str:
    """Which border a pooling has: NumPy's padding joins reversed parts, spread values or merely parts."""
    names = {r.primitive for r in records}
    if "concatenate" not in names:
        return "zeros"
    return "reflect" if "rev" in names else "replicate" if "broadcast_in_dim" in names else "circular"


def _whole_pads(axis: Axis) -> tuple[int, int]:
    """Padding with the end that no window reaches, where as much after as before gives the same output."""
    before, after = axis.pads
    places = (axis.size + 2 * before - (axis.window - 1) * axis.dilation - 1) // axis.stride + 1
    return (before, before) if before > after and places == axis.outputs else axis.pads


def _num_pairs(axes) -> int:
    return math.prod(real_taps(axis) for axis in axes)


def _text(window, stride, pads, *, groups: int = 1, dilation=(1,), border: str = "zeros", gaps=(1,), extra=(0,)) -> str:
    """Window, stride and the rest as text, defaults left out.

    >>> _text((7, 7), (2, 2), [(3, 3), (3, 3)])
    '7×7 /2 pad 3'
    >>> _text((3, 3), (2, 2), [(0, 1), (0, 1)], border="reflect")
    '3×3 /2 pad 0,1 reflect'
    """

    def short(values) -> str:
        return str(values[0]) if len(set(values)) == 1 else "×".join(map(str, values))

    parts = ["×".join(map(str, window))]
    parts += [f"/{short(stride)}"] if max(stride) > 1 else []
    if any(map(any, pads)):
        parts += ["pad " + short([str(before) if before == after else f"{before},{after}" for before, after in pads])]
        parts += [border] if border != "zeros" else []
    parts += [f"output pad {short(extra)}"] if any(extra) else []
    parts += [f"dilated {short(dilation)}"] if max(dilation) > 1 else []
    parts += [f"input dilated {short(gaps)}"] if max(gaps) > 1 else []
    parts += [f"in {groups} groups"] if groups > 1 else []
    return " ".join(parts)
