"""BatchNorm far from zero, from its first step on, when its running mean is still 0: against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.layers import BatchNorm


@pytest.mark.parametrize("mean", [100.0, -1000.0])
@pytest.mark.parametrize("masked", [False, True])
def test_first_steps_far_from_zero_are_those_of_doubles(mean, masked):
    """Outputs, both statistics and the gradient, of channels that differ in mean and spread; a channel's shift may not be another's."""
    rng = np.random.default_rng(5)
    spread, epsilon, momentum = np.array([1.0, 0.5, 2.0]), 1e-5, 0.9
    steps = (rng.normal(size=(2, 64, 7, 9, 3)) * spread + mean * np.array([1.0, 1.2, -0.7])).astype(np.float32)
    counting = np.arange(64) % 5 != 0 if masked else np.ones(64, bool)
    steps[:, ~counting] *= 3  # among them the very first example: no shift to take
    where = jnp.array(counting) if masked else None
    cotangent = rng.normal(size=steps.shape[1:]).astype(np.float32) * counting[:, None, None, None]
    layer = BatchNorm(epsilon=epsilon, momentum=momentum)
    variables = layer.init(jax.random.key(0), jnp.array(steps[0]), True)

    @jax.jit
    def step(stats, x):
        def apply(x):
            return layer.apply({**variables, "batch_stats": stats}, x, True, where, mutable=["batch_stats"])

        y, pullback, updates = jax.vjp(apply, x, has_aux=True)
        return y, pullback(cotangent)[0], updates["batch_stats"]

    stats, running = variables["batch_stats"], {"mean": np.zeros(3), "var": np.ones(3)}
    for x in steps:
        y, gradient, stats = step(stats, x)
        values = x[counting].astype(np.float64).reshape(-1, 3)
        moments = {"mean": values.mean(0), "var": values.var(0, ddof=1)}
        running = {name: momentum * running[name] + (1 - momentum) * moments[name] for name in running}
        deviation = np.sqrt(values.var(0) + epsilon)
        expected = (values - moments["mean"]) / deviation
        ours = np.asarray(y, np.float64)[counting].reshape(-1, 3)
        np.testing.assert_allclose(ours.mean(0), 0, atol=1e-3)
        np.testing.assert_allclose(ours.var(0), values.var(0) / (values.var(0) + epsilon), rtol=1e-3)
        np.testing.assert_allclose(ours, expected, atol=1e-3)
        g = cotangent[counting].astype(np.float64).reshape(-1, 3)
        by_x = (g - g.mean(0) - expected * (g * expected).mean(0)) / deviation
        np.testing.assert_allclose(np.asarray(gradient)[counting].reshape(-1, 3), by_x, atol=2e-3 * np.abs(by_x).max())
        np.testing.assert_allclose(stats["mean"], running["mean"], rtol=1e-5)
        np.testing.assert_allclose(stats["var"], running["var"], rtol=1e-3)
