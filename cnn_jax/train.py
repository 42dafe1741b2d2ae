"""Training, from nothing or from where a workdir stands: all that can fail is tried before anything is written, then the loop begins."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import accumulate
from pathlib import Path
from uuid import uuid4

import jax
import numpy as np

from cnn_jax import processes
from cnn_jax import workdir as folder
from cnn_jax.autopsy import autopsy
from cnn_jax.build import Built, build, first_state
from cnn_jax.check import resolve
from cnn_jax.checkpoint import Checkpoints
from cnn_jax.data.faults import BadExamples, check_labels
from cnn_jax.data.feed import Ahead, Chunk, Indexed, chunks, cuts, resident, stacked, taken
from cnn_jax.data.pipeline import OnBad, empty_batch, train_batches
from cnn_jax.data.samplers import Order
from cnn_jax.data.source import Source
from cnn_jax.dispatch import make_steps
from cnn_jax.errors import UserError
from cnn_jax.evaluate import Evaluator, restore_target
from cnn_jax.experiment import Experiment
from cnn_jax.lock import Lock
from cnn_jax.loop import Run, due, run_to_the_end
from cnn_jax.mixing import mixed_loss, of_own_target
from cnn_jax.parallel import Parallel, make_parallel
from cnn_jax.precision import explained
from cnn_jax.profiling import Trace
from cnn_jax.report import say, timed
from cnn_jax.state import TrainState
from cnn_jax.step import Measures, make_train_step
from cnn_jax.stopping import SIGNALS, Stop
from cnn_jax.types import Batch, PyTree, StepsFn
from cnn_jax.watchdog import Watchdog


def train(
    experiment: Experiment,
    workdir: Path,
    *,
    mode: str = "jit",
    num_devices: int | None = None,
    profile: bool = False,
    deadline: float | None = None,
    stuck_after: float | None = None,
) -> dict[str, float]:
    """Trains to `num_steps`, from the last good checkpoint in `workdir` if there is one; returns the final test figures.

    SIGTERM, SIGUSR1 and Ctrl-C end it after the step it is at, saved.

    Args:
      mode: "jit", "pmap" or "fsdp"; all give the same numbers.
      num_devices: None uses all.
      profile: whether a trace of a few steps is written, to `profile/` in the workdir.
      deadline: moment of `time.monotonic()` after which it ends as if asked; None for no such moment.
      stuck_after: seconds without any progress after which the process ends; None for half an hour where there are several processes, and
        for ever where there is one.

    Raises:
      UserError: the settings do not work, the workdir is another run's, is in use or cannot be written, too many updates are not finite, or
        there is no step to profile.
      Stopped: the run was asked to end, and is saved.
    """
    parallel = make_parallel(mode, num_devices)
    experiment = resolve(experiment)
    built = build(experiment, axis_name=parallel.axis_name)
    _check_divisible(experiment, parallel)
    old = folder.read_experiment(workdir)
    with processes.first_alone("data"):
        sources = {split: built.dataset.open(split) for split in ("train", "test")}
    for split, source in sources.items():
        check_labels(source, split, built.dataset.num_classes)
    order = built.sampler(sources["train"], experiment.batch_size)
    stop, run = Stop(deadline, leave=_leave_at_once), folder.number_of_run(workdir) or uuid4().hex[:16]
    with stop, Lock(workdir) as lock, _checkpoints(built, workdir, lock, run) as checkpoints:
        if processes.is_first():
            lock.check()
        changed = _changed(old, built, workdir) if old is not None and checkpoints.steps() else []
        found = checkpoints.steps()
        last = checkpoints.last_good(say)
        processes.check_same("the experiment and its data", folder.identity_of_run(workdir, experiment, built.dataset))
        processes.check_same("the checkpoint to continue from", last)
        record = {"metrics": None, "window": None} if last is None else checkpoints.record(last)
        state = parallel.make(partial(first_state, built)) if last is None else checkpoints.restore(last, restore_target(built, parallel))
        _announce(built, parallel, workdir, int(state.step), changed, asked=experiment.precision)
        bad = BadExamples(workdir / "bad_examples.jsonl", max_fraction=experiment.max_bad_fraction, say=say)
        evaluator = Evaluator(built, parallel, sources["test"], on_bad=bad.of("test", sources["test"]))
        if profile and int(state.step) >= experiment.num_steps:
            raise UserError(f"Nothing is left to train in {workdir}, so there is no step to profile. Raise num_steps, or evaluate it.")
        if int(state.step) > experiment.num_steps or (int(state.step) == experiment.num_steps and record["metrics"] is not None):
            return _already_done(experiment, workdir, state, evaluator)
        # All that can fail for want of memory or for a wrong setting has been tried before anything is written.
        evaluator.compile(state.eval_variables)
        data = resident(sources["train"])
        source = sources["train"] if data is None else Indexed(sources["train"])
        feed = _feed(built, source, order, int(state.step), bad.of("train", sources["train"]))
        feed = Ahead(feed, place=lambda chunk: chunk._replace(batches=parallel.shard_stacked(_asking(chunk.batches, stop))))
        data = parallel.place(data or {})
        with timed("compiling the training step"):
            steps = make_steps(make_step(built, parallel), taken, experiment.steps_per_dispatch)
            empty = _asking(_empty_batches(built, indexed=bool(data)), stop)
            steps_fn = parallel.compile_steps(steps, state, data, parallel.shard_stacked(empty))
        start = {"run": run, "start_step": int(state.step), "parallel": mode, "num_devices": parallel.num_devices}
        if processes.is_first():
            folder.create(workdir, experiment, lock, **start, precision=built.experiment.precision)
            if checkpoints.steps() != found:
                raise UserError(f"Another run has saved in {workdir} meanwhile. Start again: the run continues from what is there now.")
        processes.barrier("compiled")  # else one waits in a sum of all for another that still compiles, and gives up
        steps_fn = partial(_dispatch, steps_fn, data)
        traced = _traced(steps_fn, workdir / "profile", experiment, int(state.step)) if profile else nullcontext(steps_fn)
        try:
            with traced as dispatch, Watchdog(stuck_after) as watchdog:
                stop.begin()
                training = Run(
                    built,
                    dispatch,
                    feed,
                    examples=lambda step: order(experiment.seed, step - 1),
                    evaluator=evaluator,
                    checkpoints=checkpoints,
                    workdir=workdir,
                    stop=stop,
                    evaluated=record["metrics"] is not None or not due(experiment, int(state.step))[0],
                    window=record["window"],
                    diagnose=partial(autopsy, built, sources["train"], order, workdir),
                    watchdog=watchdog,
                    make_sure=lock.make_sure,
                )
                return run_to_the_end(training, state)
        except OSError as error:
            raise UserError(f"Training stopped: {error}. What was saved is intact; the same command continues from there.") from error


def _leave_at_once(number: int) -> None:
    """At a signal that comes before there is anything to save. Threads that still compile would crash at the interpreter's end."""
    print(f"\n{SIGNALS[number]}: left at once; the same command continues from what was saved", file=sys.stderr, flush=True)
    processes.end_others(f"{SIGNALS[number]} before there was anything to save", 128 + number)
    os._exit(128 + number)


def _checkpoints(built: Built, workdir: Path, lock: Lock, run: str) -> Checkpoints:
    experiment, mine = built.experiment, {folder.NUMBER: run}
    identity = folder.identity_of_run(workdir, experiment, built.dataset) | mine
    keep = {"keep_best": experiment.keep_best, "keep_every": experiment.keep_every, "make_sure": lock.make_sure}
    return Checkpoints(workdir / "checkpoints", best_by=experiment.best_by, identity=identity, **keep)


def _changed(old: Experiment, built: Built, workdir: Path) -> list[str]:
    return folder.check_continues(folder.as_computed(resolve(old), workdir), built.experiment, workdir)


def _dispatch(steps_fn: StepsFn, data: PyTree, state: TrainState, chunk: Chunk) -> tuple[TrainState, Measures]:
    return steps_fn(state, data, chunk.batches, np.int32(chunk.num))


def _feed(built: Built, source: Source | Indexed, order: Order, start_step: int, on_bad: OnBad) -> Iterator[Chunk]:
    """The batches from the first update after `start_step` on, in chunks that end where the loop has something else to do."""
    experiment = built.experiment
    steps = {"start_step": start_step, "num_steps": experiment.num_steps}
    mine = partial(_some, order, processes.share(experiment.batch_size))
    batches = train_batches(source, mine, seed=experiment.seed, **steps, workers=experiment.workers, on_bad=on_bad)
    return chunks(batches, size=experiment.steps_per_dispatch, start_step=start_step, stop=_stop(experiment))


def _some(order: Order, rows: slice, seed: int, step: int) -> np.ndarray:
    """What this process brings of a batch. It travels to decoding processes, which know nothing of the others."""
    return order(seed, step)[rows]


def _asking(batches: Batch, stop: Stop) -> Batch:
    """Of several processes each says with its batches whether it was asked to end."""
    if processes.count() == 1:
        return batches
    return {**batches, "asked": np.full(batches["valid"].shape, stop.reason is not None, np.int8)}


def _stop(experiment: Experiment) -> Callable[[int], int]:
    """What tells after how many updates, from some on, the loop has something else to do than to update."""
    every = [experiment.log_every, experiment.eval_every, *([experiment.save_every] if experiment.save_every else [])]
    return lambda step: min(experiment.num_steps, *((step // n + 1) * n for n in every))


def _empty_batches(built: Built, *, indexed: bool) -> Batch:
    """What the steps are compiled for: batches of the form of all others, in which nothing counts."""
    experiment = built.experiment
    size = experiment.batch_size // processes.count()
    batch = empty_batch(size, built.dataset.train_shape)
    if indexed:
        batch = {"indices": np.zeros(size, np.int32), "valid": batch["valid"]}
    return stacked([batch], experiment.steps_per_dispatch)


def _traced(dispatch: Callable, folder: Path, experiment: Experiment, start_step: int) -> Trace:
    """From the first log on, which compiles what a log needs; where all ends with that, from the second dispatch on."""
    stop = _stop(experiment)
    ends = list(accumulate(cuts(size=experiment.steps_per_dispatch, start_step=start_step, stop=stop), initial=start_step))[1:]
    until_log = ends.index(stop(start_step)) + 1
    return Trace(dispatch, folder, num_calls=len(ends), skip=until_log if until_log < len(ends) else 1)


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
    step = make_train_step(
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
        max_skipped=built.experiment.max_skipped,
        accumulate_steps=built.experiment.accumulate_steps,
        axis_name=parallel.axis_name,
    )
    return parallel.around(step)


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
    say(f"{experiment.name}: {parallel.num_devices} × {device} ({parallel.name}, {experiment.precision}), workdir {workdir}")
    if asked != experiment.precision != "float32":
        say(f"precision: {explained(asked, jax.default_backend())}; --set precision=float32 computes all in float32")
    for line in changed:
        say(f"changed since the last start: {line}")
    if start_step:
        say(f"continuing after step {start_step} of {experiment.num_steps}")
    if start_step >= experiment.log_every and not (workdir / "metrics.jsonl").exists():
        say(f"WARNING: there is no {workdir / 'metrics.jsonl'}: what was recorded before step {start_step} is lost")
