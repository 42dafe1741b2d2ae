"""Small experiments and runs of them, shared by the tests."""

import dataclasses
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
from absl import flags

import launch as launch_module
from cnn_jax.build import Built, build, first_state
from cnn_jax.data.pipeline import train_batches
from cnn_jax.experiment import About, Experiment, Spec
from cnn_jax.parallel import make_parallel
from cnn_jax.state import TrainState
from cnn_jax.train import make_step

REPOSITORY = Path(__file__).parent.parent

CLASSIFIER = Experiment(
    name="classifier",
    about=About(shows="for tests", num_params=0),
    model=Spec("resnet8", width=8, stage_sizes=(1,)),
    dataset=Spec("generated", shape=(8, 8, 1), num_classes=4, num_train=50, num_test=37),
    augment=(Spec("random_flip"), Spec("random_shift", pixels=1)),
    metrics=(Spec("accuracy"), Spec("confusion")),
    optimizer=Spec("sgd", learning_rate=0.05, weight_decay=1e-3),
    schedule=Spec("constant"),
    batch_size=16,
    eval_batch_size=10,
    num_steps=30,
    log_every=5,
    eval_every=13,
    ema_decay=0.9,
)
TRIPLET = dataclasses.replace(
    CLASSIFIER,
    name="triplet",
    loss=Spec("triplet_batch_all", margin=0.5),
    metrics=(),
    retrieval=(Spec("recall_at_k", k=1),),
    best_by="recall_at_1",
    embedding_size=6,
)


def start(built: Built) -> TrainState:
    """Returns the first state, compiled as one program: its eager operations take ten times as long."""
    return jax.jit(partial(first_state, built))()


def run_steps(experiment: Experiment, mode: str, num_devices: int, num_steps: int) -> tuple[TrainState, list[list[float]]]:
    """Returns the state after some updates, and each update's loss and gradient norm."""
    parallel = make_parallel(mode, num_devices)
    built = build(experiment, axis_name=parallel.axis_name)
    state = parallel.make(partial(first_state, built))
    compiled, measured = None, []
    source = built.dataset.open("train")
    order = built.sampler(source, experiment.batch_size)
    batches = train_batches(source, order, seed=0, start_step=0, num_steps=num_steps, workers=0)
    for batch in batches:
        batch = parallel.shard(batch)
        compiled = compiled or parallel.compile(make_step(built, parallel), state, batch, donate=True)
        state, measures = compiled(state, batch)
        measured.append([measures[name].result() for name in ("loss", "gradient_norm")])
    return jax.device_get(state.replace(key=jax.random.key_data(state.key))), measured


def launch(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Runs `python launch.py` in a process of its own, as a user types it: without the flags that `make test` compiles with."""
    command = [sys.executable, "launch.py", *arguments]
    env = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "CNN_JAX_ALLOCATOR")}
    return subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=300, check=False, **options)


def launch_here(*arguments: str) -> int:
    """Does what `python launch.py …` does, in this process; returns the exit code."""
    flags.FLAGS.unparse_flags()
    for flag in launch_module.OURS:
        flags.FLAGS[flag.name].unparse()
    try:
        rest = flags.FLAGS(["launch.py", *arguments])
    except flags.Error as error:  # absl.app prints it with a usage line, and exits with 1
        print(f"FATAL Flags parsing error: {error}", file=sys.stderr)
        flags.FLAGS.mark_as_parsed()
        return 1
    try:
        launch_module.main(rest)
    except SystemExit as stop:
        return stop.code
    return 0


def assert_trees_equal(a, b) -> None:
    """Bit for bit."""
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)
