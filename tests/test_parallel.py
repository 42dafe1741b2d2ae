"""The same numbers on 1, 2 and 4 devices, under jit and under pmap; one compilation."""

import dataclasses
import logging
import re
from functools import cache, partial

import jax
import numpy as np
import pytest

from cnn_jax.build import build
from cnn_jax.errors import UserError
from cnn_jax.evaluate import Evaluator
from cnn_jax.experiment import Spec
from cnn_jax.parallel import make_parallel
from cnn_jax.state import init_state
from cnn_jax.train import train
from tests.runs import CLASSIFIER, TRIPLET, run_steps

EXPERIMENTS = {
    "classifier": dataclasses.replace(CLASSIFIER, model=Spec("resnet8", width=8, stage_sizes=(1, 1))),  # with strides
    "triplet": TRIPLET,
    "accumulating": dataclasses.replace(CLASSIFIER, accumulate_steps=2, clip_norm=0.5),
    "mixing": dataclasses.replace(CLASSIFIER, accumulate_steps=2, mix=(Spec("mixup", alpha=0.5), Spec("cutmix"))),
}


@cache
def reference(name):
    return run_steps(EXPERIMENTS[name], "jit", 1, 3)


@pytest.mark.parametrize(("mode", "num_devices"), [("jit", 2), ("jit", 4), ("pmap", 1), ("pmap", 2), ("pmap", 4)])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_devices_and_mode_do_not_change_the_numbers(name, mode, num_devices):
    state, measured = run_steps(EXPERIMENTS[name], mode, num_devices, 3)
    expected_state, expected = reference(name)
    np.testing.assert_allclose(measured, expected, rtol=1e-5)  # losses and gradient norms: a wrong factor would show
    for part in ("params", "batch_stats", "opt_state", "ema"):
        ours, theirs = (jax.tree_util.tree_leaves_with_path(getattr(s, part)) for s in (state, expected_state))
        for (path, x), (_, y) in zip(ours, theirs, strict=True):
            # Relative to the array's size: an element that happens to be near zero has no meaningful relative error.
            assert np.abs(x - y).max() <= 1e-5 * np.abs(y).max() + 1e-7, (part, path)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_training_compiles_each_step_exactly_once(mode, tmp_path, caplog):
    """Counted in jax's own log: every batch, also the last of an evaluation, has the one shape."""
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        train(dataclasses.replace(CLASSIFIER, num_steps=7, eval_every=3, batch_size=12), tmp_path, mode=mode, num_devices=2)
    compiled = re.findall(r"Finished XLA compilation of \w+\((one_step|eval_step|_fun)\)", caplog.text)
    assert sorted(compiled) == {"jit": ["eval_step", "one_step"], "pmap": ["_fun", "_fun"]}[mode]  # pmap renames what it maps


@cache
def first_state_and_outputs(mode, num_devices):
    """The state on these devices, and the images' own outputs, one by one and unpadded."""
    parallel = make_parallel(mode, num_devices)
    built = build(CLASSIFIER)
    state = parallel.make(partial(init_state, built.model, built.tx, (8, 8, 1), 0, with_ema=False))
    images = built.standardise(built.dataset.open("test").images.astype(np.float32) / 255)
    return state, jax.jit(partial(built.model.apply, train=False))(jax.device_get(state.eval_variables), images)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
@pytest.mark.parametrize("num_devices", [1, 3, 4])
@pytest.mark.parametrize("eval_batch_size", [1, 10, 37, 1000])
def test_evaluation_counts_every_example_once(mode, num_devices, eval_batch_size):
    parallel = make_parallel(mode, num_devices)
    built = build(dataclasses.replace(CLASSIFIER, eval_batch_size=eval_batch_size), axis_name=parallel.axis_name)
    source = built.dataset.open("test")
    state, outputs = first_state_and_outputs(mode, num_devices)
    evaluation = Evaluator(built, parallel, source)(state.eval_variables)
    assert evaluation.num_examples == len(source) == 37
    np.testing.assert_array_equal(evaluation.targets, source.labels)
    predicted = evaluation.outputs.argmax(1)
    matrix = np.array(evaluation.results["confusion"]["matrix"])
    assert matrix.sum() == 37
    assert evaluation.results["accuracy"] == pytest.approx((predicted == source.labels).mean())
    np.testing.assert_allclose(evaluation.outputs, outputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_a_loss_over_pairs_is_evaluated_alike_on_any_number_of_devices(mode):
    figures = []
    for num_devices in (1, 4):
        parallel = make_parallel(mode, num_devices)
        built = build(TRIPLET, axis_name=parallel.axis_name)
        state = parallel.make(partial(init_state, built.model, built.tx, (8, 8, 1), 0, with_ema=False))
        figures.append(Evaluator(built, parallel, built.dataset.open("test"))(state.eval_variables).figures)
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)


def test_accumulation_equals_one_batch_without_batch_norm():
    """With a loss that is a mean over examples and no batch statistics, micro-batches change nothing."""
    plain = dataclasses.replace(CLASSIFIER, model=Spec("lenet5_modern"), accumulate_steps=1)
    a, _ = run_steps(plain, "jit", 1, 2)
    b, _ = run_steps(dataclasses.replace(plain, accumulate_steps=4), "jit", 2, 2)
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path):
    with pytest.raises(UserError, match="multiple of 3.*batch_size=15"):
        train(CLASSIFIER, tmp_path / "w", num_devices=3)
    assert not (tmp_path / "w").exists()
