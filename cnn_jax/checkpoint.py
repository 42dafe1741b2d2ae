"""Saved states, by number of completed updates: the best and the last are kept. The only importer of orbax."""

import contextlib
import logging
import math
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from cnn_jax.errors import UserError
from cnn_jax.state import TrainState
from cnn_jax.types import PyTree


class Checkpoints:
    """The checkpoints of one workdir. Saving goes on in the background; `close` (or `with`) waits for it.

    Args:
      folder: where they lie, one sub-folder a step. It is created at the first save, not before.
      best_by: the metric that picks the best; "loss" is better when lower, any other when higher.
      read_only: saves nothing and tidies nothing up: another process may be training here.
    """

    def __init__(self, folder: Path, *, best_by: str, read_only: bool = False):
        self.folder, self.best_by = folder.absolute(), best_by  # orbax loses checkpoints under a relative path
        self.read_only = read_only
        self._manager: ocp.CheckpointManager | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def manager(self) -> ocp.CheckpointManager:
        if self._manager is None:
            logging.getLogger("absl").setLevel(logging.ERROR)  # orbax reports every file otherwise
            best = policies.BestN(get_metric_fn=self._goodness, n=1, keep_checkpoints_without_metrics=False)
            options = ocp.CheckpointManagerOptions(
                best_fn=self._goodness,
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(1), best]),
                cleanup_tmp_directories=not self.read_only,  # what a killed run left half written
                read_only=self.read_only,
            )
            self._manager = ocp.CheckpointManager(
                self.folder, options=options, item_handlers=ocp.StandardCheckpointHandler()
            )
        return self._manager

    def steps(self) -> list[int]:
        """Returns the steps that are there, lowest first.

        Raises:
          UserError: the folder cannot be read, or what it says of its checkpoints is damaged.
        """
        try:
            return sorted(self.manager.all_steps()) if self.folder.is_dir() else []
        except (OSError, ValueError) as error:
            raise UserError(
                f"The checkpoints in {self.folder} cannot be read: {_first_line(error)}. Make the folder readable, or move the "
                f"damaged one away, or use another --workdir."
            ) from error

    def last_step(self) -> int | None:
        """Returns the last step that was saved."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """Returns the saved step with the best test figure; None where none was measured."""
        return self.manager.best_step() if self.steps() else None

    def save(self, state: TrainState, metrics: dict[str, float] | None) -> None:
        """Starts saving the state under its step. `metrics` are the test figures at that step, if measured.

        Raises:
          UserError: this save, or the one before it in the background, failed; what was saved earlier is intact.
        """
        step = int(state.step)
        if metrics is not None:
            metrics = {k: v for k, v in metrics.items() if isinstance(v, float)}
        try:
            self.manager.check_for_errors()
            if not self.manager.save(step, args=ocp.args.StandardSave(_first_copies(state)), metrics=metrics):
                raise OSError("orbax declined to save")
        except (OSError, ValueError) as error:
            raise self._save_error(step, error) from error

    def close(self) -> None:
        """Waits until all is written.

        Raises:
          UserError: the last save failed.
        """
        if self._manager is None:
            return
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            raise self._save_error(None, error) from error
        finally:
            manager, self._manager = self._manager, None
            with contextlib.suppress(OSError, ValueError):
                manager.close()

    def restore(self, step: int, like: TrainState) -> TrainState:
        """Returns the state saved at `step`, placed on devices as `like` is; of that, shapes are enough.

        Raises:
          UserError: there is no such step, its files cannot be read, or it is another model's; says how they differ.
        """
        if step not in self.steps():
            there = ", ".join(map(str, self.steps())) or "none"
            raise UserError(f"No checkpoint of step {step} in {self.folder}. There are: {there}.")
        try:
            saved = _shapes(self.manager.item_metadata(step).tree)
        except Exception as error:  # orbax raises a dozen kinds here; each means the same to the user
            raise self._read_error(step, error) from error
        difference = tree_difference(saved, _shapes(_raw_keys(like)))
        if difference:
            raise UserError(
                f"The checkpoint of step {step} in {self.folder} is of another model or optimizer:\n{difference}\n"
                f"Set the same model and optimizer as the run in this workdir, or use another --workdir."
            )
        try:
            target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
            return self.manager.restore(step, args=ocp.args.StandardRestore(target))
        except Exception as error:  # as above
            raise self._read_error(step, error) from error

    def _goodness(self, metrics: dict[str, float]) -> float:
        value = metrics.get(self.best_by, math.nan)
        if math.isnan(value):
            return -math.inf
        return -value if self.best_by == "loss" else value

    def _save_error(self, step: int | None, error: Exception) -> UserError:
        which = f"of step {step} " if step is not None else ""
        return UserError(
            f"A checkpoint {which}could not be written to {self.folder}: {error}. What was saved before is intact. Make room, "
            f"or make the folder writable, and start again with the same --workdir: the run continues."
        )

    def _read_error(self, step: int, error: Exception) -> UserError:
        others = [s for s in self.steps() if s != step]
        way_out = f"Use --step={others[-1]} to evaluate another" if others else "No other checkpoint is there"
        return UserError(
            f"The checkpoint of step {step} in {self.folder} cannot be read (damaged, or not this program's): "
            f"{_first_line(error)}. {way_out}; to continue training, move {self.folder / str(step)} away first."
        )


def tree_difference(saved: dict[str, tuple], wanted: dict[str, tuple], *, most: int = 12) -> str:
    """Returns a line for each array that is missing, unexpected, or of another shape or type; "" if there is none.

    >>> print(tree_difference({"a": ((2,), "float32")}, {"a": ((3,), "float32"), "b": ((), "int32")}))
      a: saved (2,) float32, this model (3,) float32
      b: not in the checkpoint, this model () int32
    """
    lines = []
    for name in sorted({*saved, *wanted}):
        if saved.get(name) == wanted.get(name):
            continue
        there, here = (f"{t[name][0]} {t[name][1]}" if name in t else None for t in (saved, wanted))
        before = f"saved {there}" if there else "not in the checkpoint"
        lines.append(f"  {name}: {before}, {f'this model {here}' if here else 'not in this model'}")
    if len(lines) > most:
        lines[most:] = [f"  … and {len(lines) - most} more"]
    return "\n".join(lines)


def _first_copies(state: TrainState) -> TrainState:
    """The state on one device, where each holds it whole: of several copies orbax cuts a part from each, and compiles each cut."""
    if jax.process_count() > 1:  # then each process has its part to write
        return state
    return jax.tree.map(lambda x: x.addressable_data(0) if x.is_fully_replicated else x, state)


def _shapes(tree: PyTree) -> dict[str, tuple]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape") and hasattr(x, "dtype"))
    return {_name(path): (tuple(leaf.shape), np.dtype(leaf.dtype).name) for path, leaf in leaves}


def _name(path) -> str:
    """One spelling for attributes, keys and indices: orbax turns all of them into keys."""
    return "/".join(str(getattr(p, "name", getattr(p, "key", getattr(p, "idx", p)))) for p in path)


def _raw_keys(state: TrainState) -> TrainState:
    """Random keys are stored as the integers they hold."""
    return state.replace(key=jax.eval_shape(jax.random.key_data, state.key))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
