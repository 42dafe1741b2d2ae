"""What went wrong in an update that is not finite: where in the network it began, with all that is needed to make it again."""

import contextlib
import json
import shlex
import zipfile
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import processes
from cnn_jax.build import Built, build
from cnn_jax.checkpoint import Checkpoints
from cnn_jax.data.samplers import Order
from cnn_jax.data.source import Source
from cnn_jax.errors import UserError, shortened, unknown
from cnn_jax.evaluate import restore_target
from cnn_jax.files import finite, write_text
from cnn_jax.losses.binding import bound
from cnn_jax.mixing import mixed_loss
from cnn_jax.parallel import compiled, make_parallel
from cnn_jax.report import console, say, table
from cnn_jax.state import TrainState
from cnn_jax.state_files import on_the_host
from cnn_jax.step import make_gradients, make_prepare
from cnn_jax.tree_difference import name_of
from cnn_jax.types import Batch, PyTree


class Findings(NamedTuple):
    """What an update is made of, as far as it is not finite.

    Attributes:
      origin: where it began, for people to read.
      layers: (path, largest magnitude of its output; None if that is not finite), in the order of their outputs.
      gradients: names of parameters whose gradient is not finite.
      examples: places in the batch whose loss is not finite.
    """

    origin: str
    layers: list[tuple[str, float | None]]
    gradients: list[str]
    examples: list[int]


def autopsy(built: Built, source: Source, order: Order, workdir: Path, state: TrainState, step: int, why: str) -> str:
    """Writes what there is to know of the failed update to `autopsy/step_<step>` in the workdir, and returns it for people to read.

    Args:
      source, order: of the train split.
      state: with the parameters that the update had.
      step: that the update would have made.
      why: it was left out.
    """
    folder, batch = workdir / "autopsy" / f"step_{step}", dict(source[order(built.experiment.seed, step - 1)])
    whole = on_the_host(state)
    if not processes.is_first():
        return "The first process tells what was found."
    key = jax.random.wrap_key_data(jnp.asarray(whole.key))
    whole = whole.replace(step=jnp.int32(step - 1), skipped=jnp.int32(0), key=key)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "batch.npz", **batch, indices=order(built.experiment.seed, step - 1))
        with Checkpoints(folder / "checkpoints", best_by="loss") as checkpoints:
            checkpoints.save(whole, None, must_be_finite=False)
        where = f"Its batch and state are in {folder}; to look again"
        saved = f"{where}: python launch.py --mode=autopsy --workdir={shlex.quote(str(workdir))} --step={step}"
    except (OSError, UserError) as error:
        saved = f"Its batch and state could not be written to {folder}: {error}"
    findings = examine(build(built.experiment), whole, batch)
    rate = built.learning_rate(step - 1)
    record = {"step": step, "why": why, "learning_rate": rate, **findings._asdict()}
    with contextlib.suppress(OSError):  # told above
        write_text(folder / "findings.json", json.dumps(finite(record), indent=1) + "\n")
    return f"{findings.origin} The learning rate was {rate:.6g}.\n{saved}"


def examine(built: Built, state: TrainState, batch: Batch) -> Findings:
    """Returns where in the update that follows `state`, on this batch, something is not finite. On one device.

    Args:
      batch: inputs and targets.
    """
    experiment, num = built.experiment, built.experiment.accumulate_steps
    prepare = make_prepare(augment=built.augment, mix=built.mix, view=built.view, standardise=built.standardise)
    loss_fn = mixed_loss(built.loss_fn) if experiment.mix else built.loss_fn
    paths: list[str] = []

    def look(state: TrainState, batch: Batch):
        batch, key = prepare(state, batch)
        layers, losses = [], []
        for j, part_key in enumerate(jax.random.split(key, num) if num > 1 else [key]):
            part = jax.tree.map(lambda x, j=j: x[j::num], dict(batch))
            outputs, seen = _outputs(built.model, state, part["inputs"], part_key)
            paths[:] = [path for path, _ in seen]
            layers.append([_extent(output) for _, output in seen])
            losses.append(bound(loss_fn, state.params, state.memory)(outputs, part["targets"], where=part["valid"]))
        gradients = make_gradients(built.model, loss_fn, {}, accumulate_steps=num)(state, batch, key)[0]
        finite = jax.tree.map(lambda x: jnp.isfinite(x).all(), (state.params, batch["inputs"], gradients))
        return finite, jnp.asarray(layers), jnp.stack(losses, 1).reshape(-1)

    batch = {**batch, "valid": np.ones(len(batch["targets"]), bool)}
    (params, inputs, gradients), layers, losses = jax.device_get(compiled(look)(state, batch))
    worst = np.asarray(layers).max(0) if len(layers) else []
    found = [(path, float(value) if np.isfinite(value) else None) for path, value in zip(paths, worst, strict=True)]
    bad = [name_of(path) for path, good in jax.tree_util.tree_leaves_with_path(gradients) if not good]
    broken = [name_of(path) for path, good in jax.tree_util.tree_leaves_with_path(params) if not good]
    examples = np.flatnonzero(~np.isfinite(losses)).tolist()
    return Findings(_origin(broken, bool(inputs), found, examples, bad), found, bad, examples)


def examine_again(workdir: Path, built: Built, *, step: int | None) -> Findings:
    """Returns the findings of an update that an earlier run has left in its workdir, made again, and prints them.

    Args:
      step: that the update would have made; None takes the last.

    Raises:
      UserError: there is none, or its files are damaged.
    """
    known = sorted(int(path.name.removeprefix("step_")) for path in (workdir / "autopsy").glob("step_*") if path.name[5:].isdigit())
    if not known:
        raise UserError(f"{workdir} holds no failed update. There is one after a run that ended since its numbers were not finite.")
    if step is not None and step not in known:
        raise unknown("--step", str(step), list(map(str, known)), "They are those of failed updates.")
    folder = workdir / "autopsy" / f"step_{known[-1] if step is None else step}"
    try:
        with zipfile.ZipFile(folder / "batch.npz") as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise ValueError("it is compressed, which it was not when it was written")  # it could grow to any size
        with np.load(folder / "batch.npz", allow_pickle=False) as file:
            batch = {name: file[name] for name in ("inputs", "targets")}
        if batch["inputs"].ndim < 4 or batch["targets"].shape[:1] != batch["inputs"].shape[:1]:
            raise ValueError("it holds no images with as many labels")
    except (OSError, ValueError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        others = ", ".join(map(str, known))
        raise UserError(f"{folder / 'batch.npz'} cannot be read: {shortened(error)}. Use another --step: {others}.") from None
    with Checkpoints(folder / "checkpoints", best_by="loss") as checkpoints:
        state = checkpoints.restore(checkpoints.last_good(say) or 0, restore_target(built, make_parallel("jit", 1)))
    findings = examine(built, state, batch)
    say(f"the update of step {int(state.step) + 1}, computed in {built.experiment.precision}: {findings.origin}")
    rows = [[path, "not finite" if value is None else f"{value:.4g}"] for path, value in findings.layers]
    console().print(table(["layer", "largest output"], rows))
    return findings


def _outputs(model: nn.Module, state: TrainState, inputs: PyTree, key: jax.Array) -> tuple[PyTree, list[tuple[str, jax.Array]]]:
    """The outputs in training, and those of every module, in the order in which they are there."""
    seen: list[tuple[str, jax.Array]] = []

    def keep(next_fun, args, kwargs, context):
        result = next_fun(*args, **kwargs)
        if context.method_name == "__call__" and context.module.path and isinstance(result, jax.Array):
            seen.append(("/".join(context.module.path), result))
        return result

    with nn.intercept_methods(keep):
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        outputs, _ = model.apply(variables, inputs, train=True, mutable=["batch_stats", "auxiliary"], rngs={"dropout": key})
    return outputs, seen


def _extent(x: jax.Array) -> jax.Array:
    """The largest magnitude, infinite if any value is not finite."""
    return jnp.where(jnp.isfinite(x).all(), jnp.abs(x).max(initial=0), jnp.inf).astype(jnp.float32)


def _origin(broken: list[str], inputs: bool, layers: list, examples: list[int], gradients: list[str]) -> str:
    if broken:
        return f"Parameters are not finite before the update: {_some(broken)}."
    if not inputs:
        return "The images are not finite after augmentation."
    before, largest = "the images", None
    for path, value in layers:
        if value is None:
            extent = "" if largest is None else f", whose largest is {largest:.4g}"
            return f"The first output that is not finite is that of {path}, after {before}{extent}."
        before, largest = path, value
    if examples:
        return f"All outputs are finite; the loss is not, of the batch's examples {_some(examples)}."
    if gradients:
        return f"All outputs and losses are finite; the gradient is not, of {_some(gradients)}."
    return "Computed again by itself, all of it is finite: it is the norm of the gradient that overflows, or devices compute differently."


def _some(names: list) -> str:
    return ", ".join(map(str, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
