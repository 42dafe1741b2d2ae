"""Losses that keep something between updates, in training: weights with their own learning rate, a memory, and miners."""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn_jax.build import build
from cnn_jax.data.pipeline import train_batches
from cnn_jax.errors import UserError
from cnn_jax.evaluate import Evaluator, evaluate_workdir
from cnn_jax.experiment import Spec, from_json, to_json
from cnn_jax.losses.comparison import References
from cnn_jax.losses.reduction import masked_mean
from cnn_jax.losses.triplet import triplet_batch_all
from cnn_jax.override import override_all
from cnn_jax.parallel import make_parallel
from cnn_jax.registry import LOSSES
from cnn_jax.step import to_unit
from cnn_jax.train import make_step, train
from cnn_jax.workdir import read_experiment
from tests.runs import CLASSIFIER, TRIPLET, assert_trees_equal, run_steps, start
from tests.test_resume import final_state

ARCFACE = dataclasses.replace(TRIPLET, name="arcface", loss=Spec("arcface", scale=8.0), loss_learning_rate=0.5)
MEMORY = dataclasses.replace(TRIPLET, name="memory", memory_size=40)
EXPERIMENTS = {
    "arcface": ARCFACE,
    "arcface_accumulating": dataclasses.replace(ARCFACE, accumulate_steps=2, clip_norm=0.5, optimizer=Spec("adamw", weight_decay=0.1)),
    "memory": MEMORY,
    "memory_accumulating": dataclasses.replace(MEMORY, accumulate_steps=2),
    "mined": dataclasses.replace(
        TRIPLET,
        loss=Spec("learned_margin", regularisation=0.1),
        miner=(Spec("batch_hard"),),
        memory_size=24,
        optimizer=Spec("sgd", learning_rate=0.01),  # a large step turns rounding of one choice of pairs into another choice
    ),
}


@cache
def reference(name):
    return run_steps(EXPERIMENTS[name], "jit", 1, 3)


# Accumulating takes the plain step's way and more, and one device under pmap is in test_parallel.py: these are run by `make slow`.
@pytest.mark.parametrize(
    ("name", "mode", "num_devices"),
    [
        pytest.param(name, mode, n, marks=pytest.mark.slow if n == 1 or name in ("arcface", "memory") else [])
        for name in EXPERIMENTS
        for mode, n in (("jit", 4), ("pmap", 1), ("pmap", 2))
    ],
)
def test_devices_and_mode_do_not_change_the_numbers(name, mode, num_devices):
    state, measured = run_steps(EXPERIMENTS[name], mode, num_devices, 3)
    expected_state, expected = reference(name)
    np.testing.assert_allclose(measured, expected, rtol=1e-5)
    # AdamW divides by the root of squares: what is about zero has the sign of its rounding.
    tolerance = 1e-3 if EXPERIMENTS[name].optimizer.name == "adamw" else 1e-5
    for part in ("params", "batch_stats", "opt_state", "ema", "memory"):
        ours, theirs = (jax.tree_util.tree_leaves_with_path(getattr(s, part)) for s in (state, expected_state))
        for (path, x), (_, y) in zip(ours, theirs, strict=True):
            assert np.abs(np.subtract(x, y, dtype=np.float64)).max() <= tolerance * np.abs(y).max() + 1e-7, (part, path)


def test_the_weights_of_the_loss_have_their_own_learning_rate():
    first = np.asarray(start(build(ARCFACE)).params["loss"]["vectors"])
    assert first.shape == (4, 6)
    rates = (0.0, 0.05, 0.5, None)
    after = {rate: run_steps(dataclasses.replace(ARCFACE, loss_learning_rate=rate), "jit", 1, 1)[0].params for rate in rates}
    moved = {rate: params["loss"]["vectors"] - first for rate, params in after.items()}
    assert (moved[0.0] == 0).all()
    np.testing.assert_allclose(moved[0.5], 10 * moved[0.05], rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(moved[None], moved[0.05])  # the optimizer's own
    assert np.abs(moved[0.05]).max() > 1e-4
    assert_trees_equal(after[0.05]["network"], after[0.5]["network"])


def test_one_update_equals_the_formula():
    """w ← w − rate·(1 + momentum)·∂loss/∂w, Nesterov's first step, with the gradient of the global batch; the average follows."""
    experiment = dataclasses.replace(ARCFACE, augment=(), batch_size=8)
    built = build(experiment)
    before = start(built)
    source = built.dataset.open("train")
    (batch,) = train_batches(source, built.sampler(source, 8), seed=0, start_step=0, num_steps=1, workers=0)
    images = built.standardise(to_unit(jnp.array(batch["inputs"])))

    @jax.value_and_grad
    def loss(weights):
        variables = {"params": before.params, "batch_stats": before.batch_stats}
        embeddings, _ = built.model.apply(variables, images, train=True, mutable=["batch_stats"])
        return masked_mean(built.loss_fn.apply({"params": weights}, embeddings, jnp.array(batch["targets"])), None)

    after, (measured, *_) = run_steps(experiment, "jit", 1, 1)
    value, gradient = jax.jit(loss)(before.params["loss"])
    np.testing.assert_allclose(measured[0], value, rtol=1e-5)
    stepped = before.params["loss"]["vectors"] - 0.5 * 1.9 * gradient["vectors"]
    np.testing.assert_allclose(after.params["loss"]["vectors"], stepped, rtol=1e-4, atol=1e-5)
    averaged = 0.1 * before.params["loss"]["vectors"] + 0.9 * stepped
    np.testing.assert_allclose(after.ema["params"]["loss"]["vectors"], averaged, rtol=1e-4, atol=1e-5)


def test_the_step_compares_with_earlier_batches_and_then_remembers_its_own():
    """With a network that does not move the memory is what a loop over the batches gives."""
    experiment = dataclasses.replace(MEMORY, augment=(), optimizer=Spec("sgd", learning_rate=0.0))
    built = build(experiment)
    state, measured = run_steps(experiment, "jit", 1, 3)
    first, embedded, labels = start(built), [], []
    variables = {"params": first.params, "batch_stats": first.batch_stats}
    embed = jax.jit(lambda images: built.model.apply(variables, images, train=True, mutable=["batch_stats"])[0])
    source = built.dataset.open("train")
    batches = train_batches(source, built.sampler(source, 16), seed=0, start_step=0, num_steps=3, workers=0)
    for batch, (loss, _) in zip(batches, measured, strict=True):
        x = embed(built.standardise(to_unit(jnp.array(batch["inputs"]))))
        earlier = None
        if embedded:
            count = sum(map(len, labels))
            earlier = References(jnp.concatenate(embedded), jnp.concatenate(labels), jnp.ones(count, bool))
        expected = jax.jit(partial(triplet_batch_all, margin=0.5))(x, jnp.array(batch["targets"]), references=earlier).mean()
        np.testing.assert_allclose(loss, expected, rtol=1e-4)
        embedded, labels = [*embedded, x], [*labels, jnp.array(batch["targets"])]
    held = state.memory.references  # 40 of 48: the first eight are overwritten
    np.testing.assert_array_equal(np.roll(held.labels, -int(state.memory.position)), np.concatenate(labels)[8:])
    rows = np.roll(held.embeddings, -int(state.memory.position), axis=0)
    np.testing.assert_allclose(rows, np.concatenate(embedded)[8:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("experiment", [ARCFACE, MEMORY], ids=lambda e: e.name)
def test_a_resumed_run_ends_bit_for_bit_like_one_in_one_go(experiment, tmp_path):
    experiment = dataclasses.replace(experiment, num_steps=6, eval_every=3, log_every=3)
    whole = train(experiment, tmp_path / "whole", num_devices=1)
    train(dataclasses.replace(experiment, num_steps=3), tmp_path / "parts", num_devices=1)
    assert train(experiment, tmp_path / "parts", num_devices=1) == whole
    states = [final_state(tmp_path / name) for name in ("whole", "parts")]
    assert_trees_equal(*states)
    assert (states[0].memory is not None) == bool(experiment.memory_size)
    evaluation = evaluate_workdir(tmp_path / "whole", read_experiment(tmp_path / "whole"), step=6, mode="jit", num_devices=1)
    assert evaluation.figures == pytest.approx(whole, rel=1e-5)


def test_evaluation_reads_the_averaged_weights():
    built, parallel = build(ARCFACE), make_parallel("jit", 1)
    variables = start(built).eval_variables
    source = built.dataset.open("test")
    evaluation = Evaluator(built, parallel, source)(variables)
    losses = built.loss_fn.apply({"params": variables["params"]["loss"]}, jnp.array(evaluation.outputs), jnp.array(evaluation.targets))
    np.testing.assert_allclose(evaluation.figures["loss"], losses.mean(), rtol=1e-5)


def test_class_vectors_learn_small_data(tmp_path):
    experiment = dataclasses.replace(ARCFACE, num_steps=60, eval_every=60, augment=())
    assert train(experiment, tmp_path, num_devices=1)["recall_at_1"] > 0.9


def test_a_batch_in_which_nothing_counts_does_no_harm():
    for experiment in (ARCFACE, EXPERIMENTS["mined"]):
        built = build(experiment)
        batch = {"inputs": jnp.zeros((16, 8, 8, 1), jnp.uint8), "targets": jnp.zeros(16, jnp.int32), "valid": jnp.zeros(16, bool)}
        state, measures = jax.jit(make_step(built, make_parallel("jit", 1)))(start(built), batch)
        assert measures["loss"].total == 0
        assert jnp.isfinite(optax.tree.norm(state.params))
        assert state.memory is None or not state.memory.references.where.any()


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if isinstance(loss, type)])
def test_every_loss_with_weights_is_trained_by_name_alone(name):
    experiment = override_all(TRIPLET, [f"loss={name}", "batch_size=8", "dataset.num_classes=3", "model.stage_sizes=1"])
    built = build(experiment)
    before, (after, _) = start(built).params["loss"], run_steps(experiment, "jit", 1, 1)
    assert any(np.abs(a - b).max() > 0 for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after.params["loss"]), strict=True))
    assert from_json(to_json(experiment)) == experiment


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["memory_size=-1"], "memory_size=-1 must not be negative"),
        (["loss=arcface", "memory_size=8"], "memory_size=8, but the loss arcface compares no example with others.*triplet_batch_all"),
        (["loss=proxy_nca", "miner=batch_hard"], "miner=batch_hard, but the loss proxy_nca reads no pairs.*triplet_batch_all"),
        (["miner=batch_hard,semi_hard"], "miner=batch_hard,semi_hard names 2: choose one"),
        (["miner=batch_herd"], "batch_herd.*batch_hard"),
        (["miner=semi_hard", "miner.0.margin=-1"], "margin=-1.0 must be finite and not negative"),
        (["loss_learning_rate=0.1"], "loss_learning_rate=0.1, but the loss triplet_batch_all has no weights.*arcface"),
        (["loss=arcface", "loss_learning_rate=-1"], "loss_learning_rate=-1.0 must not be negative"),
        (["loss=arcface", "loss.margin=200"], "margin=200.0 must be from 0 to 180 degrees"),
        (["loss=arcface", "loss.num_classes=3"], "num_classes"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        build(override_all(TRIPLET, changes))
    assert build(CLASSIFIER).loss_fn is not None


def test_another_size_of_memory_is_another_run(tmp_path):
    train(dataclasses.replace(MEMORY, num_steps=1), tmp_path, num_devices=1)
    with pytest.raises(UserError, match="memory_size: 40 -> 20"):
        train(dataclasses.replace(MEMORY, memory_size=20), tmp_path, num_devices=1)
