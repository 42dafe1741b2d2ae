"""Saved states, by number of completed updates. Each is checked before it is used.

A checkpoint is the folder `<step>`: `state/`, written by orbax, and `manifest.json`, which says what belongs to it. It is written under
another name and renamed when all of it is on the disk: a folder of that name is whole, or was damaged later.
"""

import contextlib
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnn_jax import processes
from cnn_jax.errors import UserError, shortened
from cnn_jax.files import finite, number_of, unused
from cnn_jax.leftovers import leave_nothing, remove, tidy_up
from cnn_jax.manifest import Damaged, check_files, read_manifest, synchronise, write_manifest
from cnn_jax.state import TrainState
from cnn_jax.state_files import in_short, on_the_host, read_state, write_state
from cnn_jax.tree_difference import name_of
from cnn_jax.window import is_window

_SLOW = 30.0  # seconds after which a save is slow


class Checkpoints:
    """The checkpoints of one workdir. Saving goes on in the background; `close` (or `with`) waits for it.

    Args:
      folder: where they lie, one sub-folder a step. It is created at the first save, not before.
      best_by: the metric that picks the best; "loss" is better when lower, any other when higher.
      keep_best: how many of the best are kept, beside the last.
      keep_every: those of multiples of so many updates are kept as well.
      identity: settings that a state is of; a checkpoint of others is another run's, and not used.
      make_sure: is called before anything is written, and raises OSError where nothing must be.
    """

    def __init__(
        self,
        folder: Path,
        *,
        best_by: str,
        keep_best: int = 1,
        keep_every: int | None = None,
        identity: dict[str, Any] | None = None,
        make_sure: Callable[[], None] = lambda: None,
    ):
        self.folder, self.best_by = folder.absolute(), best_by  # orbax loses checkpoints under a relative path
        self.keep_best, self.keep_every, self.identity = keep_best, keep_every, identity
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saving")
        self._saving: Future | None = None
        self._failed: list[str] = []
        self._home: int | None = None
        self._make_sure = make_sure
        self._mine: set[int] = set()  # steps that were saved or restored here: what lies there is what is to be saved
        self._since, self._asked = 0.0, 0

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, *_) -> None:
        if kind is None:
            self.close()
        self._thread.shutdown()

    def steps(self) -> list[int]:
        """Returns the steps that are there, lowest first, whether they are as they were written or not.

        Raises:
          UserError: the folder cannot be read.
        """
        try:
            return sorted(int(name) for name in os.listdir(self.folder) if re.fullmatch(r"0|[1-9][0-9]{0,9}", name))
        except (FileNotFoundError, NotADirectoryError):
            if self.folder.is_symlink():
                raise UserError(f"{self.folder} is a link to {os.readlink(self.folder)}, which is not there. Mount its disk.") from None
            return []
        except OSError as error:
            why = f"{error.strerror}. Make the folder readable, or use another --workdir."
            raise UserError(f"The checkpoints in {self.folder} cannot be read: {why}") from error

    def fault(self, step: int) -> str | None:
        """Returns what is wrong with a checkpoint; None if it is as it was written, and this run's. Reads all of it."""
        try:
            record = check_files(self.folder / str(step))
        except Damaged as damaged:
            return str(damaged)
        if record.get("step") != step:
            return f"it is of step {shortened(record.get('step'))}"
        if not isinstance(record.get("metrics") or {}, dict) or not is_window(record.get("window")):
            return "its manifest is not of this version's form"
        theirs = record.get("identity")
        for name, ours in (self.identity or {}).items():
            if isinstance(theirs, dict) and theirs.get(name, ours) != ours:
                return f"it is another run's: {name} is {shortened(theirs[name])} there, and {shortened(ours)} here"
        return None

    def last_good(self, say: Callable[[str], None] = print) -> int | None:
        """Returns the last step that can be used, and says which cannot; None where there is none at all.

        Raises:
          UserError: there are checkpoints, and none can be used.
        """
        damaged = []
        for step in reversed(self.steps()):
            fault = self.fault(step)
            if fault is None:
                for line in damaged:
                    say(f"WARNING: {line}")
                if damaged:
                    say(f"WARNING: continuing from step {step}, the newest checkpoint that is good")
                return step
            damaged.append(f"the checkpoint of step {step} in {self.folder} cannot be used: {fault}")
        if damaged:
            lines = "\n".join(f"  {line}" for line in damaged)
            raise UserError(
                f"No checkpoint in {self.folder} can be used:\n{lines}\n"
                f"Bring one back, or move the folder away to start anew, or use another --workdir."
            )
        return None

    def damaged(self) -> Iterator[tuple[int, str]]:
        """Returns (step, what is wrong) of checkpoints whose manifests are damaged: among them the best might have been."""
        for step in self.steps():
            try:
                self.record(step)
            except Damaged as damaged:
                yield step, str(damaged)

    def best_step(self) -> int | None:
        """Returns the step with the best test figure; None where none was measured."""
        return next(iter(self._best()), None)

    def record(self, step: int) -> dict[str, Any]:
        """Returns what was saved beside the state: "metrics", None if not measured, and "window".

        Raises:
          Damaged: it is not as it was written.
        """
        return read_manifest(self.folder / str(step))

    def save(
        self, state: TrainState, metrics: dict[str, float] | None, window: dict[str, Any] | None = None, *, must_be_finite: bool = True
    ) -> None:
        """Starts saving the state under its step, as soon as the save before is done. What fails is told by `problems`.

        Of several processes the first writes; all must call it.

        Args:
          metrics: the test figures at that step, None if they are not measured yet; saved again with them, only they are written.
          window: of `Window.saved`.
          must_be_finite: whether a state that is not is refused: nothing could continue from it.
        """
        step = int(state.step)
        metrics = metrics and {k: v for k, v in metrics.items() if isinstance(v, float)}
        record = {"step": step, "metrics": finite(metrics), "window": window, "identity": self.identity}
        whole = on_the_host(state)
        if not processes.is_first():
            return
        self.wait()
        self._since, self._asked = time.monotonic(), 0
        self._saving = self._thread.submit(self._write, step, whole, record, must_be_finite)

    def wait(self) -> None:
        """Returns when no save is under way."""
        if self._saving is not None:
            self._note(self._saving)
            self._saving = None

    def problems(self) -> list[str]:
        """Returns what has gone wrong with saves since the last call, as far as it is known. What was saved before is intact.

        A save that takes longer than from one call to the next, and half a minute, is a problem as well.
        """
        if self._saving is not None and self._saving.done():
            self.wait()
        problems, self._failed = self._failed, []
        if self._saving is not None:
            self._asked += 1
            seconds = time.monotonic() - self._since
            if self._asked > 1 and seconds > _SLOW:
                self._since = math.inf  # told once
                problems = [*problems, f"A checkpoint is not written to {self.folder} after {seconds:.0f} s: the disk does not answer."]
        return problems

    def close(self) -> None:
        """Waits until all is written.

        Raises:
          UserError: the last save failed.
        """
        self.wait()
        problems = self.problems()
        if problems:
            raise UserError(f"{problems[-1]} Make room, or make the folder writable, and start again with the same --workdir.")

    def restore(self, step: int, like: TrainState) -> TrainState:
        """Returns the state saved at `step`, placed on devices as `like` is; of that, shapes are enough.

        Raises:
          UserError: there is no such step, it is damaged, or it is another model's; says how they differ.
        """
        if step not in self.steps():
            there = ", ".join(map(str, self.steps())) or "none"
            raise UserError(f"No checkpoint of step {step} in {self.folder}. There are: {there}.")
        if (fault := self.fault(step)) is not None:
            raise self._unusable(step, fault)
        try:
            found = read_state(self.folder / str(step) / "state", like)
        except ValueError as error:
            raise self._unusable(step, in_short(error)) from error
        if isinstance(found, str):
            raise UserError(
                f"The checkpoint of step {step} in {self.folder} is of another model or optimizer:\n{found}\n"
                f"Set the same model and optimizer as the run in this workdir, or use another --workdir."
            )
        self._mine.add(step)
        return found

    def _write(self, step: int, whole: TrainState, record: dict[str, Any], must_be_finite: bool) -> None:
        final, partial = self.folder / str(step), self.folder / f".{step}.partial"
        if self._home is None:
            self._make_sure()
            self._home = number_of(self.folder.parent)
        if self._home is None or number_of(self.folder.parent) != self._home:
            leave_nothing(self.folder, partial)
            raise FileNotFoundError(2, f"{self.folder.parent} is gone")
        self._make_sure()
        if step in self._mine and final.exists() and self.fault(step) is None:
            write_manifest(final, {**record, "metrics": record["metrics"] or read_manifest(final)["metrics"]})
            return
        for path, leaf in jax.tree_util.tree_leaves_with_path((whole.params, whole.batch_stats)) if must_be_finite else ():
            if not np.isfinite(leaf).all():
                raise ValueError(f"{name_of(path[1:])} is not finite, and nothing could continue from it")
        self.folder.mkdir(exist_ok=True)
        tidy_up(self.folder)
        partial = unused(partial)  # of another, where what a killed run left cannot be deleted
        partial.mkdir()
        written = partial
        try:
            write_state(partial / "state", whole)
            write_manifest(partial, record)
            self._make_sure()
            self._set_aside(step)
            os.replace(partial, final)
            written = final
            for folder in (self.folder, self.folder.parent):
                synchronise(folder)
            self._mine.add(step)
        finally:
            if number_of(self.folder.parent) != self._home:
                leave_nothing(self.folder, written)
                raise FileNotFoundError(2, f"{self.folder.parent} is gone")
        try:
            self._prune(step)
        except OSError as error:
            self._failed.append(f"Earlier checkpoints could not be deleted from {self.folder}: {in_short(error)}. All of them are intact.")

    def _set_aside(self, step: int) -> None:
        """Checkpoints of this step, and of later ones: a run that is here has not used them, since they are damaged."""
        for old in (old for old in self.steps() if old >= step):
            os.replace(self.folder / str(old), unused(self.folder / f"damaged-{old}"))

    def _prune(self, last: int) -> None:
        """Deletes all but the last, the best, and those to be kept anyway. The last has just been written: it is good."""
        steps = self.steps()
        kept = {last, *self._best()[: self.keep_best]}
        kept |= {step for step in steps if self.keep_every and step % self.keep_every == 0}
        for step in steps:
            if step not in kept:
                remove(self.folder / str(step))

    def _best(self) -> list[int]:
        """The steps whose test figure is known, the best first; of equal ones the later."""
        figures = []
        for step in self.steps():
            with contextlib.suppress(Damaged):
                metrics = self.record(step).get("metrics")
                value = metrics.get(self.best_by) if isinstance(metrics, dict) else None
                if isinstance(value, float) and not math.isnan(value):
                    figures.append((-value if self.best_by == "loss" else value, step))
        return [step for _, step in sorted(figures, reverse=True)]

    def _note(self, saving: Future) -> None:
        error = saving.exception()  # waits
        if error is not None:
            self._failed.append(f"A checkpoint could not be written to {self.folder}: {in_short(error)}. What was saved before is intact.")

    def _unusable(self, step: int, fault: str) -> UserError:
        others = [s for s in self.steps() if s != step]
        way_out = f"Use --step={others[-1]} for another" if others else "No other checkpoint is there"
        return UserError(f"The checkpoint of step {step} in {self.folder} cannot be used: {fault}. {way_out}.")
