"""Each device keeps a part of the state: the same numbers, and a share of the memory."""

import dataclasses
import math
from functools import partial

import jax
import numpy as np
import pytest

from cnn_jax.build import build, first_state
from cnn_jax.checkpoint import Checkpoints
from cnn_jax.evaluate import evaluate_workdir
from cnn_jax.experiment import Spec
from cnn_jax.parallel import make_parallel
from cnn_jax.train import train
from cnn_jax.workdir import read_experiment
from tests.runs import CLASSIFIER, TRIPLET, run_steps

# Large enough that its arrays are worth splitting.
WIDE = dataclasses.replace(CLASSIFIER, model=Spec("resnet8", width=32, stage_sizes=(1,)))


@pytest.mark.parametrize("num_devices", [2, 4])
@pytest.mark.parametrize("experiment", [WIDE, dataclasses.replace(WIDE, accumulate_steps=2, clip_norm=1.0), TRIPLET], ids=["a", "b", "c"])
def test_the_numbers_are_those_of_jit(experiment, num_devices):
    (ours, measured), (theirs, expected) = (run_steps(experiment, mode, num_devices, 3) for mode in ("fsdp", "jit"))
    np.testing.assert_allclose(measured, expected, rtol=1e-5)
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-4, atol=1e-6)


def test_each_device_keeps_its_share():
    """Of a ResNet-18 with momentum and average on four devices: by shapes alone."""
    experiment = dataclasses.replace(CLASSIFIER, model=Spec("resnet18"), dataset=Spec("generated", shape=(32, 32, 3)))
    parallel = make_parallel("fsdp", 4)
    state = parallel.shapes(partial(first_state, build(experiment)))
    for tree in (state.params, state.opt_state, state.ema):
        leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.shape]
        kept = sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves)
        assert kept < 0.26 * sum(math.prod(leaf.shape) for leaf in leaves)


def test_parts_stay_parts_from_step_to_step():
    parallel = make_parallel("fsdp", 4)
    built = build(WIDE)
    state = parallel.make(partial(first_state, built))
    wanted = parallel.shapes(partial(first_state, built))
    assert jax.tree.map(lambda x: x.sharding, state) == jax.tree.map(lambda x: x.sharding, wanted)
    split = [leaf for leaf in jax.tree.leaves((state.params, state.opt_state, state.ema)) if not leaf.is_fully_replicated]
    assert len(split) >= 6


@pytest.mark.parametrize("dispatch", [1, 4])
def test_a_run_in_parts_moves_to_whole_and_back(dispatch, tmp_path):
    experiment = dataclasses.replace(WIDE, steps_per_dispatch=dispatch, num_steps=6, eval_every=3)
    whole = train(experiment, tmp_path / "jit", num_devices=4)
    for num_steps, mode, num_devices in ((2, "fsdp", 4), (4, "pmap", 2), (6, "fsdp", 2)):
        figures = train(dataclasses.replace(experiment, num_steps=num_steps), tmp_path / "moved", mode=mode, num_devices=num_devices)
    assert figures["loss"] == pytest.approx(whole["loss"], rel=1e-3)
    with Checkpoints(tmp_path / "moved" / "checkpoints", best_by="accuracy") as checkpoints:
        assert checkpoints.steps()[-1] == 6
    evaluation = evaluate_workdir(tmp_path / "moved", read_experiment(tmp_path / "moved"), step=6, mode="fsdp", num_devices=4)
    assert evaluation.figures["loss"] == pytest.approx(figures["loss"], rel=1e-5)
