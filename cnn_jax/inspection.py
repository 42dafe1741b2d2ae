"""`--mode=inspect`: what a network is made of, what it costs and what it sees, as a table, CSV, JSON and a picture."""

import csv
import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cnn_jax.anatomy import Layer, anatomy, field_of
from cnn_jax.effective_field import draw_fields, effective_field, effective_size, last_feature_map
from cnn_jax.errors import UserError
from cnn_jax.features import feature_names
from cnn_jax.files import write_text
from cnn_jax.parallel import compiled, count_flops
from cnn_jax.report import num_bytes, table, times
from cnn_jax.types import PyTree

_NUM_IMAGES = 4  # noise images the effective field is averaged over


def inspect(
    model: nn.Module, input_shape: tuple[int, ...], folder: Path, *, name: str, variables: PyTree | None = None, layer: str | None = None
) -> Group:
    """Returns everything `--mode=inspect` prints, and writes layers.csv, inspection.json and receptive_field.png to `folder`.

    Args:
      input_shape: of one example, [*space, c].
      folder: is made where it is missing.
      name: of the network, for titles.
      variables: trained ones; None initialises the network, as a new one.
      layer: whose receptive field is drawn; None takes the last layer with spatial axes.

    Raises:
      UserError: there is no such layer, or the folder cannot be written.
    """
    layers = anatomy(model, input_shape)
    totals = _totals(model, input_shape, layers)
    try:
        layer = layer or last_feature_map(model, input_shape)
        along = field_of(model, input_shape, layer)
    except ValueError as error:
        raise UserError(f"--layer={layer}: {error}.") from None
    if len(along) != len(input_shape) - 1:
        windowed = ", ".join(x.path for x in layers if x.field)
        if not windowed:
            seen = f"Every layer of {name} sees all of a {times(input_shape)} input, as after resizing"
            raise UserError(f"{seen}. Use --model=NAME with another --input.")
        raise UserError(f"--layer={layer} has no spatial axes left. Choose one of {windowed}.")
    state = "trained" if variables is not None else "as initialised"
    field, centre = _measure(model, variables, input_shape, layer, along)
    theoretical, effective = tuple(a.size for a in along), effective_size(field, centre)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "layers.csv", _as_csv(layers))
        record = {"name": name, "input": list(input_shape), "totals": totals, "layers": [x._asdict() for x in layers]}
        record["receptive_field"] = {"layer": layer, "theoretical": list(theoretical), "effective": effective, "weights": state}
        write_text(folder / "inspection.json", json.dumps(record, indent=1) + "\n")
        draw_fields(field, theoretical, centre, folder / "receptive_field.png", title=f"{name}: receptive field ({state})", layer=layer)
    except OSError as error:
        raise UserError(f"--output={folder} cannot be written: {error.strerror}.") from None
    notes = _notes(totals, layer, theoretical, effective, state)
    files = ", ".join(str(folder / file) for file in ("layers.csv", "inspection.json", "receptive_field.png"))
    return Group(Text(f"{name}, input {times(input_shape)}"), _as_table(layers), notes, Text(f"wrote {files}", no_wrap=True))


def _totals(model: nn.Module, input_shape: tuple[int, ...], layers: list[Layer]) -> dict[str, Any]:
    """Sums over the layers, and XLA's own count of the whole forward pass to hold them against."""
    images = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    sums = {key: sum(getattr(x, key) for x in layers) for key in ("num_params", "neurons", "connections", "macs", "activation_bytes")}
    return {**sums, "xla_flops": count_flops(partial(model.apply, train=False), variables, images)}


def _measure(model, variables, input_shape, layer, along) -> tuple[np.ndarray, tuple[float, float]]:
    """The effective field on noise, and the centre of the central output's theoretical field."""
    init_key, image_key, mix_key = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(image_key, (_NUM_IMAGES, *input_shape))

    def measured(variables, images, key):
        return effective_field(model, variables, images, layer, key)

    if variables is None:
        variables = compiled(partial(model.init, train=False))(init_key, images[:1])
    field = np.asarray(compiled(measured)(variables, images, mix_key))
    middle = (n // 2 for n in feature_names(model, input_shape)[layer][:-1])
    return field, tuple(float((a.low + a.high) / 2 + m * a.jump) for a, m in zip(along, middle, strict=True))


def _notes(totals: dict[str, Any], layer: str, theoretical, effective: int, state: str) -> Text:
    macs, flops = totals["macs"], totals["xla_flops"]
    lines = [
        f"{totals['num_params']:,} parameters · {macs / 1e9:.3g} GMACs an image · {num_bytes(totals['activation_bytes'])} of layer outputs",
        f"XLA counts {flops / 1e9:.4g} GFLOPs for the whole forward pass. Twice the multiply-adds is {2 * macs / 1e9:.4g}; XLA leaves out "
        f"those on padding ({2 * totals['connections'] / 1e9:.4g} by the connections) and adds normalisation, activations and pooling.",
        f"One output of {layer} may see {times(theoretical)} input positions; {state}, 95 % of its squared gradient lies within "
        f"{effective}×{effective}.",
    ]
    return Text("\n".join(lines))


def _as_table(layers: list[Layer]) -> Table:
    columns = ["layer", "kind", "geometry", "output", "parameters", "neurons", "connections", "MACs", "bytes", "field", "jump", "start"]
    rows: list[list[object]] = []
    for x in layers:
        counts = [_count(v) for v in (x.num_params, x.neurons, x.connections, x.macs, x.activation_bytes)]
        rows.append([x.path, x.kind, x.geometry, times(x.output_shape), *counts, _seen(x), _each(x.jump), _each(x.start)])
    totals = [_count(sum(getattr(x, key) for x in layers)) for key in ("num_params", "neurons", "connections", "macs", "activation_bytes")]
    rows.append(["total", "", "", "", *totals, "", "", ""])
    shown = table(columns, rows)
    for column in shown.columns[4:]:
        column.justify = "right"
    return shown


def _count(value: int) -> str:
    return f"{value:,}" if value else ""


def _each(values) -> str:
    """One number where all axes agree."""
    return "" if not values else f"{values[0]:g}" if len(set(values)) == 1 else "×".join(f"{v:g}" for v in values)


def _seen(layer: Layer) -> str:
    return " + ".join(part for part in (_each(layer.field), "all" if layer.sees_all else "") if part)


def _as_csv(layers: list[Layer]) -> str:
    """A line a layer; the fields of each axis joined by "x"."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Layer._fields)
    for layer in layers:
        writer.writerow("x".join(f"{v:g}" for v in value) if isinstance(value, tuple) else value for value in layer)
    return text.getvalue()
