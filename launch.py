"""Trains, evaluates, lists and describes the registered experiments: python launch.py --experiment=digits_resnet; --help lists the flags.

Exit codes: 0 done; 1 a mistake, named; 75 stopped early as asked, saved, the same command continues; 70 stuck; 128 + n left at signal n.
"""

import os
import shlex
import sys
import time
from pathlib import Path

from absl import app, flags, logging

from cnn_jax import processes
from cnn_jax.errors import EXIT_STOPPED, Stopped, UserError, out_of_memory, unknown
from cnn_jax.experiment import Experiment
from cnn_jax.output import unfailing
from experiments import DEFAULT, EXPERIMENTS

# jax and all that stands on it are imported inside the modes: listing the experiments takes no second.
_STARTED = time.monotonic()
_OTHER_MODES = ("evaluate", "list", "describe", "inspect", "kernels", "cache_data", "check_data", "verify_resume", "autopsy")

_EXPERIMENT = flags.DEFINE_string("experiment", None, "The experiment's name; without arguments all are listed.")
_MODE = flags.DEFINE_string("mode", None, f"train (default), {', '.join(_OTHER_MODES)}.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default runs/<experiment>. One that exists is continued.")
_SET = flags.DEFINE_multi_string("set", [], "key=value, changes one setting of the experiment; may be repeated.")
_PARALLEL = flags.DEFINE_string("parallel", "jit", "jit (over a mesh), pmap, or fsdp (the state in parts); the same numbers.")
_NUM_DEVICES = flags.DEFINE_integer("num_devices", None, "Devices to use; default all. A CPU is split into so many.")
_SEED = flags.DEFINE_integer("seed", None, "Random seed of initialisation, data order and augmentation.")
_TINY = flags.DEFINE_bool("tiny", False, "Shrink the experiment to a few seconds on generated data.")
_MODEL = flags.DEFINE_string("model", None, "--mode=inspect: a network by name, instead of an experiment's.")
_INPUT = flags.DEFINE_string("input", None, "--mode=inspect --model: height x width x channels; default 224x224x3.")
_LAYER = flags.DEFINE_string("layer", None, "--mode=inspect: whose receptive field is drawn; default the last with spatial axes.")
_IMAGE = flags.DEFINE_string("image", None, "--mode=kernels: a bundled picture by name, or a file.")
_BORDER = flags.DEFINE_string("border", None, "--mode=kernels: zeros, reflect (default), replicate or circular.")
_OUTPUT = flags.DEFINE_string("output", None, "--mode=inspect: a folder; --mode=kernels: a PNG file. Default in runs/.")
_PROFILE = flags.DEFINE_bool("profile", False, "--mode=train or evaluate: write a trace of a few steps to <workdir>/profile.")
_STEP = flags.DEFINE_integer("step", None, "Checkpoint to evaluate, default the best; --mode=autopsy: the failed update, default the last.")
_MAX_MINUTES = flags.DEFINE_float("max_minutes", None, "--mode=train: after so many, save and end; the same command continues.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "Of several processes: HOST:PORT of the first, or auto. SLURM and MPI need none.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Of several processes: how many there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Of several processes: which this is, from 0.")
_STUCK = flags.DEFINE_float("stuck_minutes", None, "--mode=train or evaluate: so long without progress it ends; of several 30.")

OURS = (
    _EXPERIMENT, _MODE, _WORKDIR, _SET, _PARALLEL, _NUM_DEVICES, _SEED, _TINY, _PROFILE, _STEP, _MAX_MINUTES,
    _MODEL, _INPUT, _LAYER, _IMAGE, _BORDER, _OUTPUT, _COORDINATOR, _NUM_PROCESSES, _PROCESS_ID, _STUCK,
)  # fmt: skip

_RUN, _JOINED = ("experiment", "workdir", "set", "parallel", "num_devices", "seed", "tiny"), ("coordinator", "num_processes", "process_id")
# What each mode reads; any other flag is refused rather than ignored.
_READ_BY = {
    "train": (*_RUN, *_JOINED, "profile", "max_minutes", "stuck_minutes"),
    "describe": _RUN,
    "evaluate": (*_RUN, *_JOINED, "step", "profile", "stuck_minutes"),
    "inspect": ("experiment", "workdir", "set", "seed", "tiny", "step", "model", "input", "layer", "output"),
    "kernels": ("image", "border", "output"),
    "cache_data": ("experiment", "set", "tiny"),
    "check_data": ("experiment", "set", "tiny"),
    "verify_resume": ("experiment", "set", "seed", "tiny", "parallel", "num_devices"),
    "autopsy": ("workdir", "experiment", "set", "step"),
    "list": (),
}


@unfailing()
def main(argv: list[str]) -> None:
    """Runs, and turns a user's mistake into a message and an exit code."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)  # jax, orbax and tfds tell absl about each file otherwise
    try:
        run(argv)
    except (UserError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        processes.end_all(str(error) if isinstance(error, UserError) else out_of_memory(error))
    except Stopped as stopped:
        print(stopped, flush=True)
        sys.exit(EXIT_STOPPED)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues from what was saved", file=sys.stderr, flush=True)
        processes.end_others("interrupted", 130)
        (os._exit if __name__ == "__main__" else sys.exit)(130)  # at once: threads that still compile crash at the interpreter's end


def run(argv: list[str]) -> None:
    """Does what the flags say; UserError if they make no sense."""
    if argv[1:]:
        raise UserError(
            f"Stray argument {argv[1]!r}: everything is a flag. Write --experiment=NAME, --set key=value, --mode=MODE; see --help."
        )
    idle = not any(flags.FLAGS[f.name].present for f in OURS)
    mode = ("list" if idle else "train") if _MODE.value is None else _MODE.value
    if mode not in MODES:
        raise unknown("--mode", mode, MODES)
    if _EXPERIMENT.value is not None and _EXPERIMENT.value not in EXPERIMENTS:
        raise unknown("experiment", _EXPERIMENT.value, EXPERIMENTS)
    if _PARALLEL.value not in ("jit", "pmap", "fsdp"):
        raise unknown("--parallel", _PARALLEL.value, ("jit", "pmap", "fsdp"))
    for flag in (f for f in OURS if flags.FLAGS[f.name].present):
        if flag.name not in ("mode", *_READ_BY[mode]):
            modes = [name for name, read in _READ_BY.items() if flag.name in read]
            raise UserError(f"--{flag.name} belongs to --mode={' or --mode='.join(modes)}; it means nothing in --mode={mode}.")
    for flag in (_WORKDIR, _INPUT, _LAYER, _IMAGE, _OUTPUT):
        if flag.value is not None and not flag.value.strip():
            raise UserError(f"--{flag.name}= is empty. Give it a value, or leave it out. {flags.FLAGS[flag.name].help}")
    for flag in (f for f in (_NUM_DEVICES, _MAX_MINUTES, _STUCK) if f.value is not None and not f.value > 0):
        raise UserError(f"--{flag.name}={flag.value} must be positive, or left out. {flags.FLAGS[flag.name].help}")
    MODES[mode]()


def list_experiments() -> None:
    """Prints the table of experiments. Imports nothing heavy."""
    from cnn_jax.listing import listing
    from cnn_jax.report import console

    console().print(listing(EXPERIMENTS))
    print("time: the whole command on two CPU cores; network: needed once, to prepare the data\n")
    print(f"train one:    python launch.py --experiment={DEFAULT}\nlook closer:  python launch.py --experiment={DEFAULT} --mode=describe")


def describe() -> None:
    """Prints the resolved experiment, its layers and its costs."""
    from cnn_jax.description import description
    from cnn_jax.report import console

    experiment, registered = _chosen()
    console().print(description(experiment, registered, _command()))


def train() -> None:
    """Trains, or continues, and compares the result with the expected range."""
    _set_up()
    from cnn_jax.report import say
    from cnn_jax.train import train as train_experiment
    from cnn_jax.verdict import changes, verdict

    experiment, registered = _chosen()
    workdir = Path(_WORKDIR.value or f"runs/{experiment.name}{'_tiny' if _TINY.value else ''}")
    deadline = None if _MAX_MINUTES.value is None else _STARTED + 60 * _MAX_MINUTES.value
    figures = train_experiment(experiment, workdir, **_devices(), **_watched(), deadline=deadline)
    say(verdict(experiment, figures, changes(registered, experiment)))
    say(f"next: python launch.py --mode=evaluate --workdir={shlex.quote(str(workdir))}")


def evaluate() -> None:
    """Evaluates a checkpoint of a workdir."""
    _set_up()
    from cnn_jax.evaluate import evaluate_workdir

    if _WORKDIR.value is None and _EXPERIMENT.value is None:
        raise UserError("--mode=evaluate needs --workdir=FOLDER, the folder of a run (runs/<experiment> by default).")
    workdir = Path(_WORKDIR.value or f"runs/{_EXPERIMENT.value}")
    evaluate_workdir(workdir, _of_workdir(workdir), step=_STEP.value, **_devices(), **_watched())


def inspect() -> None:
    """Prints a network's layers with shapes, costs and receptive fields, and draws what one output sees."""
    from cnn_jax.build import build
    from cnn_jax.inspection import inspect as inspect_model
    from cnn_jax.precision import settled
    from cnn_jax.report import console

    experiment, variables = _model_chosen() if _MODEL.value is not None else _run_or_experiment()
    built = build(settled(experiment, "cpu"))  # gradients are looked at in float32, on any device
    name = experiment.model.name if _MODEL.value is not None else f"{experiment.name} ({experiment.model.name})"
    folder = Path(_OUTPUT.value or f"runs/inspect/{experiment.name}")
    report = inspect_model(built.model, built.dataset.input_shape, folder, name=name, variables=variables, layer=_LAYER.value)
    console(min_width=190).print(report)


def kernels() -> None:
    """Draws a picture through every hand-designed kernel."""
    from cnn_jax.kernel_sheet import draw_kernel_sheet, load_picture

    path, border = Path(_OUTPUT.value or "runs/kernels.png"), "reflect" if _BORDER.value is None else _BORDER.value
    names = draw_kernel_sheet(load_picture(_IMAGE.value or "chelsea"), path, border=border)
    print(f"wrote {path}: {len(names)} kernels ({', '.join(names)})")


def cache_data() -> None:
    """Writes the decoded images of an experiment's data to disk."""
    from cnn_jax import cache_data

    cache_data.cache_data(_chosen()[0])
    print(f"next: {_command()}")


def check_data() -> None:
    """Reads all data of an experiment once, and says what is wrong with them."""
    from cnn_jax import check_data

    check_data.check_data(_chosen()[0])


def verify_resume() -> None:
    """Kills short runs of an experiment, and compares what continues with a run in one go."""
    from cnn_jax import verify_resume

    verify_resume.verify_resume(_chosen()[0], **_devices())


def autopsy() -> None:
    """Looks again at an update that made a run end, since it was not finite."""
    from cnn_jax import autopsy
    from cnn_jax.build import build

    if _WORKDIR.value is None:
        raise UserError("--mode=autopsy needs --workdir=FOLDER, the folder of the run that ended.")
    autopsy.examine_again(Path(_WORKDIR.value), build(_of_workdir(Path(_WORKDIR.value))), step=_STEP.value)


MODES = {
    "train": train, "evaluate": evaluate, "list": list_experiments, "describe": describe, "inspect": inspect, "kernels": kernels,
    "cache_data": cache_data, "check_data": check_data, "verify_resume": verify_resume, "autopsy": autopsy,
}  # fmt: skip


def _model_chosen() -> tuple[Experiment, None]:
    """A bare model as an experiment on made-up data of --input's shape, so that --set model.option=value works as elsewhere."""
    from cnn_jax.inspection import bare_model

    for flag in (f for f in (_EXPERIMENT, _WORKDIR) if f.value is not None):
        raise UserError(f"--model={_MODEL.value} and --{flag.name}={flag.value} name two networks. Leave one out.")
    for flag in (f for f in (_STEP, _SEED, _TINY) if flags.FLAGS[f.name].present):
        raise UserError(f"--{flag.name} means nothing for a bare --model; it belongs to an experiment or a run.")
    return bare_model(_MODEL.value, _INPUT.value or "224x224x3", _SET.value), None


def _run_or_experiment():
    """The experiment of a workdir with its trained variables, or a registered one and None."""
    if _INPUT.value is not None:
        raise UserError(f"--input={_INPUT.value} needs --model=NAME; an experiment's images have the shape of its data.")
    if _WORKDIR.value is None and _STEP.value is not None:
        raise UserError(f"--step={_STEP.value} needs --workdir=FOLDER, the run whose checkpoint it is. Leave it out for a new network.")
    if _WORKDIR.value is None:
        return _chosen()[0], None
    from cnn_jax.evaluate import restored

    workdir = Path(_WORKDIR.value)
    return (experiment := _of_workdir(workdir)), restored(workdir, experiment, step=_STEP.value)


def _of_workdir(workdir: Path) -> Experiment:
    """The experiment whose run lies there, with --set applied."""
    from cnn_jax.override import override_all
    from cnn_jax.workdir import experiment_of

    if _TINY.value or _SEED.value is not None:
        raise UserError(f"--tiny and --seed belong to training; --mode={_MODE.value} takes the experiment from its workdir.")
    experiment = experiment_of(workdir)
    if _EXPERIMENT.value not in (None, experiment.name):
        raise UserError(f"{workdir} is a run of {experiment.name}, not of {_EXPERIMENT.value}. Leave --experiment out.")
    return override_all(experiment, _SET.value)


def _set_up() -> None:
    from cnn_jax import runtime

    runtime.set_up(_NUM_DEVICES.value)
    processes.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)


def _devices() -> dict:
    return {"mode": _PARALLEL.value, "num_devices": _NUM_DEVICES.value}


def _watched() -> dict:
    return {"profile": _PROFILE.value, "stuck_after": _STUCK.value and 60 * _STUCK.value}


def _chosen() -> tuple[Experiment, Experiment]:
    """The experiment with --tiny, --set and --seed applied, in this order, and as it is registered."""
    from cnn_jax.check import check
    from cnn_jax.override import override_all
    from cnn_jax.tiny import tiny

    if _EXPERIMENT.value is None and _WORKDIR.value is not None:
        raise UserError(f"--workdir={_WORKDIR.value} needs --experiment=NAME to train, or --mode=evaluate to evaluate what is there.")
    registered = EXPERIMENTS[_EXPERIMENT.value or DEFAULT]
    experiment = tiny(registered) if _TINY.value else registered
    assignments = _SET.value if _SEED.value is None else [*_SET.value, f"seed={_SEED.value}"]
    experiment = override_all(experiment, assignments)
    check(experiment)
    return experiment, registered


def _command() -> str:
    """The command that trains what the present flags describe."""
    words = ["python", "launch.py", f"--experiment={_EXPERIMENT.value or DEFAULT}", *(["--tiny"] if _TINY.value else [])]
    words += [word for assignment in _SET.value for word in ("--set", assignment)]
    words += [f"--{flag.name}={flag.value}" for flag in (_WORKDIR, _SEED, _NUM_DEVICES) if flag.value is not None]
    words += [] if _PARALLEL.value == "jit" else [f"--parallel={_PARALLEL.value}"]
    return shlex.join(words)


if __name__ == "__main__":
    app.run(main)
