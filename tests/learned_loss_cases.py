"""Compares a loss with learned weights with a slow oracle, by its embeddings and by its weights, on data with all the awkward cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses.reduction import masked_mean
from tests.embedding_cases import CASES, assert_equals_batch_oracle, make_case

NUM_CLASSES = 10  # one more than any case has: no case has examples of all


def assert_equals_learned_oracle(module, name, weights, oracle, *, without_derivative=("zeros",)):
    """`oracle(x, labels, where, weights)` is the mean over the batch; `weights` are the module's parameter `name`. Needs float64."""

    def loss(embeddings, labels, *, where=None, weights=weights):
        weights = jnp.asarray(weights.astype(jnp.promote_types(embeddings.dtype, jnp.float32)))
        return module.apply({"params": {name: weights}}, embeddings, labels, where=where)

    assert_equals_batch_oracle(loss, lambda *case: oracle(*case, weights), without_derivative=without_derivative)
    gradient_of = jax.jit(jax.grad(lambda w, x, labels, where: masked_mean(loss(x, labels, where=where, weights=w), where)))
    for case in CASES:
        x, labels, where = make_case(case)
        garbage = np.where(where[:, None], x, np.nan)
        gradient = gradient_of(jnp.array(weights), jnp.array(garbage), jnp.array(labels), jnp.array(where))
        for direction in np.random.default_rng(5).normal(size=(4, *weights.shape)):
            up, down = (oracle(x, labels, where, weights + step * direction) for step in (1e-6, -1e-6))
            np.testing.assert_allclose((gradient * direction).sum(), (up - down) / 2e-6, rtol=1e-5, atol=1e-7, err_msg=case)


def assert_refuses_strange_labels(module):
    """An error where labels are known, NaN under jit, and no complaint about those that do not count."""
    x, labels, counts = jnp.eye(3), jnp.array([0, -1, NUM_CLASSES]), jnp.array([True, False, False])
    variables = jax.jit(module.init)(jax.random.key(0), x, jnp.zeros(3, int))
    with pytest.raises(ValueError, match=r"labels\[1\]=-1 is not allowed: labels must be from 0 to 9"):
        module.apply(variables, x, labels)
    assert jnp.isnan(jax.jit(module.apply)(variables, x, labels)).tolist() == [False, True, True]
    assert jnp.isfinite(jax.jit(module.apply)(variables, x, labels, where=counts)).all()
    with pytest.raises(ValueError, match=r"embeddings \[3\] must be \[b, e\]"):
        module.apply(variables, jnp.ones(3), labels)
    with pytest.raises(ValueError, match="num_classes=0 must be a whole number of at least 1"):
        module.clone(num_classes=0).init(jax.random.key(0), x, labels)
