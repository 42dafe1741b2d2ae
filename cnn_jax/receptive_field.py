"""What each position of each layer can see of the input: the theoretical receptive field, read off the traced program.

A field is an interval along each spatial axis of the input. The output at index i of an axis sees, at most, the positions
low + i·jump to high + i·jump. Following these three numbers through every operation of a program needs no table of layers:
branches, poolings written as functions, padding, transposed and dilated convolutions all come out by themselves.

Reference: Araujo et al., "Computing receptive fields of convolutional neural networks", 2019.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal

from cnn_jax.field_rules import RULES, Along, Field, elementwise, sees_all


class Record(NamedTuple):
    """One operation of the traced program.

    Attributes:
      scope: the named scopes it stands in, joined by "/".
      shape, dtype: of its result.
      field: what its result sees; None where it does not depend on the input.
      source_shape, source: the same of the first operand that depends on the input.
    """

    scope: str
    primitive: str
    params: Mapping[str, Any]
    shape: tuple[int, ...]
    dtype: Any
    field: Field | None
    source_shape: tuple[int, ...]
    source: Field | None


def trace_fields(function: Callable[..., Any], constants: Any, inputs: jax.ShapeDtypeStruct) -> list[Record]:
    """Returns a record for each operation of `function(constants, inputs)`, in order. Computes no numbers.

    Args:
      inputs: the shape [b, *space, c] of what fields are measured in.

    >>> from cnn_jax.ops.pool import max_pool
    >>> shape = jax.ShapeDtypeStruct((1, 8, 1), jax.numpy.float32)
    >>> along = trace_fields(lambda _, x: max_pool(max_pool(x, 2), 2), None, shape)[-1].field.axes[1]
    >>> along.size, int(along.jump)
    (4, 4)
    """
    closed = jax.make_jaxpr(function)(constants, inputs)
    num_space = len(inputs.shape) - 2
    start = Field((None, *(Along(d, Fraction(1), Fraction(0), Fraction(0)) for d in range(num_space)), None), {})
    fields = [None] * (len(closed.jaxpr.invars) - 1) + [start]
    records: list[Record] = []
    _walk(closed.jaxpr, fields, "", records)
    return records


def _walk(jaxpr, fields: list[Field | None], scope: str, records: list[Record]) -> list[Field | None]:
    known = dict(zip(jaxpr.invars, fields, strict=True))

    def look(atom) -> Field | None:
        return None if isinstance(atom, Literal) else known.get(atom)

    for eqn in jaxpr.eqns:
        here = "/".join(part for part in (scope, str(eqn.source_info.name_stack)) if part)
        seen = [look(atom) for atom in eqn.invars]
        inner = _inner(eqn.params)
        if not any(seen):
            results: list[Field | None] = [None] * len(eqn.outvars)
        elif inner is not None and len(inner.invars) == len(seen):
            results = _walk(inner, seen, here, records)
        else:
            rule = RULES.get(eqn.primitive.name, elementwise if _same_shapes(eqn) else sees_all)
            results = [rule(eqn, seen, out.aval.shape) for out in eqn.outvars]
        known.update(zip(eqn.outvars, results, strict=True))
        if inner is None:
            out = eqn.outvars[0].aval
            source_shape, source = next(((a.aval.shape, f) for a, f in zip(eqn.invars, seen, strict=True) if f), ((), None))
            made = (tuple(out.shape), getattr(out, "dtype", None), results[0])
            records.append(Record(here, eqn.primitive.name, eqn.params, *made, source_shape, source))
    return [look(atom) for atom in jaxpr.outvars]


def _inner(params: Mapping[str, Any]):
    """The program inside a call (pjit, custom_jvp, custom_vjp, remat); loops and branches are not calls."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if name in params and "length" not in params:
            return getattr(params[name], "jaxpr", params[name])
    return None


def _same_shapes(eqn) -> bool:
    """Whether the operation can be one on positions: all shapes equal, but for scalars and axes of size one."""
    result = eqn.outvars[0].aval.shape
    shapes = [atom.aval.shape for atom in (*eqn.invars, *eqn.outvars)]
    return all(s == () or (len(s) == len(result) and all(a in (1, b) for a, b in zip(s, result, strict=True))) for s in shapes)
