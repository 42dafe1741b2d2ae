"""A network taken apart: one row a layer, with shapes, counts, costs and what it sees of the input. Computes no numbers."""

import math
import reprlib
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from cnn_jax.errors import nearest
from cnn_jax.field_rules import Along, Field
from cnn_jax.layers import Conv, ConvTranspose
from cnn_jax.ops import adaptive_pool, blur_pool, pool
from cnn_jax.ops.arguments import check_each_axis
from cnn_jax.ops.arithmetic import real_taps
from cnn_jax.ops.padding import explicit_padding, per_axis
from cnn_jax.receptive_field import Record, trace_fields
from cnn_jax.types import PyTree

_POOLS = frozenset(name for module in (pool, adaptive_pool, blur_pool) for name in vars(module) if name.endswith("_pool"))
_MARK = "layer "


class Layer(NamedTuple):
    """A module with parameters of its own, or a pooling. All counts are for one example.

    Attributes:
      path: the module's place in the network; for a pooling, that of the module that pools, and "max_pool" or the like.
      geometry: window, stride and what else is not the default, as text: "7×7 /2 pad 3".
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


def anatomy(model: nn.Module, input_shape: tuple[int, ...]) -> list[Layer]:
    """Returns the model's layers in the order they are computed at inference, for one example of `input_shape` [*space, c].

    Raises:
      ValueError: the model is no Linen module, or does not take inputs of that shape.

    >>> from cnn_jax.models.lenet import LeNet5Modern
    >>> [(layer.path, layer.num_params) for layer in anatomy(LeNet5Modern(num_outputs=10), (32, 32, 1))][:4]
    [('conv1', 156), ('max_pool', 0), ('conv2', 2416), ('max_pool', 0)]
    """
    records, calls, params = _trace(model, input_shape)
    return list(_rows(records, calls, params))


def field_of(model: nn.Module, input_shape: tuple[int, ...], path: str) -> tuple[Along, ...]:
    """Returns what one output of the module at `path` sees along each spatial axis of the input.

    Args:
      input_shape: of one example, [*space, c].
      path: of a module, such as "stage2_block1/conv1".

    Raises:
      ValueError: the model has no module of that path (offers the nearest, then all); else as `anatomy`.

    >>> from cnn_jax.models.lenet import LeNet5
    >>> [along.size for along in field_of(LeNet5(num_outputs=10), (32, 32, 1), "c3")]
    [14, 14]
    """
    records, calls, _ = _trace(model, input_shape)
    for record in reversed(records):
        if record.primitive == "name" and "/".join(_call_of(record, calls).path) == path and record.field is not None:
            return tuple(sorted((a for a in record.field.axes if a), key=lambda a: a.space))
    known = list(dict.fromkeys("/".join(call.path) for call in calls if call.path))
    close = nearest(str(path), known)
    raise ValueError(f"the model has no layer {path!r}{f' (did you mean {close[0]}?)' if close else ''}; it has {', '.join(known)}")


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


def _call_of(record: Record, calls: list[_Call]) -> _Call:
    return calls[int(record.params["name"].removeprefix(_MARK))]


def _rows(records: list[Record], calls: list[_Call], params: PyTree) -> Iterator[Layer]:
    pooling: tuple[str, Record, Record] | None = None  # the path of the pooling we are in, its first record and its last
    for record in (r for r in records if r.field is not None):  # constants say nothing, wherever they stand
        path = _pool_path(record)
        if pooling is not None and path != pooling[0]:
            yield _pool_layer(*pooling)
            pooling = None
        if path is not None:
            pooling = (path, pooling[1] if pooling else record, record)
        elif record.primitive == "name" and record.params["name"].startswith(_MARK):
            call = _call_of(record, calls)
            own = _own_params(params, call.path)
            if own:
                yield _module_layer(call, own, record)
    if pooling is not None:
        yield _pool_layer(*pooling)


def _pool_path(record: Record) -> str | None:
    """Where the pooling function stands that this operation is part of; the outermost scope is the model's class."""
    parts = record.scope.split("/")
    place = next((i for i, part in enumerate(parts) if part in _POOLS), None)
    return None if place is None else "/".join(parts[1 : place + 1])


def _pool_layer(path: str, first: Record, last: Record) -> Layer:
    channels = last.shape[-1]
    window, stride, pads = _window_of(first.source, first.source_shape, last)
    kind = path.rpartition("/")[2]
    if not window:
        connections, geometry = math.prod(first.source_shape[1:]), "all"
    else:
        rows = zip(first.source_shape[1:-1], window, stride, last.shape[1:-1], pads, strict=True)
        connections = channels * math.prod(real_taps(n, k, s, 1, out, (pad, 0)) for n, k, s, out, pad in rows)
        geometry = _geometry(window, stride, pads)
    neurons = math.prod(last.shape[1:])
    return Layer(path, kind, geometry, last.shape[1:], 0, neurons, connections, 0, *_outcome(last))


def _window_of(source: Field, source_shape: tuple[int, ...], last: Record) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Window, stride and padding before, told from how the field has changed; nothing where space is gone or pooled in parts."""
    before, after = (tuple(a for a in field.axes if a) for field in (source, last.field))
    if len(before) != len(source_shape) - 2 or len(before) != len(after):
        return (), (), ()
    window = tuple(int((a.high - a.low - b.high + b.low) / b.jump) + 1 for a, b in zip(after, before, strict=True))
    stride = tuple(int(a.jump / b.jump) for a, b in zip(after, before, strict=True))
    return window, stride, tuple(int((b.low - a.low) / b.jump) for a, b in zip(after, before, strict=True))


def _module_layer(call: _Call, own: dict[str, Any], record: Record) -> Layer:
    module, shape = call.module, record.shape[1:]
    weights = sum(p.size for name, p in own.items() if name.startswith("kernel"))
    num_params = sum(p.size for p in own.values())
    neurons = math.prod(shape) if weights else 0
    macs = weights * math.prod(shape[:-1])  # a kernel is applied at every output position, once for each of its weights
    connections = macs
    geometry = ""
    if isinstance(module, Conv | ConvTranspose):
        sizes, outputs, n = call.input_shape[1:-1], shape[:-1], len(shape) - 1
        window, stride, dilation = tuple(module.window), per_axis(module.stride, n, "stride"), per_axis(module.dilation, n, "dilation")
        gap = per_axis(getattr(module, "input_dilation", 1), n, "input_dilation")
        spread = tuple((size - 1) * g + 1 for size, g in zip(sizes, gap, strict=True))
        if isinstance(module, ConvTranspose):  # its taps fall from an input position onto the output
            macs = weights * math.prod(sizes)
            geometry = _geometry(window, stride, (), module.groups, dilation)
            connections = macs
        else:
            pads = explicit_padding(module.padding, spread, window, stride, dilation)
            geometry = _geometry(window, stride, tuple(p for p, _ in pads), module.groups, dilation)
            if module.border == "zeros" and max(gap) == 1:
                rows = zip(sizes, window, stride, dilation, outputs, pads, strict=True)
                connections = math.prod(real_taps(*row) for row in rows) * (weights // math.prod(window))
    connections += neurons if "bias" in own else 0
    path, kind = "/".join(call.path), type(module).__name__
    return Layer(path, kind, geometry, shape, num_params, neurons, connections, macs, *_outcome(record))


def _outcome(record: Record) -> tuple[int, tuple[int, ...], tuple[float, ...], tuple[float, ...], bool]:
    """Bytes, field, jump, start and whether everything is seen, of an output."""
    num_bytes = math.prod(record.shape[1:]) * record.dtype.itemsize
    along: list[Along] = sorted((a for a in record.field.axes if a), key=lambda a: a.space)
    return (
        num_bytes,
        tuple(a.size for a in along),
        tuple(_plain(a.jump) for a in along),
        tuple(_plain(a.low) for a in along),
        bool(record.field.fixed),
    )


def _plain(value) -> float:
    return int(value) if value == int(value) else float(value)


def _geometry(window, stride, pads=(), groups: int = 1, dilation=()) -> str:
    """Window, stride and the rest as text, defaults left out.

    >>> _geometry((7, 7), (2, 2), (3, 3))
    '7×7 /2 pad 3'
    """

    def short(values) -> str:
        return str(values[0]) if len(set(values)) == 1 else "×".join(map(str, values))

    parts = ["×".join(map(str, window))]
    parts += [f"/{short(stride)}"] if max(stride) > 1 else []
    parts += [f"pad {short(pads)}"] if any(pads) else []
    parts += [f"dilated {short(dilation)}"] if dilation and max(dilation) > 1 else []
    parts += [f"in {groups} groups"] if groups > 1 else []
    return " ".join(parts)


def _own_params(params: PyTree, path: tuple[str, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    for name in path:
        params = params.get(name, {})
    return {name: p for name, p in params.items() if not isinstance(p, dict)}
