"""The folder of a run: its experiment, its environment, its records. Nothing is written before all checks have passed."""

import contextlib
import dataclasses
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from cnn_jax import runtime
from cnn_jax.data.prepared import image_decoder
from cnn_jax.errors import UserError
from cnn_jax.experiment import Experiment, differences, flatten, from_json, to_json
from cnn_jax.files import write_text
from cnn_jax.lock import Lock

LIMIT = 2**20  # bytes of an experiment.json; a longer one is not read
# Settings without which a run is no longer the same one. Others may change between starts; the change is named.
IDENTITY = ("model", "dataset", "loss", "seed", "embedding_size", "embedding_length", "memory_size", "two_views")


def read_experiment(workdir: Path) -> Experiment | None:
    """Returns the experiment a workdir was made with, None if it holds no run.

    Raises:
      UserError: the file is damaged, unreadable, or missing beside checkpoints.

    >>> read_experiment(Path("no such folder")) is None
    True
    """
    path = workdir / "experiment.json"
    try:
        if (size := path.stat().st_size) > LIMIT:
            raise UserError(f"{path} has {size:,} bytes, more than any experiment. Restore it, or use another --workdir.")
        return from_json(path.read_text(), str(path))
    except (FileNotFoundError, NotADirectoryError):
        if os.path.exists(workdir / "checkpoints"):
            raise UserError(
                f"{workdir} holds checkpoints but no experiment.json, so nobody can tell what they are of. Use another --workdir."
            ) from None
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}. Use another --workdir.") from None


def experiment_of(workdir: Path) -> Experiment:
    """Returns the experiment of the run that lies there.

    Raises:
      UserError: there is none, or its file is damaged.

    >>> experiment_of(Path("no such folder"))
    Traceback (most recent call last):
    cnn_jax.errors.UserError: There is no folder no such folder. Train first, or name the folder of a run with --workdir.
    """
    experiment = read_experiment(workdir)
    if experiment is None and not workdir.is_dir():
        raise UserError(f"There is no folder {workdir}. Train first, or name the folder of a run with --workdir.")
    if experiment is None:
        raise UserError(f"{workdir} is not the folder of a run: it holds no experiment.json. Name one that --mode=train has made.")
    return experiment


def identity(experiment: Experiment) -> dict[str, Any]:
    """Returns the settings, defaults included, without which a run is no longer the same one, as JSON has them.

    >>> from cnn_jax.experiment import About, Spec
    >>> identity(Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("digits")))["model"]
    'lenet5'
    """
    return json.loads(json.dumps({name: value for name, value in flatten(experiment).items() if _decides(name)}))


def _decides(name: str) -> bool:
    # Where data lie and what they are read with does not change what they are.
    return name.split(".")[0] in IDENTITY and name != "dataset.data_dir"


def check_continues(old: Experiment, new: Experiment, workdir: Path) -> list[str]:
    """Returns the changed settings as "key: old -> new" lines.

    Raises:
      UserError: one of them makes it another experiment, which needs another workdir.

    >>> from cnn_jax.experiment import About, Spec
    >>> old, new = (
    ...     Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("digits"), num_steps=n)
    ...     for n in (10, 20)
    ... )
    >>> check_continues(old, new, Path("run"))
    ['num_steps: 10 -> 20']
    """
    changed = differences(old, new)
    fatal = [c for c in changed if _decides(c[0])]
    if fatal:
        raise UserError(
            f"The run in {workdir} was made with other settings:\n{_change_lines(fatal)}\n"
            f"Set them as they were to continue it, or use another --workdir for a new run."
        )
    return [_change_line(*c) for c in changed]


def as_computed(experiment: Experiment, workdir: Path) -> Experiment:
    """Returns a workdir's experiment with the precision that its last start computed in, which "auto" leaves to the device.

    >>> from cnn_jax.experiment import About, Spec
    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("digits"))
    >>> as_computed(mine, Path("no such folder")).precision
    'auto'
    """
    precision = experiment.precision  # all that versions before the policy have written
    with contextlib.suppress(OSError, ValueError):  # nothing depends on it but a sentence
        for line in (workdir / "environment.jsonl").read_text().splitlines():
            precision = json.loads(line).get("precision", experiment.precision)
    return dataclasses.replace(experiment, precision=precision)


def _change_lines(changes: list[tuple[str, Any, Any]]) -> str:
    return "\n".join(f"  {_change_line(*c)}" for c in changes)


def _change_line(key: str, old: Any, new: Any) -> str:
    return f"{key}: {old} -> {new}"


def create(workdir: Path, experiment: Experiment, lock: Lock, *, start_step: int, parallel: str, num_devices: int, precision: str) -> None:
    """Makes the folder, takes its lock, writes `experiment.json`, and adds a line on this start to `environment.jsonl`.

    Args:
      lock: of this folder.
      start_step: completed updates at this start.
      parallel: "jit" or "pmap".
      precision: what this start computes in; the experiment's may be "auto".

    Raises:
      UserError: the folder cannot be made or written, or another run writes to it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock.take()
        write_text(workdir / "experiment.json", to_json(experiment))
        record = environment() | {"start_step": start_step, "parallel": parallel, "num_devices": num_devices, "precision": precision}
        with open(workdir / "environment.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise UserError(f"The workdir {workdir} cannot be written: {error.strerror}. Choose another with --workdir.") from None


def environment() -> dict[str, Any]:
    """Returns what a result depends on beside the experiment: command, versions, machine, git state.

    >>> environment()["versions"]["jax"] == jax.__version__
    True
    """
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "grain", "numpy")
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_cores": os.cpu_count(),
        "devices": [d.device_kind for d in jax.local_devices()],
        "image_decoder": image_decoder(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "runtime": runtime.settings(),
        "versions": {p: metadata.version(p) for p in packages},
        "git": git_state(),
    }


def git_state() -> dict[str, Any] | None:
    """Returns the commit of this source tree and whether files differ from it; None outside a repository."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        result = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10, check=True)
        return result.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed_files": git("status", "--porcelain").splitlines()}
    except (OSError, subprocess.SubprocessError):
        return None
