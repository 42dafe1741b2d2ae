"""How each operation changes what its results see of the input: one rule an operation, for `receptive_field.py`."""

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import reduce
from typing import NamedTuple


class Along(NamedTuple):
    """An array axis that runs along spatial axis `space` of the input: its index i sees [low + i·jump, high + i·jump].

    >>> Along(0, jump=Fraction(2), low=Fraction(-1), high=Fraction(1)).size
    3
    """

    space: int
    jump: Fraction
    low: Fraction
    high: Fraction

    @property
    def size(self) -> int:
        """How many positions one index sees, at most."""
        return math.ceil(self.high - self.low) + 1

    def shifted(self, by: Fraction | int) -> "Along":
        """Returns the axis whose index 0 is this one's index `by`."""
        return self._replace(low=self.low + by * self.jump, high=self.high + by * self.jump)


class Field(NamedTuple):
    """What an array sees.

    Attributes:
      axes: for each array axis what it runs along, None where it is no spatial axis.
      fixed: for each spatial axis of the input an interval that every position of the array sees as well, as after
        global pooling.
      origin: what the array sees whose values these are, where they were only cut out, turned round or repeated.
    """

    axes: tuple[Along | None, ...]
    fixed: Mapping[int, tuple[Fraction, Fraction]]
    origin: "Field | None" = None


# Joining and collapsing.


def _hull(a: tuple[Fraction, Fraction], b: tuple[Fraction, Fraction]) -> tuple[Fraction, Fraction]:
    return min(a[0], b[0]), max(a[1], b[1])


def _fix(fixed: Mapping[int, tuple[Fraction, Fraction]], along: Along, size: int) -> dict[int, tuple[Fraction, Fraction]]:
    """`fixed` and all that the `size` positions of an axis see."""
    last = along.shifted(max(size - 1, 0))
    span = _hull((along.low, along.high), (last.low, last.high))
    return {**fixed, along.space: _hull(fixed[along.space], span) if along.space in fixed else span}


def _join(a: Field, b: Field, shape: tuple[int, ...]) -> Field:
    """What an array sees that depends on two of one shape, position by position."""
    fixed = dict(a.fixed)
    for space, span in b.fixed.items():
        fixed[space] = _hull(fixed[space], span) if space in fixed else span
    axes: list[Along | None] = []
    for x, y, size in zip(a.axes, b.axes, shape, strict=True):
        if x is None or y is None:
            axes.append(x or y)
        elif (x.space, x.jump) == (y.space, y.jump):
            axes.append(x._replace(low=min(x.low, y.low), high=max(x.high, y.high)))
        else:  # two rhythms on one axis: no single jump describes it
            fixed = _fix(_fix(fixed, x, size), y, size)
            axes.append(None)
    return Field(tuple(axes), fixed)


def _collapsed(field: Field, shape: tuple[int, ...], gone: Iterator[int]) -> dict[int, tuple[Fraction, Fraction]]:
    """The fixed part once the array axes `gone` are summed over."""
    return reduce(lambda fixed, i: _fix(fixed, field.axes[i], shape[i]) if field.axes[i] else fixed, gone, dict(field.fixed))


def _everything(field: Field, shape: tuple[int, ...]) -> dict[int, tuple[Fraction, Fraction]]:
    return _collapsed(field, shape, iter(range(len(shape))))


# One rule an operation: (equation, fields of its inputs, shape of its output) -> field.


def elementwise(eqn, seen, shape) -> Field:
    """Returns the field of an operation on positions; an axis of size one is seen by all positions it is spread over.

    Args:
      eqn: of a jaxpr.
      seen: the fields of its inputs, None for what does not depend on the network's input.
      shape: of its output.

    >>> import jax
    >>> eqn = jax.make_jaxpr(lambda x, y: x + y)(jax.numpy.ones(4), jax.numpy.ones(4)).eqns[0]
    >>> here, further = (Field((Along(0, Fraction(1), Fraction(at), Fraction(at)),), {}) for at in (0, 2))
    >>> elementwise(eqn, [here, further], (4,)).axes[0].size
    3
    """
    parts = []
    for field, atom in zip(seen, eqn.invars, strict=True):
        if field is not None:
            operand = atom.aval.shape
            spread = [i for i, n in enumerate(operand) if n != shape[i]] if operand else []
            axes = tuple(None if i in spread else a for i, a in enumerate(field.axes)) if operand else (None,) * len(shape)
            parts.append(Field(axes, _collapsed(field, operand, iter(spread))))
    return reduce(lambda a, b: _join(a, b, shape), parts)


def sees_all(eqn, seen, shape) -> Field:
    """Returns the field of an operation without a rule: every output may see whatever any input sees.

    Args:
      eqn, seen, shape: as in `elementwise`.

    >>> import jax
    >>> eqn = jax.make_jaxpr(jax.numpy.cumsum)(jax.numpy.ones(4)).eqns[0]
    >>> low, high = sees_all(eqn, [Field((Along(0, Fraction(1), Fraction(0), Fraction(0)),), {})], (4,)).fixed[0]
    >>> int(low), int(high)
    (0, 3)
    """
    spans = [Field((), _everything(f, atom.aval.shape)) for f, atom in zip(seen, eqn.invars, strict=True) if f]
    return Field((None,) * len(shape), reduce(lambda a, b: _join(a, b, ()), spans).fixed)


def _window(along: Along, size: int, stride: int, pad: int, dilation: int, input_dilation: int) -> Along:
    """A window that starts at i·stride − pad and has taps every `dilation`, over inputs that lie `input_dilation` apart."""
    first, last = Fraction(-pad, input_dilation), Fraction((size - 1) * dilation - pad, input_dilation)
    jump = along.jump
    ends = (along.low + first * jump, along.low + last * jump, along.high + first * jump, along.high + last * jump)
    return Along(along.space, jump * Fraction(stride, input_dilation), min(ends), max(ends))


def _correlation(eqn, seen, shape) -> Field:
    image, kernel = seen
    geometry = eqn.params["geometry"]
    if image is None or kernel is not None:
        return sees_all(eqn, seen, shape)
    rows = zip(image.axes[1:-1], geometry.window, geometry.stride, geometry.pads, geometry.dilation, geometry.input_dilation, strict=True)
    axes = [along and _window(along, k, s, before, d, gap) for along, k, s, (before, _), d, gap in rows]
    return Field((image.axes[0], *axes, None), _collapsed(image, eqn.invars[0].aval.shape, iter([len(shape) - 1])))


def _conv(eqn, seen, shape) -> Field:
    p = eqn.params
    image, kernel = seen
    numbers, window = p["dimension_numbers"], eqn.invars[1].aval.shape
    if image is None or kernel is not None:
        return sees_all(eqn, seen, shape)
    axes: list[Along | None] = [None] * len(shape)
    axes[numbers.out_spec[0]] = image.axes[numbers.lhs_spec[0]]
    for i, (source, target, tap) in enumerate(zip(numbers.lhs_spec[2:], numbers.out_spec[2:], numbers.rhs_spec[2:], strict=True)):
        along = image.axes[source]
        if along is not None:
            spacing = (p["rhs_dilation"][i], p["lhs_dilation"][i])
            axes[target] = _window(along, window[tap], p["window_strides"][i], p["padding"][i][0], *spacing)
    return Field(tuple(axes), _collapsed(image, eqn.invars[0].aval.shape, iter([numbers.lhs_spec[1]])))


def _reduce_window(eqn, seen, shape) -> Field:
    p = eqn.params
    rows = zip(p["window_dimensions"], p["window_strides"], p["padding"], p["window_dilation"], p["base_dilation"], strict=True)
    axes = [a and _window(a, k, s, pad[0], d, gap) for a, (k, s, pad, d, gap) in zip(seen[0].axes, rows, strict=True)]
    return Field(tuple(axes), seen[0].fixed)


def _windowed(eqn, seen, shape) -> Field:
    geometry = eqn.params["geometry"]
    rows = zip(seen[0].axes[1:-1], geometry.window, geometry.stride, geometry.pads, geometry.dilation, strict=True)
    axes = [along and _window(along, k, s, before, d, 1) for along, k, s, (before, _), d in rows]
    return Field((seen[0].axes[0], *axes, seen[0].axes[-1]), seen[0].fixed)


def _reduction(eqn, seen, shape) -> Field:
    gone = set(eqn.params.get("axes", eqn.params.get("dimensions")))  # the name of a squeeze
    axes = tuple(a for i, a in enumerate(seen[0].axes) if i not in gone)
    return Field(axes, _collapsed(seen[0], eqn.invars[0].aval.shape, iter(sorted(gone))))


def _dot(eqn, seen, shape) -> Field:
    (contracted, batched) = eqn.params["dimension_numbers"]
    parts = []
    for side, (field, atom) in enumerate(zip(seen, eqn.invars, strict=True)):
        operand = atom.aval.shape
        free = [i for i in range(len(operand)) if i not in (*contracted[side], *batched[side])]
        if field is None:
            parts.append((len(free), None))
            continue
        fixed = _collapsed(field, operand, iter(contracted[side]))
        parts.append((len(free), ([field.axes[i] for i in batched[side]], [field.axes[i] for i in free], fixed)))
    fields = []
    for side, (_, part) in enumerate(parts):
        if part is not None:
            batch, free, fixed = part
            blank = [None] * parts[1 - side][0]
            fields.append(Field((*batch, *(free + blank if side == 0 else blank + free)), fixed))
    return reduce(lambda a, b: _join(a, b, shape), fields)


def _broadcast(eqn, seen, shape) -> Field:
    axes: list[Along | None] = [None] * len(shape)
    fixed = dict(seen[0].fixed)
    operand = eqn.invars[0].aval.shape
    for i, target in enumerate(eqn.params["broadcast_dimensions"]):
        along = seen[0].axes[i]
        if along is not None and operand[i] != shape[target]:
            fixed = _fix(fixed, along, operand[i])
        else:
            axes[target] = along
    return Field(tuple(axes), fixed, seen[0].origin or seen[0])


def _reshape(eqn, seen, shape) -> Field:
    """An axis lives on where as many elements come before it and it is as long; else all it sees is seen by all."""
    field, operand = seen[0], eqn.invars[0].aval.shape
    axes: list[Along | None] = [None] * len(shape)
    fixed, free = dict(field.fixed), 0  # the first axis of the result that no earlier axis has become
    for i, along in enumerate(field.axes):
        ahead = math.prod(operand[:i])
        target = next((j for j in range(free, len(shape)) if shape[j] == operand[i] and math.prod(shape[:j]) == ahead), None)
        if target is not None:
            axes[target], free = along, target + 1
        elif along is not None:
            fixed = _fix(fixed, along, operand[i])
    same = [n for n in operand if n != 1] == [n for n in shape if n != 1]
    return Field(tuple(axes), fixed, (field.origin or field) if same else None)


def _slice(eqn, seen, shape) -> Field:
    starts, strides = eqn.params["start_indices"], eqn.params["strides"] or (1,) * len(shape)
    axes = [a and a.shifted(b)._replace(jump=a.jump * s) for a, b, s in zip(seen[0].axes, starts, strides, strict=True)]
    return Field(tuple(axes), seen[0].fixed, seen[0].origin or seen[0])


def _pad(eqn, seen, shape) -> Field:
    if seen[0] is None:
        return sees_all(eqn, seen, shape)
    # jnp.pad leaves NumPy's integers there, which JSON does not know.
    rows = zip(seen[0].axes, (map(int, pads) for pads in eqn.params["padding_config"]), strict=True)
    return Field(tuple(a and _window(a, 1, 1, low, 1, between + 1) for a, (low, _, between) in rows), seen[0].fixed)


def _concatenate(eqn, seen, shape) -> Field:
    """Joined parts. Short ones of the same array beside a long one are its border (reflected, circular …): padding, not a view."""
    axis, offset, parts = eqn.params["dimension"], 0, []
    for field, atom in zip(seen, eqn.invars, strict=True):
        size = atom.aval.shape[axis]
        if field is not None and size:
            axes = list(field.axes)
            axes[axis] = axes[axis] and axes[axis].shifted(-offset)
            parts.append((size, Field(tuple(axes), field.fixed, field.origin or field)))
        offset += size
    longest, main = max(parts, key=lambda part: part[0])
    if all(part.origin is main.origin for _, part in parts) and main.axes[axis] is not None and 2 * longest > shape[axis]:
        return main
    return reduce(lambda a, b: _join(a, b, shape), (field for _, field in parts))


def _reverse(eqn, seen, shape) -> Field:
    turned = set(eqn.params["dimensions"])
    rows = enumerate(zip(seen[0].axes, shape, strict=True))
    axes = [a.shifted(n - 1)._replace(jump=-a.jump) if a and i in turned else a for i, (a, n) in rows]
    return Field(tuple(axes), seen[0].fixed, seen[0].origin or seen[0])


# What an operation's output sees, by the name of its primitive: (what its inputs see, its parameters) -> what it sees.
RULES: dict[str, Callable[..., Field]] = {
    "correlation": _correlation,  # ours
    **dict.fromkeys(("window_maximum", "window_sum"), _windowed),  # ours, where the extension is loaded
    "conv_general_dilated": _conv,  # jax's, which networks from elsewhere use
    "dot_general": _dot,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "slice": _slice,
    "pad": _pad,
    "concatenate": _concatenate,
    "rev": _reverse,
    "squeeze": _reduction,
    "transpose": lambda eqn, seen, shape: Field(tuple(seen[0].axes[i] for i in eqn.params["permutation"]), seen[0].fixed),
    **dict.fromkeys(("reduce_window", "reduce_window_sum", "reduce_window_max", "reduce_window_min"), _reduce_window),
    **dict.fromkeys(("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_or", "reduce_and", "argmax", "argmin"), _reduction),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "sort"), sees_all),
}
