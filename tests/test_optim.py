"""Optimizers and schedules against their formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn_jax.optim import adamw, clipped, constant, moving_average, piecewise, sgd, warmup_cosine


def run(tx, num=4):
    rng = np.random.default_rng(0)
    params = {"conv": {"kernel": jnp.array(rng.normal(size=(3, 2))), "bias": jnp.array(rng.normal(size=2))}}
    gradients = [jax.tree.map(lambda p: jnp.array(rng.normal(size=p.shape)), params) for _ in range(num)]
    state, path = tx.init(params), [params]
    for g in gradients:
        updates, state = tx.update(g, state, path[-1])
        path.append(optax.apply_updates(path[-1], updates))
    return [jax.tree.map(np.asarray, p["conv"]) for p in path], [jax.tree.map(np.asarray, g["conv"]) for g in gradients]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_equals_torchs_formula_and_decays_kernels_only(nesterov):
    path, gradients = run(sgd(constant(4), learning_rate=0.1, momentum=0.8, nesterov=nesterov, weight_decay=0.3))
    for name, decay in (("kernel", 0.3), ("bias", 0.0)):
        w, v = path[0][name], 0.0
        for g, after in zip(gradients, path[1:], strict=True):
            g = g[name] + decay * w
            v = 0.8 * v + g
            w = w - 0.1 * (g + 0.8 * v if nesterov else v)
            np.testing.assert_allclose(after[name], w, rtol=1e-12)


@pytest.mark.usefixtures("float64")
def test_adamw_equals_its_formula_and_decays_kernels_only():
    path, gradients = run(adamw(constant(4), learning_rate=0.01, b1=0.8, b2=0.95, epsilon=1e-6, weight_decay=0.2))
    for name, decay in (("kernel", 0.2), ("bias", 0.0)):
        w, m, v = path[0][name], 0.0, 0.0
        for t, (g, after) in enumerate(zip(gradients, path[1:], strict=True), 1):
            m, v = 0.8 * m + 0.2 * g[name], 0.95 * v + 0.05 * g[name] ** 2
            step = (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-6)
            w = w - 0.01 * (step + decay * w)
            np.testing.assert_allclose(after[name], w, rtol=1e-10)


@pytest.mark.usefixtures("float64")
def test_clipping_scales_the_whole_gradient():
    path, gradients = run(clipped(sgd(constant(1), learning_rate=1.0, momentum=0.0, nesterov=False), 0.5), num=1)
    norm = np.sqrt(sum((g**2).sum() for g in gradients[0].values()))
    for name, g in gradients[0].items():
        np.testing.assert_allclose(path[0][name] - path[1][name], g * 0.5 / norm, rtol=1e-9)


def test_schedules():
    cosine = warmup_cosine(100, warmup_steps=10, end_factor=0.1)
    steps = np.arange(101)
    expected = np.where(steps < 10, steps / 10, 0.1 + 0.9 * (1 + np.cos(np.pi * (steps - 10) / 90)) / 2)
    np.testing.assert_allclose([cosine(s) for s in steps], expected, atol=1e-6)
    drops = piecewise(100, drops=(0.3, 0.6), drop_factor=0.2, warmup_steps=5)
    expected = [s / 5 if s < 5 else 1.0 if s < 30 else 0.2 if s < 60 else 0.04 for s in steps]
    np.testing.assert_allclose([drops(s) for s in steps], expected, rtol=1e-5)
    assert constant(10)(7) == 1


def test_moving_average_forgets_the_start():
    average = jnp.array(100.0)
    update = moving_average(0.999)
    for step in range(200):
        average = update(average, jnp.array(1.0), jnp.array(step))
    assert abs(average - 1) < 1e-3


def test_two_drops_that_fall_on_one_update_drop_twice():
    factor = piecewise(4, drops=(0.5, 0.6), drop_factor=0.1)
    assert [round(float(factor(step)), 3) for step in range(4)] == [1.0, 1.0, 0.01, 0.01]
