"""The folder of a run: its experiment, its environment, its records. Nothing is written before all checks have passed."""

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from cnn_jax import runtime
from cnn_jax.data.dataset import Dataset
from cnn_jax.data.prepared import image_decoder
from cnn_jax.errors import UserError
from cnn_jax.experiment import Experiment, differences, flatten, from_json, to_json
from cnn_jax.files import not_through_a_link, read_short, write_text
from cnn_jax.lock import Lock
from cnn_jax.manifest import Damaged, read_manifest

LIMIT = 2**20  # bytes of an experiment.json; a longer one is not read
NUMBER = "number of the run"  # in the identity of its checkpoints
_LONGEST = 2**26  # bytes of the starts of a run
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
        return from_json(read_short(path, LIMIT).decode(), str(path))
    except (FileNotFoundError, NotADirectoryError):
        if os.path.exists(workdir / "checkpoints"):
            raise UserError(
                f"{workdir} holds checkpoints but no experiment.json, so nobody can tell what they are of. Use another --workdir."
            ) from None
        return None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read: {why}. Restore it, or use another --workdir.") from None


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


def check_data_folder(workdir: Path, experiment: Experiment) -> None:
    """Raises UserError if the data are to be in a folder that is not there: one is not made because a file says so."""
    place = None if experiment.dataset.name == "generated" else experiment.dataset.kwargs.get("data_dir")
    if place is not None and not Path(place).expanduser().is_dir():
        raise UserError(f"The data of {workdir} are to be in {place}, which is no folder. Name theirs with --set dataset.data_dir=FOLDER.")


def identity(experiment: Experiment) -> dict[str, Any]:
    """Returns the settings, defaults included, without which a run is no longer the same one, as JSON has them.

    >>> from cnn_jax.experiment import About, Spec
    >>> identity(Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("digits")))["model"]
    'lenet5'
    """
    return json.loads(json.dumps({name: value for name, value in flatten(experiment).items() if _decides(name)}))


def identity_of_run(workdir: Path, experiment: Experiment, dataset: Dataset | None = None) -> dict[str, Any]:
    """Returns what a checkpoint must be of to be this run's: the settings of `identity`, the data, and the folder's own number.

    Args:
      dataset: None leaves the data out: who only evaluates may have others.
    """
    found = dict(identity(experiment))
    if dataset is not None:
        classes = hashlib.sha256(repr(dataset.class_names).encode()).hexdigest()[:16]
        found |= {"train examples": dataset.num_train, "test examples": dataset.num_test, "names of classes": classes}
        found |= {} if dataset.contents is None else {"names of files": dataset.contents}
    return found | ({} if (number := number_of_run(workdir)) is None else {NUMBER: number})


def number_of_run(workdir: Path) -> str | None:
    """Returns what tells a run from others of the same settings; None where none has begun, or an earlier version began it.

    Where the record of its starts is lost, its last checkpoint knows.
    """
    found = [record.get("run") for record in _starts(workdir)]
    for folder in sorted((workdir / "checkpoints").glob("[0-9]*"), key=lambda path: path.name.zfill(12), reverse=True):
        with contextlib.suppress(Damaged):
            identity = read_manifest(folder).get("identity")
            found.append(identity.get(NUMBER) if isinstance(identity, dict) else None)
    return next((number for number in found if isinstance(number, str)), None)


def _starts(workdir: Path) -> list[dict[str, Any]]:
    """The records of `environment.jsonl`, without what is no record."""
    found = []
    with contextlib.suppress(OSError):
        for line in read_short(workdir / "environment.jsonl", _LONGEST).splitlines():
            with contextlib.suppress(ValueError, RecursionError):  # the first is UnicodeDecodeError too
                found.append(json.loads(line))
    return [record for record in found if isinstance(record, dict)]


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
    precisions = [record["precision"] for record in _starts(workdir) if record.get("precision") in ("float32", "bfloat16")]
    # Versions before the policy have written none.
    return dataclasses.replace(experiment, precision=precisions[-1] if precisions else experiment.precision)


def _change_lines(changes: list[tuple[str, Any, Any]]) -> str:
    return "\n".join(f"  {_change_line(*c)}" for c in changes)


def _change_line(key: str, old: Any, new: Any) -> str:
    return f"{key}: {old} -> {new}"


def create(
    workdir: Path, experiment: Experiment, lock: Lock, *, run: str, start_step: int, parallel: str, num_devices: int, precision: str
) -> None:
    """Makes the folder, takes its lock, writes `experiment.json`, and adds a line on this start to `environment.jsonl`.

    Args:
      lock: of this folder.
      run: of `number_of_run`, or a new one.
      start_step: completed updates at this start.
      parallel: "jit" or "pmap".
      precision: what this start computes in; the experiment's may be "auto".

    Raises:
      UserError: the folder cannot be made or written, or another run writes to it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock.take()
        for name in os.listdir(workdir):  # what a run that was killed has not renamed
            if re.fullmatch(r"\.(experiment\.json|\w+\.jsonl)\.\w{8}", name):
                (workdir / name).unlink()
        write_text(workdir / "experiment.json", to_json(experiment))
        record = environment() | {"start_step": start_step, "parallel": parallel, "num_devices": num_devices, "precision": precision}
        record |= {"run": run}
        with open(workdir / "environment.jsonl", "a", opener=not_through_a_link) as file:
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
