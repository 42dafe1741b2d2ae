"""Divergences and distillation against oracles written from their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax.losses.divergence import distillation, jensen_shannon, kl_divergence
from tests.against_oracle import assert_equals_oracle, assert_survives

pytestmark = pytest.mark.usefixtures("float64")


def kl_oracle(log_p, target, log_target=False):
    total = 0.0
    for lp, t in zip(np.ravel(log_p), np.ravel(target), strict=True):
        if log_target:
            total += np.exp(t) * (t - lp)
        elif t > 0:
            total += t * (np.log(t) - lp)
    return total


def js_oracle(log_p, log_q):
    p, q = np.exp(log_p), np.exp(log_q)
    m = (p + q) / 2
    return sum(0.5 * a * np.log(a / c) + 0.5 * b * np.log(b / c) for a, b, c in zip(p, q, m, strict=True))


def distillation_oracle(row, teacher, label, temperature=4.0, weight=0.9):
    def softmax(z, t):
        return np.exp(z / t) / np.exp(z / t).sum()

    p, q = softmax(row, temperature), softmax(teacher, temperature)
    soft = sum(b * np.log(b / a) for a, b in zip(p, q, strict=True))
    return weight * temperature**2 * soft - (1 - weight) * np.log(softmax(row, 1.0)[label])


def arguments(name, seed, log_target=False):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(3), size=5), rng.dirichlet(np.ones(3) * 2, size=5)
    if name == "kl":
        return np.log(p), np.log(q) if log_target else np.where(q < 0.1, 0, q)
    if name == "js":
        return np.log(p), np.log(q)
    return rng.normal(size=(5, 3)) * 3, rng.normal(size=(5, 3)) * 2, rng.integers(3, size=5)


LOSSES = {
    "kl": (kl_divergence, kl_oracle, {"log_target": st.booleans()}),
    "js": (jensen_shannon, js_oracle, {}),
    "distillation": (
        distillation, distillation_oracle, {"temperature": st.sampled_from([1.0, 3.0]), "weight": st.sampled_from([0.0, 0.7, 1.0])}
    ),
}


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_equals_its_oracle(name, data, seed):
    loss_fn, oracle, strategies = LOSSES[name]
    options = {key: data.draw(strategy) for key, strategy in strategies.items()}
    learned = 2 if name == "js" else 1
    arrays = arguments(name, seed, options.get("log_target", False))
    assert_equals_oracle(loss_fn, oracle, arrays, seed=seed, num_outputs=learned, **options)


@pytest.mark.parametrize("name", LOSSES)
def test_survives_other_types_and_empty_masks(name):
    assert_survives(LOSSES[name][0], arguments(name, 3), num_outputs=2 if name == "js" else 1)


def test_kl_sums_over_all_axes_but_the_batch():
    log_p, q = np.log(np.random.default_rng(0).dirichlet(np.ones(3), size=(5, 2))), np.full((5, 2, 3), 0.25)
    expected = [kl_oracle(row, target) for row, target in zip(log_p, q, strict=True)]
    np.testing.assert_allclose(kl_divergence(jnp.array(log_p), jnp.array(q)), expected)


def test_what_is_impossible_costs_nothing_where_it_is_not_asked_for():
    log_p, never = jnp.log(jnp.array([[1.0, 0.0]])), jnp.log(jnp.array([[0.0, 1.0]]))
    assert log_p[0, 1] == -jnp.inf
    for target, log_target in ((jnp.array([[1.0, 0.0]]), False), (log_p, True)):
        total = lambda x, t=target, o=log_target: kl_divergence(x, t, log_target=o).sum()
        value, gradient = jax.jit(jax.value_and_grad(total))(log_p)
        assert value == 0
        assert gradient.tolist() == [[-1.0, 0.0]]
    assert kl_divergence(log_p, jnp.array([[0.0, 1.0]])) == jnp.inf
    value, gradient = jax.jit(jax.value_and_grad(lambda x: jensen_shannon(x, never).sum()))(log_p)
    np.testing.assert_allclose(value, np.log(2))
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(jensen_shannon(log_p, log_p), [0.0], atol=1e-12)


def test_distillation_is_finite_far_out_and_leaves_the_teacher_alone():
    far = jnp.array([[1e4, -1e4], [-1e4, 1e4]], jnp.float32)
    labels = jnp.array([0, 0])
    learn = jax.jit(jax.value_and_grad(lambda a, b: distillation(a, b, labels).sum(), argnums=(0, 1)))
    for student, teacher in ((far, -far), (far, far), (far / 1e4, far / 3e4)):
        value, gradients = learn(student, teacher)
        assert np.isfinite(value)
        assert np.isfinite(gradients[0]).all()
        assert (gradients[1] == 0).all()


def test_labels_and_targets_out_of_range_are_nan_under_jit():
    z = jnp.zeros((2, 3))
    assert jnp.isnan(jax.jit(distillation)(z, z, jnp.array([1, -1]))).tolist() == [False, True]
    assert jnp.isnan(jax.jit(kl_divergence)(z, jnp.array([[0.5, 0.5, 0.0], [1.5, -0.5, 0.0]]))).tolist() == [False, True]


Z = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: kl_divergence(z + 0.5, z), r"log_probabilities\[0, 0\]=0.5 is not allowed"),
        (lambda z: kl_divergence(z, z - 0.5), r"targets\[0, 0\]=-0.5 is not allowed: targets must be from 0 to 1"),
        (lambda z: kl_divergence(z, z + 0.5, log_target=True), r"targets\[0, 0\]=0.5 is not allowed: targets must be at most 0"),
        (lambda z: kl_divergence(z, z[:1]), r"log_probabilities \[2, 3\] but targets \[1, 3\]"),
        (lambda z: jensen_shannon(z, z + 0.5), r"others\[0, 0\]=0.5 is not allowed"),
        (lambda z: jensen_shannon(z[0], z[0]), r"log_probabilities \[3\] must be \[b, k\]"),
        (lambda z: jensen_shannon(z, z[:1]), r"log_probabilities \[2, 3\] but others \[1, 3\]"),
        (lambda z: distillation(z, z, jnp.array([0, 3])), r"labels\[1\]=3 is not allowed"),
        (lambda z: distillation(z, z[:1], jnp.array([0, 1])), r"logits \[2, 3\] but teacher_logits \[1, 3\]"),
        (lambda z: distillation(z, z, jnp.array([0, 1]), temperature=0.0), "temperature=0.0 must be positive"),
        (lambda z: distillation(z, z, jnp.array([0, 1]), weight=1.5), "weight=1.5 must be from 0 to 1"),
    ],
)
def test_errors_name_what_is_wrong(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call(jnp.array(Z))
