"""What lies beyond the border: how much of it a window needs, and what its values are."""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Shaped

from cnn_jax.errors import nearest
from cnn_jax.ops.arguments import check_array, check_word, is_several, is_whole

PerAxis = int | Sequence[int]  # one number for all spatial axes, or one for each
Padding = str | int | Sequence[int | tuple[int, int]]  # what `explicit_padding` takes
Border = Literal["zeros", "reflect", "replicate", "circular"]  # what stands beyond an image's edge

# torch's names -> jnp.pad's.
BORDERS = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def per_axis(value: PerAxis, num_space: int, name: str, *, least: int = 1) -> tuple[int, ...]:
    """Returns one number for each spatial axis.

    Raises:
      ValueError: there are more or fewer numbers than axes, or one is no integer or below `least`; names `name`.

    >>> per_axis(2, 3, "stride")
    (2, 2, 2)
    """
    values = tuple(value) if is_several(value) else (value,) * num_space
    if len(values) != num_space:
        raise ValueError(f"{name}={value} has {len(values)} number(s) for {num_space} spatial axes: give one for all, or one for each")
    if not all(is_whole(v) and v >= least for v in values):
        raise ValueError(f"{name}={value!r} must be whole numbers of at least {least}")
    return values


def explicit_padding(
    padding: Padding, sizes: Sequence[int], window: Sequence[int], stride: Sequence[int], dilation: Sequence[int] | None = None
) -> list[tuple[int, int]]:
    """Returns (before, after) for each spatial axis.

    Args:
      padding: "VALID", none; "SAME", so much that ⌈size / stride⌉ windows fit, the odd one after; "CAUSAL", all before (1-D),
        so that no output sees what comes later; a number for both sides of each axis (torch's meaning); or one such
        number or (before, after) pair for each axis.
      sizes, window, stride, dilation: one number for each axis.

    Raises:
      ValueError: an unknown word, a negative number, or another count of axes.

    >>> explicit_padding("SAME", (7, 8), (3, 3), (2, 2))
    [(1, 1), (0, 1)]
    >>> explicit_padding("CAUSAL", (5,), (3,), (1,), (2,))
    [(4, 0)]
    """
    dilation = (1,) * len(sizes) if dilation is None else dilation
    if not len(sizes) == len(window) == len(stride) == len(dilation):
        given = f"window={tuple(window)}, stride={tuple(stride)} and dilation={tuple(dilation)}"
        raise ValueError(f"{given} must have one number for each axis of {tuple(sizes)}")
    per_axis(tuple(window), len(sizes), "window")
    reach = [(k - 1) * d for k, d in zip(window, dilation, strict=True)]
    if isinstance(padding, str):
        word = padding.upper()
        if word == "VALID":
            return [(0, 0)] * len(sizes)
        if word == "SAME":
            needed = [max((-(-n // s) - 1) * s + r + 1 - n, 0) for n, s, r in zip(sizes, stride, reach, strict=True)]
            return [(p // 2, p - p // 2) for p in needed]
        if word == "CAUSAL":
            if len(sizes) != 1:
                raise ValueError(f"padding='CAUSAL' is for one spatial axis (time), not for {len(sizes)}")
            return [(reach[0], 0)]
        close = nearest(word, ["VALID", "SAME", "CAUSAL"])
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(f"padding={padding!r} is unknown{meant}: VALID, SAME, CAUSAL, a number, or numbers or pairs for each axis")
    return _pairs("padding", padding, len(sizes))


def pad_space(
    inputs: Shaped[Array, "b *space c"], pads: Sequence[tuple[int, int]], *, border: Border = "zeros"
) -> Shaped[Array, "b *larger c"]:
    """Returns the inputs [b, *space, c] with a border of (before, after) positions added to each spatial axis.

    Args:
      border: its values: "zeros"; "reflect", mirrored about the outermost value; "replicate", that value again;
        "circular", the values from the other end. After a b c d come 0, c, d or a.

    Raises:
      ValueError: an unknown border; one that is wider than there are values to take it from.

    >>> pad_space(jnp.arange(3.0).reshape(1, 3, 1), [(1, 2)], border="reflect")[0, :, 0].tolist()
    [1.0, 0.0, 1.0, 2.0, 1.0, 0.0]
    """
    check_array("inputs", inputs)
    check_word("border", border, BORDERS)
    sizes = inputs.shape[1:-1]
    pads = _pairs("pads", pads, len(sizes))
    widest = {"reflect": -1, "circular": 0}.get(border)
    for size, pair in zip(sizes, pads, strict=True):
        if widest is not None and max(pair) > size + widest:
            raise ValueError(f"a {border} border of {pair} is too wide for {size} values: at most {size + widest}")
    if not any(p for pair in pads for p in pair):
        return inputs
    return jnp.pad(inputs, [(0, 0), *pads, (0, 0)], mode=BORDERS[border])


def _pairs(name: str, padding: int | Sequence[int | tuple[int, int]], num_space: int) -> list[tuple[int, int]]:
    entries = tuple(padding) if is_several(padding) else (padding,) * num_space
    if len(entries) != num_space:
        raise ValueError(f"{name}={padding} has {len(entries)} entries for {num_space} spatial axes: give one for each")
    pairs = [tuple(p) if is_several(p) else (p, p) for p in entries]
    if not all(len(pair) == 2 and all(is_whole(p) and p >= 0 for p in pair) for pair in pairs):
        raise ValueError(f"{name}={padding!r} must be whole numbers of at least 0, or (before, after) pairs of them")
    return pairs
