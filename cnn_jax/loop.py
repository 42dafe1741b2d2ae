"""The training loop. Its order is fixed: step, log, evaluate, save; each named by the number of completed updates."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from cnn_jax import processes
from cnn_jax.build import Built
from cnn_jax.checkpoint import Checkpoints
from cnn_jax.data.feed import Ahead, Chunk
from cnn_jax.errors import Stopped, UserError, shortened
from cnn_jax.evaluate import Evaluator
from cnn_jax.experiment import Experiment
from cnn_jax.idle import Idle
from cnn_jax.metrics.embedding_health import collapse_warning
from cnn_jax.parallel import differing_copies
from cnn_jax.report import Report, Unread, say
from cnn_jax.state import TrainState
from cnn_jax.step import LEFT_OUT, TOO_MANY, Measures
from cnn_jax.stopping import Stop
from cnn_jax.watchdog import Watchdog
from cnn_jax.window import Window


class Run(NamedTuple):
    """All that the loop works with.

    Attributes:
      dispatch: (state, chunk) -> (state, measures); takes the state.
      feed: the chunks that follow the state.
      examples: (step) -> places in the train split of the batch that makes this step.
      evaluated: whether the first state has been evaluated, if that was due.
      window: of `Window.saved`, saved with the first state.
      diagnose: (state, step, why) -> what to tell of an update that failed, for people to read.
      watchdog: is told of whatever goes on.
      make_sure: of `Lines`.
    """

    built: Built
    dispatch: Callable[[TrainState, Chunk], tuple[TrainState, Measures]]
    feed: Ahead
    examples: Callable[[int], np.ndarray]
    evaluator: Evaluator
    checkpoints: Checkpoints
    workdir: Path
    stop: Stop
    evaluated: bool
    window: dict[str, Any] | None
    diagnose: Callable[[TrainState, int, str], str]
    watchdog: Watchdog
    make_sure: Callable[[], None]


class TooManySkipped(Exception):
    """So many updates in a row were left out that the run ends."""

    def __init__(self, first: int, why: str):
        self.first, self.why = first, why


def run_to_the_end(run: Run, state: TrainState) -> dict[str, float]:
    """Trains to `num_steps`; returns the final test figures.

    Raises:
      Stopped: the run was asked to end; it is saved.
      UserError: too many updates in a row were not finite, the test loss is not, or the last state could not be saved.
    """
    experiment = run.built.experiment
    step, last = int(state.step), experiment.num_steps
    records = {"start_step": step, "num_steps": last, "batch_size": experiment.batch_size, "evaluated": run.evaluated}
    with Report(run.workdir, **records, make_sure=run.make_sure) if processes.is_first() else Unread() as report, Idle() as idle:
        loop = _Loop(run, report, skipped=int(state.skipped), step=step)
        figures = None
        if not run.evaluated:  # the run ended, or was killed, in the middle of it
            figures = loop.evaluate(state, step)
            if figures is None:
                loop.end(step)
            run.checkpoints.save(state, figures, loop.window.saved())
        for chunk in run.feed:
            state, measures = run.dispatch(state, chunk)
            idle.works_on(measures)
            # Before anything is waited for: the next chunk is on its way to the device while this one, and the one before it, are computed.
            idle.fetched(run.feed.fetch())
            loop.window.add(step + 1, chunk.num, measures)
            # Two chunks are in flight at most, and one more lies ready; more would only hide where the time goes.
            loop.window.wait()
            step += chunk.num
            report.advance(step)
            evaluates, saves = due(experiment, step)
            stops = loop.is_asked_to_end()
            run.watchdog.alive()
            try:
                if logs := step % experiment.log_every == 0 or step == last:
                    loop.log(step, waited=idle.take())
                elif saves or stops:
                    loop.fold()
            except TooManySkipped as error:
                raise _too_many(run, state, error) from None
            if evaluates:
                check_copies(state)
                if processes.count() > 1:  # an evaluation is not cut short, and who asked them all to end may not wait for it
                    loop.save(state, None)
                figures = loop.evaluate(state, step)
            if saves or stops:
                loop.save(state, figures if evaluates else None)
                report.restart_clock(step)
            if logs or saves:
                loop.tell_problems()
            if (stops and step < last) or (evaluates and figures is None):
                loop.end(step)
        loop.make_sure_of(state, figures)
    say(f"done: {last} updates, checkpoints {', '.join(map(str, run.checkpoints.steps()))} in {run.workdir}")
    return figures


def due(experiment: Experiment, step: int) -> tuple[bool, bool]:
    """Returns whether a state is to be evaluated after so many updates, and whether it is to be saved.

    >>> from cnn_jax.experiment import About, Spec
    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("digits"), save_every=200)
    >>> due(mine, 400), due(mine, 500)
    ((False, True), (True, True))
    """
    evaluates = step > 0 and (step % experiment.eval_every == 0 or step == experiment.num_steps)
    return evaluates, evaluates or (experiment.save_every is not None and step % experiment.save_every == 0)


def check_finite(value: float, what: str, step: int) -> None:
    """Raises UserError, naming the step, if the value is not finite."""
    if not math.isfinite(value):
        raise UserError(
            f"The {what} is {value} at step {step}. Training stops; earlier checkpoints are intact. Lower optimizer.learning_rate, "
            f"lengthen schedule.warmup_steps, or clip gradients with --set clip_norm=1, and start again in a new --workdir."
        )


def check_copies(state: TrainState) -> None:
    """Raises UserError if devices or processes that should hold the same do not."""
    whole = state.replace(key=jax.random.key_data(state.key))
    if names := differing_copies(whole):
        raise UserError(
            f"Devices no longer agree: their copies of {', '.join(names[:3])} differ. Nothing of this state is saved; earlier checkpoints "
            f"are intact. Look for a broken device; the same command continues from the last checkpoint."
        )
    if processes.count() > 1:
        copies = [leaf.addressable_data(0) for leaf in jax.tree.leaves(whole) if leaf.is_fully_replicated]
        digest = hashlib.sha256()
        for copy in jax.device_get(copies):
            digest.update(np.ascontiguousarray(copy))
        processes.check_same("the state", digest.hexdigest())


class _Loop:
    """What is done between updates, and what must be remembered for it."""

    def __init__(self, run: Run, report: Report, *, skipped: int, step: int):
        self.run, self.report, self.window = run, report, Window(run.window)
        self.in_a_row, self.last_skipped, self.warned = skipped, step, False

    def fold(self) -> None:
        """Adds up what was measured, and tells of updates that were left out."""
        for step, code in self.window.fold():
            if code == TOO_MANY:  # as many were left out before this start
                raise TooManySkipped(self.last_skipped - self.in_a_row + 1, LEFT_OUT[code])
            self.in_a_row = self.in_a_row + 1 if step == self.last_skipped + 1 else 1
            self.last_skipped = step
            self.report.skipped(step, LEFT_OUT[code], self.run.examples(step).tolist())
            if self.in_a_row >= self.run.built.experiment.max_skipped:
                raise TooManySkipped(step - self.in_a_row + 1, LEFT_OUT[code])

    def log(self, step: int, *, waited: float) -> None:
        """Records the means since the last log."""
        self.fold()
        means = self.window.means()
        self.report.train(step, {**means, "learning_rate": self.run.built.learning_rate(step - 1)}, waited=waited)
        if not self.warned and (warning := collapse_warning(means)) is not None:
            self.report.note(f"warning: at step {step}, {warning}")
            self.warned = True

    def evaluate(self, state: TrainState, step: int) -> dict[str, float] | None:
        """Returns the test figures; None where the run was asked to end before they were there."""
        evaluator = self.run.evaluator
        evaluation = evaluator(state.eval_variables, stop=self.gives_up)
        if evaluation is None:
            return None
        check_finite(evaluation.figures["loss"], "test loss", step)
        self.report.test(step, evaluation.figures, evaluation.num_examples, of=len(evaluator.source))
        return evaluation.figures

    def gives_up(self) -> bool:
        """Whether an evaluation is not waited for. One of several processes cannot tell when the others would stop."""
        self.run.watchdog.alive()
        return processes.count() == 1 and self.run.stop.reason is not None

    def is_asked_to_end(self) -> bool:
        """Whether the run is to end after the present step: on all processes after the same."""
        return self.run.stop.reason is not None if processes.count() == 1 else self.window.asked()

    def save(self, state: TrainState, figures: dict[str, float] | None) -> None:
        """Saves the state, after the records that it stands for."""
        self.report.synchronise()
        self.run.checkpoints.save(state, figures, self.window.saved())

    def tell_problems(self) -> None:
        """Tells of saves that failed: the run goes on, and tries again at the next."""
        for problem in self.run.checkpoints.problems():
            self.report.note(f"WARNING: {problem} The run goes on, and saves again when a save is due.")

    def end(self, step: int) -> None:
        """Raises Stopped: the run was asked to end, and its state is saved."""
        self.run.checkpoints.close()
        self.report.synchronise()
        if self.report.unwritten:
            raise UserError(f"The last records could not be written to {self.report.lines.path}; the state of step {step} is saved.")
        why, last = self.run.stop.reason or "another process was asked to end", self.run.built.experiment.num_steps
        raise Stopped(
            f"{why}: stopped after step {step} of {last}, saved in {self.run.workdir}; "
            f"the same command continues from there"
        )

    def make_sure_of(self, state: TrainState, figures: dict[str, float]) -> None:
        """Returns when the last state is on the disk: "done" is not said before. Where it could not be saved, it is tried once more."""
        self.run.checkpoints.wait()
        if problems := self.run.checkpoints.problems():  # of one process: a state that lies in parts on several is not tried again
            if processes.count() > 1:
                raise UserError(problems[-1])
            self.report.note(f"WARNING: {problems[-1]} Trying once more.")
            self.run.checkpoints.save(state, figures, self.window.saved())
        self.run.checkpoints.close()
        self.report.synchronise()
        if self.report.unwritten:
            raise UserError(f"The last records could not be written to {self.report.lines.path}; the state is saved.")


def _too_many(run: Run, state: TrainState, error: TooManySkipped) -> UserError:
    step, why = error.first, error.why
    try:
        told = run.diagnose(state, step, why)
    except Exception as failed:  # of the whole batch on one device, or of a disk: the run's own error is the one to show
        told = f"The autopsy failed: {shortened(failed)}."
    return UserError(
        f"{run.built.experiment.max_skipped} updates in a row were left out, from step {step} on: {why}. Training stops; parameters are as "
        f"before step {step}, and earlier checkpoints are intact.\n{told}\n"
        f"Lower optimizer.learning_rate, lengthen schedule.warmup_steps, or clip gradients with --set clip_norm=1; or let more be left out "
        f"with --set max_skipped."
    )
