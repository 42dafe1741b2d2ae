"""A network taken apart: one row a layer, with shapes, counts, costs and what it sees of the input. Computes no numbers."""

import math
import reprlib
from collections import Counter
from collections.abc import Iterable
from functools import partial
from itertools import count, groupby
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from cnn_jax.errors import nearest
from cnn_jax.field_rules import Along, Field
from cnn_jax.geometry import conv_geometry, pool_geometry
from cnn_jax.layers import Conv, ConvTranspose
from cnn_jax.ops import adaptive_pool, blur_pool, pool
from cnn_jax.ops.arguments import check_each_axis
from cnn_jax.receptive_field import Record, trace_fields
from cnn_jax.types import PyTree

_POOLS = frozenset(name for module in (pool, adaptive_pool, blur_pool) for name in vars(module) if name.endswith("_pool"))
_MARK = "layer "


class Layer(NamedTuple):
    """A module with parameters of its own, or a pooling. All counts are for one example.

    Attributes:
      path: the module's place in the network; for a pooling, that of the module that pools, and "max_pool" or the like, numbered from 1
        where a module has several: "max_pool_1", "max_pool_2".
      geometry: window, stride and what else is not the default, as text: "7×7 /2 pad 3", or "pad 0,1" where padding before and after
        differ; of a pooling, padding that no window reaches is taken to be like that before.
      neurons: output values of a layer that computes something anew (convolution, dense, pooling), else 0.
      connections: pairs of a neuron and an input value or bias it reads; zeros of padding are not read.
      macs: multiply-adds, padding included, as papers count. A FLOP count is twice that.
      activation_bytes: of the output.
      field, jump, start: for each spatial axis, the positions of the input that one output sees, how far the next output's
        field lies, and where output 0's begins (negative: in the padding). Empty where the output has no spatial axes.
      sees_all: a global pooling lies on the way: each output also depends on all positions that it covers.
    """

    path: str
    kind: str
    geometry: str
    output_shape: tuple[int, ...]
    num_params: int
    neurons: int
    connections: int
    macs: int
    activation_bytes: int
    field: tuple[int, ...]
    jump: tuple[float, ...]
    start: tuple[float, ...]
    sees_all: bool


class _Call(NamedTuple):
    """A module as it was called."""

    module: nn.Module
    path: tuple[str, ...]
    input_shape: tuple[int, ...]


class _Step(NamedTuple):
    """A module that was called, or a pooling, and its operations; of a module, the one that marks its output."""

    path: str
    call: _Call | None
    records: tuple[Record, ...]


def anatomy(model: nn.Module, input_shape: tuple[int, ...]) -> list[Layer]:
    """Returns the model's layers in the order they are computed at inference, for one example of `input_shape` [*space, c].

    Raises:
      ValueError: the model is no Linen module, or does not take inputs of that shape.

    >>> from cnn_jax.models.lenet import LeNet5Modern
    >>> [(layer.path, layer.num_params) for layer in anatomy(LeNet5Modern(num_outputs=10), (32, 32, 1))][:4]
    [('conv1', 156), ('max_pool_1', 0), ('conv2', 2416), ('max_pool_2', 0)]
    """
    records, calls, params = _trace(model, input_shape)
    steps = [(step, {} if step.call is None else _own_params(params, step.call.path)) for step in _steps(records, calls)]
    return [_module_layer(step, own) if own else _pool_layer(step) for step, own in steps if own or step.call is None]


def field_of(model: nn.Module, input_shape: tuple[int, ...], path: str) -> tuple[Along, ...]:
    """Returns what one output of the module or pooling at `path` sees along each spatial axis of the input.

    Args:
      input_shape: of one example, [*space, c].
      path: of a module, such as "stage2_block1/conv1", or of a pooling, as `anatomy` names it.

    Raises:
      ValueError: the model has no layer of that path (offers the nearest, then all); else as `anatomy`.

    >>> from cnn_jax.models.lenet import LeNet5
    >>> [along.size for along in field_of(LeNet5(num_outputs=10), (32, 32, 1), "c3")]
    [14, 14]
    """
    records, calls, _ = _trace(model, input_shape)
    fields = {step.path: step.records[-1].field for step in _steps(records, calls) if step.path}
    if path in fields:
        return _along(fields[path])
    close = nearest(str(path), list(fields))
    raise ValueError(f"the model has no layer {path!r}{f' (did you mean {close[0]}?)' if close else ''}; it has {', '.join(fields)}")


def _trace(model: nn.Module, input_shape: tuple[int, ...]) -> tuple[list[Record], list[_Call], PyTree]:
    """The operations of a forward pass, the modules whose outputs are marked among them, and the parameters' shapes."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model={reprlib.repr(model)} must be a Linen module, such as resnet8(num_outputs=10)")
    check_each_axis("input_shape", input_shape)
    images = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    calls: list[_Call] = []

    def mark(next_fun, args, kwargs, context):
        result = next_fun(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(result, jax.Array):
            calls.append(_Call(context.module, context.module.path, args[0].shape))
            result = checkpoint_name(result, f"{_MARK}{len(calls) - 1}")
        return result

    def forward(variables, images):
        with nn.intercept_methods(mark):
            return model.apply(variables, images, train=False)

    return trace_fields(forward, variables, images), calls, variables.get("params", {})


def _steps(records: list[Record], calls: list[_Call]) -> list[_Step]:
    """The modules called and the poolings, in order."""
    steps: list[_Step] = []
    for path, run in groupby((r for r in records if r.field is not None), key=_pool_path):  # constants say nothing, wherever they stand
        if path is None:
            marks = [r for r in run if r.primitive == "name" and r.params["name"].startswith(_MARK)]
            called = [calls[int(r.params["name"].removeprefix(_MARK))] for r in marks]
            steps += [_Step("/".join(call.path), call, (record,)) for call, record in zip(called, marks, strict=True)]
        else:
            steps += [_Step(path, None, part) for part in _apart(path, run)]
    times = Counter(step.path for step in steps if step.call is None)
    number = {path: count(1) for path, several in times.items() if several > 1}
    return [s._replace(path=f"{s.path}_{next(number[s.path])}") if s.call is None and s.path in number else s for s in steps]


def _apart(path: str, run: Iterable[Record]) -> list[tuple[Record, ...]]:
    """The operations of each of several poolings in a row: all but the blurred ones pad once, before they look."""
    parts: list[tuple[Record, ...]] = [()]
    for record in run:
        padded = record.primitive == "pad" and "blur" not in path and any(r.primitive == "pad" for r in parts[-1])
        parts = [*parts, (record,)] if padded else [*parts[:-1], (*parts[-1], record)]
    return parts


def _pool_path(record: Record) -> str | None:
    """Where the pooling function stands that this operation is part of; the outermost scope is the model's class."""
    parts = record.scope.split("/")
    place = next((i for i, part in enumerate(parts) if part in _POOLS), None)
    return None if place is None else "/".join(parts[1 : place + 1])


def _pool_layer(step: _Step) -> Layer:
    last = step.records[-1]
    shape, kind = last.shape[1:], _pool_path(last).rpartition("/")[2]
    geometry, num_pairs = pool_geometry(kind, step.records)
    return Layer(step.path, kind, geometry, shape, 0, math.prod(shape), num_pairs * shape[-1], 0, *_outcome(last))


def _module_layer(step: _Step, own: dict[str, Any]) -> Layer:
    module, (record,) = step.call.module, step.records
    shape = record.shape[1:]
    weights = sum(p.size for name, p in own.items() if name.startswith("kernel"))
    num_params = sum(p.size for p in own.values())
    neurons = math.prod(shape) if weights else 0
    macs = weights * math.prod(shape[:-1])  # a kernel is applied at every output position, once for each of its weights
    connections, geometry = macs, ""
    if isinstance(module, Conv | ConvTranspose):
        sizes = step.call.input_shape[1:-1]
        if isinstance(module, ConvTranspose):  # its taps fall from an input position onto the output
            macs = weights * math.prod(sizes)
        geometry, num_pairs = conv_geometry(module, sizes, shape[:-1])
        connections = num_pairs * (weights // math.prod(module.window))
    connections += neurons if "bias" in own else 0
    return Layer(step.path, type(module).__name__, geometry, shape, num_params, neurons, connections, macs, *_outcome(record))


def _outcome(record: Record) -> tuple[int, tuple[int, ...], tuple[float, ...], tuple[float, ...], bool]:
    """Bytes, field, jump, start and whether everything is seen, of an output."""
    num_bytes = math.prod(record.shape[1:]) * record.dtype.itemsize
    along = _along(record.field)
    return (
        num_bytes,
        tuple(a.size for a in along),
        tuple(_plain(a.jump) for a in along),
        tuple(_plain(a.low) for a in along),
        bool(record.field.fixed),
    )


def _along(field: Field) -> tuple[Along, ...]:
    return tuple(sorted((a for a in field.axes if a), key=lambda a: a.space))


def _plain(value) -> float:
    return int(value) if value == int(value) else float(value)


def _own_params(params: PyTree, path: tuple[str, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    for name in path:
        params = params.get(name, {})
    return {name: p for name, p in params.items() if not isinstance(p, dict)}
