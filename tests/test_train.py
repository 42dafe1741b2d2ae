"""Training does what it is for: small data are learned, in both precisions, with each kind of loss."""

import dataclasses
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.build import build
from cnn_jax.data.pipeline import empty_batch
from cnn_jax.evaluate import evaluate_workdir
from cnn_jax.experiment import Expected, Spec
from cnn_jax.parallel import make_parallel
from cnn_jax.train import make_step, train
from cnn_jax.verdict import verdict
from cnn_jax.workdir import read_experiment
from tests.runs import CLASSIFIER, TRIPLET, run_steps, start


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_small_data_are_learned(precision, tmp_path):
    # The class is the bright row, so shifting would change it.
    experiment = dataclasses.replace(CLASSIFIER, precision=precision, augment=(), num_steps=60, eval_every=60)
    assert train(experiment, tmp_path, num_devices=1)["accuracy"] > 0.9


def test_embeddings_are_learned(tmp_path):
    experiment = dataclasses.replace(TRIPLET, num_steps=60, eval_every=60)
    assert train(experiment, tmp_path, num_devices=1)["recall_at_1"] > 0.9


def test_scores_are_learned_and_written(tmp_path):
    experiment = dataclasses.replace(
        CLASSIFIER, loss=Spec("margin_ranking"), metrics=(), best_by="loss", num_steps=60, eval_every=30, augment=(), eval_batch_size=37
    )
    train(experiment, tmp_path, num_devices=1)
    evaluation = evaluate_workdir(tmp_path, read_experiment(tmp_path), step=None, mode="jit", num_devices=1)
    ordered = evaluation.targets[:, None] > evaluation.targets[None, :]
    assert (evaluation.outputs[:, None] > evaluation.outputs[None, :])[ordered].mean() > 0.9
    assert (tmp_path / "predictions.csv").read_text().startswith("index,target,score\n")


def test_the_average_is_the_formulas():
    """ema ← d·ema + (1 − d)·new, d = min(0.9, (1 + t) / (10 + t)), over params and batch_stats."""
    states = [run_steps(CLASSIFIER, "jit", 1, num_steps)[0] for num_steps in (1, 2, 3)]
    for t, (before, after) in enumerate(itertools.pairwise(states), 1):
        d = min(0.9, (1 + t) / (10 + t))
        expected = jax.tree.map(
            lambda a, n, d=d: d * a + (1 - d) * n, before.ema, {"params": after.params, "batch_stats": after.batch_stats}
        )
        for x, y in zip(jax.tree.leaves(after.ema), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("experiment", [CLASSIFIER, TRIPLET, dataclasses.replace(CLASSIFIER, accumulate_steps=2)])
def test_a_batch_in_which_nothing_counts_does_no_harm(experiment):
    built, parallel = build(experiment), make_parallel("jit", 1)
    state, measures = jax.jit(make_step(built, parallel))(start(built), empty_batch(16, (8, 8, 1)))
    assert measures["loss"].total == 0
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(state.params))


def test_the_verdict_says_inside_outside_and_what_was_changed():
    about = dataclasses.replace(CLASSIFIER.about, expected=Expected(metric="accuracy", low=0.9))
    experiment = dataclasses.replace(CLASSIFIER, about=about)
    assert "is within the expected 0.9 to 1" in verdict(experiment, {"accuracy": 0.95}, [])
    assert "is OUTSIDE the expected" in verdict(experiment, {"accuracy": 0.8}, [])
    assert "changed here: batch_size: 16 -> 8" in verdict(experiment, {"accuracy": 0.95}, ["batch_size: 16 -> 8"])
    assert "unmeasured" in verdict(CLASSIFIER, {"accuracy": 0.95}, [])


@pytest.mark.parametrize("loss", ["vicreg_by_label", "n_pairs"])
def test_embeddings_are_of_unit_length_or_as_the_network_gives_them(loss):
    images = jnp.array(np.random.default_rng(0).normal(size=(6, 8, 8, 1)), jnp.float32)
    norms = {}
    for length in ("unit", "free"):
        experiment = dataclasses.replace(TRIPLET, loss=Spec(loss), embedding_length=length)
        outputs, _ = jax.jit(partial(build(experiment).model.init_with_output, train=False))(jax.random.key(0), images)
        norms[length] = np.linalg.norm(outputs, axis=1)
    np.testing.assert_allclose(norms["unit"], 1, rtol=1e-6)
    assert np.ptp(norms["free"]) > 1e-3
    _, measured = run_steps(experiment, "jit", 2, 2)
    assert np.isfinite(measured).all()
