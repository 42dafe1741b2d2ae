"""What an experiment is, before it runs: its settings, its layers with shapes, parameters and FLOPs, its memory."""

import math
from collections import Counter
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from rich.console import Group
from rich.text import Text

from cnn_jax.anatomy import Layer, anatomy
from cnn_jax.build import build, first_state
from cnn_jax.check import option, resolve
from cnn_jax.data.dataset import Dataset
from cnn_jax.experiment import Experiment, Spec, flatten
from cnn_jax.losses.binding import WEIGHTS
from cnn_jax.precision import explained
from cnn_jax.registry import BY_FIELD
from cnn_jax.report import num_bytes, number, spelled, table, times
from cnn_jax.types import PyTree


def count_params(experiment: Experiment) -> int:
    """Returns the number of learned parameters.

    Raises:
      UserError: as `build.build`.

    >>> from cnn_jax.experiment import About
    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("generated"))
    >>> count_params(mine)
    60000
    """
    built = build(experiment)
    return sum(layer.num_params for layer in anatomy(built.model, built.dataset.input_shape))


def training_only(model: nn.Module, input_shape: tuple[int, ...], layers: list[Layer]) -> dict[str, int]:
    """Returns {module: parameters} of what is not computed at inference, such as auxiliary heads: no row of `layers` counts it.

    Args:
      input_shape: of one example, [*space, c].
      layers: of `anatomy.anatomy`.

    >>> from cnn_jax.models.googlenet import GoogLeNet
    >>> model = GoogLeNet(num_outputs=10, auxiliary=True)
    >>> training_only(model, (32, 32, 3), anatomy(model, (32, 32, 3)))
    {'auxiliary1': 2174218, 'auxiliary2': 2176266}
    """
    images = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    computed, counts = {x.path for x in layers}, Counter()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables.get("params", {})):
        names = [key.key for key in path]
        if "/".join(names[:-1]) not in computed:
            counts[names[0]] += leaf.size
    return dict(counts)


def description(experiment: Experiment, registered: Experiment, command: str) -> Group:
    """Returns everything `--mode=describe` shows of the resolved experiment.

    Args:
      registered: the experiment before `--set`, to show the difference.
      command: what starts the training.

    Raises:
      UserError: as `build.build`.
    """
    experiment = resolve(experiment)
    built = build(experiment)
    layers = anatomy(built.model, built.dataset.input_shape)
    found, idle = [x for x in layers if x.num_params], training_only(built.model, built.dataset.input_shape, layers)
    rows = [[x.path, x.kind, times(x.output_shape), x.num_params, 2 * x.macs] for x in found]
    num_params, flops = sum(x.num_params for x in found), sum(2 * x.macs for x in found)
    rows.append(["total", "", "", num_params, flops])
    return Group(
        Text(f"{experiment.name}: {experiment.about.shows}\n"),
        _settings_table(experiment, registered),
        table(["layer", "kind", "output", "parameters", "FLOPs"], rows),
        table(["what", "how much"], _facts(built.dataset, experiment, num_params, flops, found, idle)),
        Text(f"to train it:\n  {command}", no_wrap=True),
    )


def _settings_table(experiment: Experiment, registered: Experiment):
    """Every setting, resolved; where it differs from the default of its field or option; what `--set` changed."""
    now, before, defaults = (flatten(e) for e in (experiment, resolve(registered), resolve(_bare(experiment))))
    rows = []
    for key, value in now.items():
        differs = "" if key in defaults and defaults[key] == value else _shown(defaults.get(key, "not set"))
        rows.append([key, _shown(value), differs, "" if before.get(key) == value else f"<- {_shown(before.get(key, 'not set'))}"])
    rows += [[key, "(gone)", "", f"<- {_shown(before[key])}"] for key in before if key not in now]
    return table(["setting", "value", "default, if other", "changed from"], rows)


def _bare(experiment: Experiment) -> Experiment:
    """The same names without any option set, and every plain field at its default."""
    specs = {f: getattr(experiment, f) for f in BY_FIELD}
    bare = {f: Spec(v.name) if isinstance(v, Spec) else tuple(Spec(s.name) for s in v) for f, v in specs.items()}
    return Experiment(name=experiment.name, about=experiment.about, **bare)


def _facts(
    dataset: Dataset, experiment: Experiment, num_params: int, flops: int, found: list[Layer], idle: dict[str, int]
) -> list[list[str]]:
    built = build(experiment)
    state = jax.eval_shape(partial(first_state, built))
    num_weights = sum(x.size for x in jax.tree.leaves(state.params.get(WEIGHTS, {})))
    micro_batch = experiment.batch_size * (1 + experiment.two_views) // experiment.accumulate_steps
    width = 2 if built.experiment.precision == "bfloat16" else 4
    activations = micro_batch * width * sum(math.prod(x.output_shape) for x in found)
    epochs = experiment.num_steps * experiment.batch_size / dataset.num_train
    expected = experiment.about.expected
    return [
        ["data", f"{dataset.name}, {dataset.num_train:,} train and {dataset.num_test:,} test images of {times(dataset.input_shape)}, "
                 f"{dataset.num_classes} classes ({'bundled' if dataset.bundled else 'needs the network once'})"],
        ["parameters", f"{num_params:,}" + (f", and {num_weights:,} of the loss" if num_weights else "")
                       + (f", and {sum(idle.values()):,} that only training uses, of {', '.join(idle)}" if idle else "")],
        ["forward pass", f"{flops:,} FLOPs an image"],
        ["training", f"{experiment.num_steps:,} steps of {experiment.batch_size} = {epochs:,.1f} epochs"
                     + (", two views of each image, no labels" if experiment.two_views else "")],
        ["computed in", explained(experiment.precision, jax.default_backend())],
        ["learning rate", f"up to {option(experiment.optimizer, 'optimizer', 'learning_rate'):g}"],
        ["memory of the state", num_bytes(_size(state.params)) + " parameters, " + num_bytes(_size(state.opt_state)) + " optimizer"
                                + (f", {num_bytes(_size(state.ema))} average" if state.ema else "")
                                + (f", {num_bytes(_size(state.memory))} memory of embeddings" if state.memory else "")],
        ["memory of activations", f"about {num_bytes(activations)} for a batch (layer outputs kept for the gradient)"],
        ["expected result", "unmeasured" if expected is None else f"{spelled(expected.metric)} {expected.low:g} to {expected.high:g}"],
        ["expected time", f"{experiment.about.time} on two CPU cores"],
    ]  # fmt: skip


def _size(tree: PyTree) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(_shown, value))
    return number(value) if isinstance(value, int) else str(value)
