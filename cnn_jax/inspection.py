"""`--mode=inspect`: what a network is made of, what it costs and what it sees, as a table, CSV, JSON and a picture."""

import csv
import io
import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cnn_jax.anatomy import Layer, anatomy, field_of
from cnn_jax.check import check
from cnn_jax.description import training_only
from cnn_jax.effective_field import draw_fields, effective_field, effective_size, last_feature_map
from cnn_jax.errors import UserError, unknown
from cnn_jax.experiment import About, Experiment, Spec
from cnn_jax.features import feature_names
from cnn_jax.field_rules import Along
from cnn_jax.files import write_text
from cnn_jax.layers import Siamese
from cnn_jax.override import override_all
from cnn_jax.parallel import compiled, count_flops
from cnn_jax.registry import MODELS
from cnn_jax.report import num_bytes, table, times
from cnn_jax.types import PyTree

_NUM_IMAGES = 4  # noise images the effective field is averaged over
_PICTURE = "receptive_field.png"


class Survey(NamedTuple):
    """What a network's shapes alone tell of it.

    Attributes:
      layers: as `anatomy.anatomy`.
      totals: sums over the layers, XLA's own count of the whole forward pass, and the parameters that only training uses.
      layer: whose field is shown, and `along`, what one of its outputs may see along each spatial axis. None and () where each
        layer sees all of the input, as after resizing.
    """

    layers: list[Layer]
    totals: dict[str, Any]
    layer: str | None
    along: tuple[Along, ...]


def bare_model(name: str, size: str, assignments: list[str]) -> Experiment:
    """Returns a network by itself as an experiment on made-up data, so that its options are set as elsewhere.

    Args:
      name: of the network.
      size: of an image, as `--input` has it: "224x224x3".
      assignments: as `--set` has them: "model.width=8".

    Raises:
      UserError: there is no such network, the size is none, or an assignment does not work.

    >>> bare_model("resnet8", "32x32x3", ["model.width=8"]).model
    resnet8(width=8)
    """
    if name not in MODELS:
        raise unknown("--model", name, MODELS)
    for assignment in assignments:
        if assignment.partition("=")[0].strip() in ("model", "dataset", "dataset.shape", "dataset.train_shape"):
            raise UserError(
                f"--set {assignment} contradicts --model={name}, which names the network, its images being of --input's shape. "
                f"Write --model=NAME --input=224x224x3 --set model.option=value, or leave --model out for an experiment's."
            )
    parts = size.lower().replace("×", "x").split("x")
    if len(parts) != 3 or not all(part.isdigit() and 1 <= int(part) <= 8192 for part in parts):
        raise UserError(f"--input={size} must be height x width x channels, each from 1 to 8192. Write --input=224x224x3, for example.")
    shape = tuple(int(part) for part in parts)
    about = About(shows="a network by itself", num_params=0)
    data = Spec("generated", shape=shape, train_shape=shape, num_classes=1000)
    experiment = override_all(Experiment(name=name, about=about, model=Spec(name), dataset=data), assignments)
    check(experiment)
    return experiment


def survey(model: nn.Module, input_shape: tuple[int, ...], *, layer: str | None = None) -> Survey:
    """Returns what the network's shapes tell of it; initialises and compiles nothing.

    Args:
      input_shape, layer: as `inspect`.

    Raises:
      UserError: there is no such layer, or it has no spatial axes left.

    >>> from cnn_jax.models.lenet import LeNet5Modern
    >>> found = survey(LeNet5Modern(num_outputs=10), (32, 32, 1))
    >>> found.layer, found.totals["num_params"]
    ('conv2', 61706)
    """
    layers = anatomy(model, input_shape)
    drawn = feature_names(model, input_shape)
    windowed = ", ".join(x.path for x in layers if x.field and x.path in drawn)
    totals = _totals(model, input_shape, layers)
    if layer is None and not windowed:
        return Survey(layers, totals, None, ())
    try:
        layer = layer or last_feature_map(model, input_shape)
        along = field_of(model, input_shape, layer)
    except ValueError as error:
        raise UserError(f"--layer={layer}: {error}.") from None
    if len(along) != len(input_shape) - 1:
        choice = f"Choose one of {windowed}" if windowed else "No other has any; leave --layer out"
        raise UserError(f"--layer={layer} has no spatial axes left. {choice}.")
    if layer not in drawn:
        raise UserError(f"--layer={layer} is a function, not a layer: its field is in the table, and not drawn. Choose one of {windowed}.")
    return Survey(layers, totals, layer, along)


def one_image(
    model: nn.Module, input_shape: tuple[int, ...], variables: PyTree | None = None
) -> tuple[nn.Module, tuple[int, ...], PyTree | None]:
    """Returns the network that one image goes through, that image's shape, and the network's variables.

    They are what is given, but of a `Siamese`, which applies a network to each image of a pair.

    >>> from cnn_jax.models.resnet import resnet8
    >>> one_image(Siamese(resnet8(num_outputs=64)), (8, 8, 2))[1]
    (8, 8, 1)
    """
    if not isinstance(model, Siamese):
        return model, input_shape, variables
    *space, channels = input_shape
    inner = None if variables is None else {collection: tree["network"] for collection, tree in variables.items()}
    return model.network, (*space, channels // 2), inner


def inspect(
    model: nn.Module, input_shape: tuple[int, ...], folder: Path, *, name: str, variables: PyTree | None = None, layer: str | None = None
) -> Group:
    """Returns everything `--mode=inspect` prints, and writes layers.csv, inspection.json and receptive_field.png to `folder`.

    Of a network on pairs of images, what each image goes through is shown. There is no picture where every layer sees everything.

    Args:
      input_shape: of one example, [*space, c].
      folder: is made where it is missing.
      name: of the network, for titles.
      variables: trained ones; None initialises the network, as a new one.
      layer: whose receptive field is drawn; None takes the last layer with spatial axes.

    Raises:
      UserError: there is no such layer, or the folder cannot be written.
    """
    name = f"{name}, each image of a pair" if isinstance(model, Siamese) else name
    model, input_shape, variables = one_image(model, input_shape, variables)
    found = survey(model, input_shape, layer=layer)
    record = {"name": name, "input": input_shape, "totals": found.totals, "layers": [x._asdict() for x in found.layers]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        record["receptive_field"] = _drawn(found, model, variables, input_shape, folder / _PICTURE, name) if found.layer else None
        write_text(folder / "layers.csv", _as_csv(found.layers))
        write_text(folder / "inspection.json", json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"--output={folder} cannot be written: {error.strerror}.") from None
    files = ", ".join(str(folder / file) for file in ("layers.csv", "inspection.json", *([_PICTURE] if found.layer else [])))
    heading, wrote = Text(f"{name}, input {times(input_shape)}"), Text(f"wrote {files}", no_wrap=True)
    return Group(heading, _as_table(found.layers), _notes(found.totals, input_shape, record["receptive_field"]), wrote)


def _totals(model: nn.Module, input_shape: tuple[int, ...], layers: list[Layer]) -> dict[str, Any]:
    """Sums over the layers, XLA's own count of the whole forward pass to hold them against, and parameters that no layer has."""
    images = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    sums = {key: sum(getattr(x, key) for x in layers) for key in ("num_params", "neurons", "connections", "macs", "activation_bytes")}
    flops = count_flops(partial(model.apply, train=False), variables, images)
    return {**sums, "xla_flops": flops, "training_only": training_only(model, input_shape, layers)}


def _drawn(found: Survey, model, variables, input_shape, path: Path, name: str) -> dict[str, Any]:
    """Measures and draws the field of a layer; gives what is recorded of it."""
    state = "as initialised" if variables is None else "trained"
    field, centre = _measure(model, variables, input_shape, found)
    theoretical, effective = tuple(a.size for a in found.along), effective_size(field, centre)
    draw_fields(field, theoretical, centre, path, title=f"{name}: receptive field ({state})", layer=found.layer)
    return {"layer": found.layer, "theoretical": theoretical, "effective": effective, "weights": state}


def _measure(model, variables, input_shape, found: Survey) -> tuple[np.ndarray, tuple[float, ...]]:
    """The effective field on noise, and the centre of the central output's theoretical field."""
    init_key, image_key, mix_key = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(image_key, (_NUM_IMAGES, *input_shape))

    def measured(variables, images, key):
        return effective_field(model, variables, images, found.layer, key)

    if variables is None:
        variables = compiled(partial(model.init, train=False))(init_key, images[:1])
    field = np.asarray(compiled(measured)(variables, images, mix_key))
    middle = (n // 2 for n in feature_names(model, input_shape)[found.layer][:-1])
    return field, tuple(float((a.low + a.high) / 2 + m * a.jump) for a, m in zip(found.along, middle, strict=True))


def _notes(totals: dict[str, Any], input_shape: tuple[int, ...], seen: dict[str, Any] | None) -> Text:
    macs, flops, num_params, idle = totals["macs"], totals["xla_flops"], totals["num_params"], totals["training_only"]
    further = sum(idle.values())
    also = f"Further {further:,} parameters, of {', '.join(idle)}, are used in training only: {num_params + further:,} with them."
    lines = [
        f"{num_params:,} parameters · {macs / 1e9:.3g} GMACs an image · {num_bytes(totals['activation_bytes'])} of layer outputs",
        *([also] if idle else []),
        f"XLA counts {flops / 1e9:.4g} GFLOPs for the whole forward pass. Twice the multiply-adds is {2 * macs / 1e9:.4g}; XLA leaves out "
        f"those on padding ({2 * totals['connections'] / 1e9:.4g} by the connections) and adds normalisation, activations and pooling.",
    ]
    if seen is None:
        all_of = f"Every layer sees all of a {times(input_shape)} input, as after resizing"
        lines.append(f"{all_of}: no receptive field is drawn. Use --model=NAME with another --input to see one.")
    else:
        square = times((seen["effective"],) * len(seen["theoretical"]))
        lines.append(
            f"One output of {seen['layer']} may see {times(seen['theoretical'])} input positions; {seen['weights']}, 95 % of its squared "
            f"gradient lies within {square}."
        )
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
