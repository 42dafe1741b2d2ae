"""The training loop. Its order is fixed: step, log, evaluate, save; each named by the number of completed updates."""

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import accumulate
from pathlib import Path

import jax
import numpy as np

from cnn_jax import workdir as folder
from cnn_jax.build import Built, build, first_state
from cnn_jax.check import resolve
from cnn_jax.checkpoint import Checkpoints
from cnn_jax.data.feed import Ahead, Chunk, Indexed, chunks, cuts, resident, stacked, taken
from cnn_jax.data.pipeline import empty_batch, train_batches
from cnn_jax.data.samplers import Order
from cnn_jax.data.source import Source
from cnn_jax.errors import UserError
from cnn_jax.evaluate import Evaluator, restore_target
from cnn_jax.experiment import Experiment, differences
from cnn_jax.idle import Idle
from cnn_jax.metrics.embedding_health import collapse_warning
from cnn_jax.mixing import mixed_loss, of_own_target
from cnn_jax.parallel import Parallel, make_parallel
from cnn_jax.precision import explained, settled
from cnn_jax.profiling import Trace
from cnn_jax.report import Report, say, spelled, timed
from cnn_jax.state import TrainState
from cnn_jax.step import Measures, make_steps, make_train_step
from cnn_jax.types import Batch, PyTree, StepsFn


def train(
    experiment: Experiment, workdir: Path, *, mode: str = "jit", num_devices: int | None = None, profile: bool = False
) -> dict[str, float]:
    """Trains to `num_steps`, from the last checkpoint in `workdir` if there is one; returns the final test figures.

    Args:
      mode: "jit" or "pmap"; both give the same numbers.
      num_devices: None uses all.
      profile: whether a trace of a few steps is written, to `profile/` in the workdir.

    Raises:
      UserError: the settings do not work, the workdir is another run's or cannot be written, the loss is not finite, or there is no step
        to profile.
    """
    parallel = make_parallel(mode, num_devices)
    experiment = resolve(experiment)
    built = build(experiment, axis_name=parallel.axis_name)
    _check_divisible(experiment, parallel)
    old = folder.read_experiment(workdir)
    sources = {split: built.dataset.open(split) for split in ("train", "test")}
    order = built.sampler(sources["train"], experiment.batch_size)
    with Checkpoints(workdir / "checkpoints", best_by=experiment.best_by) as checkpoints:
        last = checkpoints.last_step()
        continues = old is not None and last is not None
        changed = folder.check_continues(folder.as_computed(resolve(old), workdir), built.experiment, workdir) if continues else []
        state = parallel.make(partial(first_state, built)) if last is None else checkpoints.restore(last, restore_target(built, parallel))
        _announce(built, parallel, workdir, int(state.step), changed, asked=experiment.precision)
        evaluator = Evaluator(built, parallel, sources["test"])
        if int(state.step) >= experiment.num_steps:
            if profile:
                raise UserError(f"Nothing is left to train in {workdir}, so there is no step to profile. Raise num_steps, or evaluate it.")
            return _already_done(experiment, workdir, state, evaluator)
        # All that can fail for want of memory or for a wrong setting has been tried before anything is written.
        evaluator.compile(state.eval_variables)
        data = resident(sources["train"])
        feed = _feed(built, sources["train"] if data is None else Indexed(sources["train"]), order, int(state.step))
        feed = Ahead(feed, place=lambda chunk: chunk._replace(batches=parallel.shard_stacked(chunk.batches)))
        data = parallel.place(data or {})
        with timed("compiling the training step"):
            steps = make_steps(make_step(built, parallel), taken, experiment.steps_per_dispatch)
            steps_fn = parallel.compile_steps(steps, state, data, parallel.shard_stacked(_empty_batches(built, indexed=bool(data))))
        start = {"start_step": int(state.step), "parallel": mode, "num_devices": parallel.num_devices}
        folder.create(workdir, experiment, **start, precision=built.experiment.precision)
        steps_fn = partial(_dispatch, steps_fn, data)
        traced = _traced(steps_fn, workdir / "profile", experiment, int(state.step)) if profile else nullcontext(steps_fn)
        try:
            with traced as dispatch:
                return _loop(built, dispatch, state, feed, evaluator, checkpoints, workdir)
        except OSError as error:
            raise UserError(f"Training stopped: {error}. What was saved is intact; the same command continues from there.") from error


def _feed(built: Built, source: Source | Indexed, order: Order, start_step: int) -> Iterator[Chunk]:
    """The batches from the first update after `start_step` on, in chunks that end where the loop has something else to do."""
    experiment = built.experiment
    batches = train_batches(
        source, order, seed=experiment.seed, start_step=start_step, num_steps=experiment.num_steps, workers=experiment.workers
    )
    return chunks(batches, size=experiment.steps_per_dispatch, start_step=start_step, stop=_stop(experiment))


def _stop(experiment: Experiment) -> Callable[[int], int]:
    """What tells after how many updates, from some on, the loop has something else to do than to update."""
    every = [experiment.log_every, experiment.eval_every, *([experiment.save_every] if experiment.save_every else [])]
    return lambda step: min(experiment.num_steps, *((step // n + 1) * n for n in every))


def _empty_batches(built: Built, *, indexed: bool) -> Batch:
    """What the steps are compiled for: batches of the form of all others, in which nothing counts."""
    experiment = built.experiment
    batch = empty_batch(experiment.batch_size, built.dataset.train_shape)
    if indexed:
        batch = {"indices": np.zeros(experiment.batch_size, np.int32), "valid": batch["valid"]}
    return stacked([batch], experiment.steps_per_dispatch)


def _traced(dispatch: Callable, folder: Path, experiment: Experiment, start_step: int) -> Trace:
    """From the first log on, which compiles what a log needs; where all ends with that, from the second dispatch on."""
    stop = _stop(experiment)
    ends = list(accumulate(cuts(size=experiment.steps_per_dispatch, start_step=start_step, stop=stop), initial=start_step))[1:]
    until_log = ends.index(stop(start_step)) + 1
    return Trace(dispatch, folder, num_calls=len(ends), skip=until_log if until_log < len(ends) else 1)


def _dispatch(steps_fn: StepsFn, data: PyTree, state: TrainState, chunk: Chunk) -> tuple[TrainState, Measures]:
    return steps_fn(state, data, chunk.batches, np.int32(chunk.num))


def _loop(
    built: Built,
    dispatch: Callable[[TrainState, Chunk], tuple[TrainState, Measures]],
    state: TrainState,
    feed: Ahead,
    evaluator: Evaluator,
    checkpoints: Checkpoints,
    workdir: Path,
) -> dict[str, float]:
    experiment, step, last, window, warned = built.experiment, int(state.step), built.experiment.num_steps, [], False
    with Report(workdir, start_step=step, num_steps=last, batch_size=experiment.batch_size) as report, Idle() as idle:
        for chunk in feed:
            state, measures = dispatch(state, chunk)
            idle.works_on(measures)
            # Before anything is waited for: the next chunk is on its way to the device while this one, and the one before it, are computed.
            idle.fetched(feed.fetch())
            window.append((chunk.num, measures))
            # Two chunks are in flight at most, and one more lies ready; more would only hide where the time goes.
            if len(window) > 1:
                jax.block_until_ready(window[-2][1])
            step += chunk.num
            report.advance(step)

            evaluates = step % experiment.eval_every == 0 or step == last
            saves = evaluates or (experiment.save_every is not None and step % experiment.save_every == 0)
            # Saving closes a window as well: a run that resumes there then logs the same means.
            if step % experiment.log_every == 0 or saves:
                means = _means(window, step)
                report.train(step, {**means, "learning_rate": built.learning_rate(step - 1)}, waited=idle.take())
                window = []
                if not warned and (warning := collapse_warning(means)) is not None:
                    report.note(f"warning: at step {step}, {warning}")
                    warned = True
            figures = None
            if evaluates:
                evaluation = evaluator(state.eval_variables)
                figures = evaluation.figures
                _check_finite(figures["loss"], "test loss", step)
                report.test(step, figures, evaluation.num_examples, of=len(evaluator.source))
            if saves:
                checkpoints.save(state, figures)
                report.restart_clock(step)
    checkpoints.close()  # or an error now: "done" is not said before the last save is on disk
    say(f"done: {last} updates, checkpoints {', '.join(map(str, checkpoints.steps()))} in {workdir}")
    return figures


def _already_done(experiment: Experiment, workdir: Path, state: TrainState, evaluator: Evaluator) -> dict[str, float]:
    """The test figures of a run that has nothing left to train. Writes nothing."""
    if int(state.step) > experiment.num_steps:
        raise UserError(
            f"{workdir} has been trained for {int(state.step)} updates already, more than num_steps={experiment.num_steps}. "
            f"Raise it with --set num_steps, or use another --workdir."
        )
    evaluation = evaluator(state.eval_variables)
    say(f"nothing left to train: {experiment.num_steps} updates are done. Evaluated {evaluation.num_examples} of {len(evaluator.source)}")
    return evaluation.figures


def make_step(built: Built, parallel: Parallel):
    """Returns the experiment's train step, pure and not yet compiled.

    Args:
      built: from `build.build`, with the axis name of `parallel`.
    """
    mixing = built.experiment.mix
    return make_train_step(
        built.model,
        mixed_loss(built.loss_fn) if mixing else built.loss_fn,
        {name: of_own_target(f) if mixing else f for name, f in built.metric_fns.items()},
        built.tx,
        augment=built.augment,
        mix=built.mix,
        view=built.view,
        standardise=built.standardise,
        diagnose=built.diagnose,
        average=built.average,
        accumulate_steps=built.experiment.accumulate_steps,
        axis_name=parallel.axis_name,
    )


def changes(registered: Experiment, experiment: Experiment, *, platform: str) -> list[str]:
    """Returns "key: old -> new" for what differs, the seed apart, from the registered experiment as its range was measured: on a CPU.

    Args:
      platform: of the devices the experiment has run on.

    >>> import dataclasses
    >>> from cnn_jax.experiment import About, Spec
    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("digits"))
    >>> changes(mine, dataclasses.replace(mine, seed=1, precision="bfloat16"), platform="cpu")
    ['precision: float32 -> bfloat16']
    """
    measured, here = settled(resolve(registered), "cpu"), settled(resolve(experiment), platform)
    return [f"{key}: {old} -> {new}" for key, old, new in differences(measured, here) if key != "seed"]


def verdict(experiment: Experiment, figures: dict[str, float], changed: list[str]) -> str:
    """Returns the sentence that compares the final figures with the experiment's expected range.

    Args:
      changed: settings that differ from the registered experiment, "key: old -> new".

    >>> from cnn_jax.experiment import About, Expected, Spec
    >>> about = About(shows="", num_params=0, expected=Expected(metric="accuracy", low=0.9))
    >>> mine = Experiment(name="mine", about=about, model=Spec("lenet5"), dataset=Spec("digits"))
    >>> verdict(mine, {"accuracy": 0.95}, [])
    'final test accuracy 0.9500 is within the expected 0.9 to 1'
    """
    expected = experiment.about.expected
    if expected is None or expected.metric not in figures:
        return "no expected range to compare with: in this form the experiment is unmeasured"
    value = figures[expected.metric]
    inside = expected.low <= value <= expected.high
    name = spelled(expected.metric)
    line = f"final test {name} {value:.4f} is {'within' if inside else 'OUTSIDE'} the expected {expected.low:g} to {expected.high:g}"
    return line if not changed else f"{line} (which is for the registered settings; changed here: {'; '.join(changed)})"


def _check_divisible(experiment: Experiment, parallel: Parallel) -> None:
    n, k = parallel.num_devices, experiment.accumulate_steps
    if experiment.batch_size % (n * k):
        nearest = max(round(experiment.batch_size / (n * k)), 1) * n * k
        raise UserError(
            f"batch_size={experiment.batch_size} cannot be shared by {n} devices in {k} micro-batch(es) each: "
            f"it must be a multiple of {n * k}. "
            f"Add --set batch_size={nearest}."
        )


def _announce(built: Built, parallel: Parallel, workdir: Path, start_step: int, changed: list[str], *, asked: str) -> None:
    experiment = built.experiment
    device = jax.local_devices()[0].device_kind
    mode = "jit" if parallel.axis_name is None else "pmap"
    say(f"{experiment.name}: {parallel.num_devices} × {device} ({mode}, {experiment.precision}), workdir {workdir}")
    if asked != experiment.precision != "float32":
        say(f"precision: {explained(asked, jax.default_backend())}; --set precision=float32 computes all in float32")
    for line in changed:
        say(f"changed since the last start: {line}")
    if start_step:
        say(f"continuing after step {start_step} of {experiment.num_steps}")


def _means(window: list[tuple[int, Measures]], step: int) -> dict[str, float]:
    """The means over the window's updates, and of those that had any, the diagnoses'.

    Raises UserError, naming the step, if a loss or a gradient is not finite.
    """
    rows = [jax.tree.map(lambda m, n=num: m[:n], measures) for num, measures in jax.device_get(window)]
    rows = jax.tree.map(lambda *parts: np.concatenate(parts), *rows)
    first = step - len(rows["loss"].total) + 1
    for name, what in (("loss", "loss"), ("gradient_norm", "gradient's norm")):
        for at, (total, count) in enumerate(zip(rows[name].total, rows[name].count, strict=True), first):
            _check_finite(total / max(count, 1), what, at)
    totals = jax.tree.map(lambda x: np.sum(x, axis=0, dtype=np.float64), rows)
    return {name: total.result() for name, total in totals.items() if name != "confusion" and not ("/" in name and not total.count)}


def _check_finite(value: float, what: str, step: int) -> None:
    if not math.isfinite(value):
        raise UserError(
            f"The {what} is {value} at step {step}. Training stops; earlier checkpoints are intact. Lower optimizer.learning_rate, "
            f"lengthen schedule.warmup_steps, or clip gradients with --set clip_norm=1, and start again in a new --workdir."
        )
