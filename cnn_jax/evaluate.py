"""Test figures of a state: every example once, sums and counts added up, divided at the end."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Group

from cnn_jax import processes
from cnn_jax.build import Built, build, first_state
from cnn_jax.checkpoint import Checkpoints
from cnn_jax.data.faults import BadExamples, check_labels
from cnn_jax.data.feed import Ahead
from cnn_jax.data.pipeline import OnBad, empty_batch, eval_batches
from cnn_jax.data.source import Part, Source
from cnn_jax.embedding_files import retrieval_table, write_embedding_files
from cnn_jax.errors import UserError
from cnn_jax.experiment import Experiment
from cnn_jax.files import finite, write_text
from cnn_jax.metrics.retrieval import Retrieval, cmc_curve, per_class
from cnn_jax.options import reads
from cnn_jax.parallel import Parallel, make_parallel
from cnn_jax.precision import explained
from cnn_jax.profiling import Trace
from cnn_jax.registry import REPORTS
from cnn_jax.report import console, say, spelled, table, timed
from cnn_jax.state import TrainState
from cnn_jax.step import Measures, make_eval_step
from cnn_jax.types import PyTree
from cnn_jax.watchdog import Watchdog
from cnn_jax.workdir import as_computed, check_data_folder, identity, identity_of_run, read_experiment


class Evaluation(NamedTuple):
    """Figures over a test set; `outputs` and `targets` are of its examples in order. `figures` are the plain numbers.

    `retrieval` is what each example found among the others, where outputs are embeddings. `places` in the test set are of the examples that
    could be evaluated; None for all.
    """

    results: dict[str, Any]
    outputs: np.ndarray
    targets: np.ndarray
    num_examples: int
    retrieval: Retrieval | None = None
    places: np.ndarray | None = None

    @property
    def figures(self) -> dict[str, float]:
        return {name: value for name, value in self.results.items() if isinstance(value, float)}

    @property
    def indices(self) -> np.ndarray:
        return np.arange(self.num_examples) if self.places is None else self.places


class Evaluator:
    """Evaluates states of one experiment on one source. The step is compiled at the first call, once."""

    def __init__(self, built: Built, parallel: Parallel, source: Source, on_bad: OnBad | None = None):
        experiment, self.on_bad = built.experiment, on_bad
        self.built, self.parallel, self.source, self.workers = built, parallel, source, experiment.workers
        # The examples of a batch do not depend on the devices, or a loss over pairs would: only the padding does.
        self.batch_size = min(experiment.eval_batch_size, len(source))
        self.padded_size = -(-self.batch_size // parallel.num_devices) * parallel.num_devices
        self.step = make_eval_step(
            built.model, built.loss_fn, built.metric_fns, standardise=built.standardise, axis_name=parallel.axis_name
        )
        self.compiled = None

    def compile(self, variables: PyTree) -> None:
        """Compiles the step for batches of this source."""
        batch = self.parallel.shard(empty_batch(self.padded_size // processes.count(), self.built.dataset.input_shape))
        with timed("compiling the evaluation step"):
            self.compiled = self.parallel.compile(self.step, variables, batch, donate=False)
        processes.barrier("compiled for evaluation")

    def __call__(self, variables: PyTree, *, stop: Callable[[], bool | None] = lambda: False) -> Evaluation | None:
        """Returns the figures; None if `stop`, asked after each batch, said so before they were there."""
        if self.compiled is None:
            self.compile(variables)
        totals, outputs, targets, valid = None, [], [], []
        for measures, examples in self._computed(variables):
            # Summed in float64 and int64 on the host: a float32 count would stop at 2²⁴.
            measures = jax.tree.map(lambda x: np.asarray(x, np.float64 if np.issubdtype(x.dtype, np.floating) else np.int64), measures)
            totals = measures if totals is None else jax.tree.map(np.add, totals, measures)
            batch_outputs, batch_targets, counted = map(np.asarray, examples)
            outputs.append(batch_outputs[counted])
            targets.append(batch_targets[counted])
            valid.append(counted[: self.batch_size])
            if stop():
                return None
        outputs, targets = np.concatenate(outputs), np.concatenate(targets)
        results = {name: total.result() for name, total in totals.items()}
        # The ranking and the clusters take long: each is made once, for all figures that are read off it.
        needed = {reads(function) for function in self.built.retrieval_fns.values()}
        needed |= {"retrieval"} if self.built.outputs == "embeddings" else set()
        reports = {name: REPORTS[name](outputs, targets) for name in sorted(needed)}
        results |= {name: function(reports[reads(function)]) for name, function in self.built.retrieval_fns.items()}
        retrieval = reports.get("retrieval")
        if retrieval is not None:
            results["lone_labels"] = retrieval.num_lone
            results["cmc"] = cmc_curve(retrieval)
            results["retrieval_per_class"] = per_class(retrieval)
        places = None if len(targets) == len(self.source) else np.flatnonzero(np.concatenate(valid))
        return Evaluation(results, outputs, targets, len(targets), retrieval, places)

    def _computed(self, variables: PyTree) -> Iterator[tuple[Measures, tuple[PyTree, jax.Array, jax.Array]]]:
        """What the step makes of each batch, one late: so the host brings the next and reads the last while the device computes."""
        sizes = {"batch_size": self.batch_size, "padded_size": self.padded_size}
        rows = None if processes.count() == 1 else processes.share(self.padded_size)
        batches = eval_batches(self.source, **sizes, workers=self.workers, rows=rows, on_bad=self.on_bad)
        ahead, last = Ahead(batches, place=self.parallel.shard), None
        for placed in ahead:
            present = self.compiled(variables, placed)
            ahead.fetch()
            if last is not None:
                yield last
            last = present
        if last is not None:
            yield last


def evaluate_workdir(
    workdir: Path,
    experiment: Experiment,
    *,
    step: int | None,
    mode: str,
    num_devices: int | None,
    profile: bool = False,
    stuck_after: float | None = None,
) -> Evaluation:
    """Evaluates a checkpoint of a workdir, prints a table, writes `evaluation.json` and `predictions.csv` there.

    Args:
      experiment: as read from the workdir, perhaps with harmless changes.
      step: of the checkpoint; None takes the best.
      profile: whether a trace of a few batches is written, to `profile/` in the workdir.
      stuck_after: of `Watchdog`.

    Raises:
      UserError: there is no such checkpoint, or it cannot be read.
    """
    parallel = make_parallel(mode, num_devices)
    built = build(experiment, axis_name=parallel.axis_name)
    processes.check_same("the experiment", identity(experiment))
    check_data_folder(workdir, experiment)
    chosen, state = restore(workdir, built, parallel, step=step)
    with processes.first_alone("data"):
        source = built.dataset.open("test")
    trained_in, precision = as_computed(experiment, workdir).precision, built.experiment.precision
    if trained_in not in (precision, "auto"):
        say(f"computed in {explained(experiment.precision, jax.default_backend())}; its training last computed in {trained_in}")
    check_labels(source, "test", built.dataset.num_classes)
    bad = BadExamples(workdir / "bad_test_examples.jsonl", max_fraction=experiment.max_bad_fraction, say=say)
    evaluator = Evaluator(built, parallel, source, on_bad=bad.of("test", source))
    evaluator.compile(state.eval_variables)
    calls = -(-len(source) // evaluator.batch_size)
    traced = Trace(evaluator.compiled, workdir / "profile", num_calls=calls) if profile else nullcontext(evaluator.compiled)
    with traced as evaluator.compiled, Watchdog(stuck_after) as watchdog:
        evaluation = evaluator(state.eval_variables, stop=watchdog.alive)
    if not processes.is_first():
        return evaluation
    say(f"evaluated {evaluation.num_examples} of {len(source)}")
    console().print(evaluation_tables(evaluation, built))
    try:
        record = {"step": chosen, "num_examples": evaluation.num_examples, "precision": precision, **evaluation.results}
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in finite(record).items()]
        write_text(workdir / "evaluation.json", "{\n" + ",\n".join(lines) + "\n}\n")
        write_predictions(workdir / "predictions.csv", evaluation, built.outputs)
    except OSError as error:
        raise UserError(f"The results cannot be written to {workdir}: {error.strerror}.") from None
    say(f"wrote {workdir / 'evaluation.json'} and {workdir / 'predictions.csv'}")
    if evaluation.retrieval is not None:
        seen = source if evaluation.places is None else Part(source, evaluation.places)
        write_embedding_files(workdir, evaluation.outputs, evaluation.retrieval, seen, built.dataset.class_names)
    return evaluation


def restore(workdir: Path, built: Built, parallel: Parallel, *, step: int | None) -> tuple[int, TrainState]:
    """Returns (step, state) of a checkpoint of the workdir, and says which it is; None takes the best.

    Raises:
      UserError: there is no such checkpoint, or it cannot be read.
    """
    best_by, run = built.experiment.best_by, read_experiment(workdir)
    with Checkpoints(workdir / "checkpoints", best_by=best_by, identity=identity_of_run(workdir, run or built.experiment)) as checkpoints:
        for damaged, why in checkpoints.damaged():
            say(f"WARNING: the checkpoint of step {damaged} in {checkpoints.folder} cannot be used: {why}")
        best = checkpoints.best_step()
        chosen = step if step is not None else best if best is not None else max(checkpoints.steps(), default=None)
        if chosen is None:
            raise UserError(f"{workdir} holds no checkpoint yet. Train first, with the same --workdir.")
        processes.check_same("the checkpoint", chosen)
        state = checkpoints.restore(chosen, restore_target(built, parallel))
    which = f", the best by {best_by}" if chosen == best else ""
    say(f"{workdir}: checkpoint of step {chosen}{which}{', averaged parameters' if state.ema else ''}")
    return chosen, state


def restored(workdir: Path, experiment: Experiment, *, step: int | None) -> PyTree:
    """Returns the variables that a run is evaluated with, on one device.

    Raises:
      UserError: as `restore`.
    """
    return restore(workdir, build(experiment), make_parallel("jit", 1), step=step)[1].eval_variables


def restore_target(built: Built, parallel: Parallel) -> TrainState:
    """Returns the shapes of the experiment's state, and where a restored one is to be placed: what `Checkpoints.restore` asks for."""
    return parallel.shapes(partial(first_state, built))


def evaluation_tables(evaluation: Evaluation, built: Built) -> Group:
    """Returns the figures as a table, and each class's precision and recall, or what its examples find among all embeddings."""
    tables = [table(["test metric", "value"], [[spelled(name), value] for name, value in evaluation.figures.items()])]
    if "confusion" in evaluation.results:
        confusion, names = evaluation.results["confusion"], built.dataset.class_names
        columns = ["class", "examples", "precision", "recall"]
        values = zip(names, confusion["examples"], confusion["precision"], confusion["recall"], strict=True)
        rows = [list(row) for row in values]
        if len(names) <= 20:  # the whole matrix still fits on a screen
            columns += [f"→ {name}" for name in names]
            rows = [row + counts for row, counts in zip(rows, confusion["matrix"], strict=True)]
        tables.append(table(columns, rows))
    if evaluation.retrieval is not None:
        tables.append(retrieval_table(evaluation.retrieval, built.dataset.class_names))
    return Group(*tables)


def write_predictions(path: Path, evaluation: Evaluation, outputs: str) -> None:
    """Writes a line an example: its label and what the model made of it.

    Args:
      outputs: what the model ends in: "logits", "embeddings" or "scores".

    Raises:
      OSError: the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_predictions(Path(folder, "predictions.csv"), Evaluation({}, np.array([0.5]), np.array([1]), 1), "scores")
    ...     print(Path(folder, "predictions.csv").read_text())
    index,target,score
    0,1,0.5
    """
    rows_of = {"logits": _class_rows, "embeddings": _neighbour_rows, "scores": _score_rows, "distances": _pair_rows}
    header, rows = rows_of[outputs](evaluation)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _class_rows(evaluation: Evaluation) -> tuple[list[str], Iterable[tuple]]:
    probabilities = np.asarray(jax.nn.softmax(jnp.asarray(evaluation.outputs)))
    predicted = probabilities.argmax(1)
    rows = zip(evaluation.indices, evaluation.targets, predicted, probabilities.max(1).round(6), strict=True)
    return ["index", "label", "prediction", "probability"], rows


def _neighbour_rows(evaluation: Evaluation) -> tuple[list[str], Iterable[tuple]]:
    nearest = evaluation.retrieval.nearest
    distances = np.linalg.norm(evaluation.outputs - evaluation.outputs[nearest], axis=1).round(6)
    indices = evaluation.indices
    rows = zip(indices, evaluation.targets, indices[nearest], evaluation.targets[nearest], distances, strict=True)
    return ["index", "label", "nearest", "nearest_label", "distance"], rows


def _score_rows(evaluation: Evaluation) -> tuple[list[str], Iterable[tuple]]:
    return ["index", "target", "score"], zip(evaluation.indices, evaluation.targets, evaluation.outputs, strict=True)


def _pair_rows(evaluation: Evaluation) -> tuple[list[str], Iterable[tuple]]:
    return ["index", "same", "distance"], zip(evaluation.indices, evaluation.targets, evaluation.outputs, strict=True)
