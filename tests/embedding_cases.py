"""Compares a loss over a batch of embeddings with a slow oracle of the batch's mean, on data with all the awkward cases."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.losses.reduction import masked_mean

CASES = ["random", "another", "masked", "one_class", "all_different", "duplicates", "zeros", "lone_labels", "all_masked"]
# There a distance or a cosine has no derivative by some rows: those of `smooth_directions` are compared, the others must be finite.
WITHOUT_DERIVATIVE = ["duplicates", "zeros"]


def make_case(case, *, b=9, e=4):
    """Asymmetric embeddings [b, e] of unequal classes, their labels, and which of them count."""
    rng = np.random.default_rng(CASES.index(case) + 20)
    x = rng.normal(size=(b, e)) * np.linspace(0.4, 1.3, e) + np.linspace(0.7, -0.4, e)
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])[rng.permutation(9)][:b]
    where = np.ones(b, bool)
    if case == "masked":
        where = rng.random(b) < 0.6
    elif case == "one_class":
        labels = np.zeros(b, int)
    elif case == "all_different":
        labels = np.arange(b)
    elif case == "duplicates":
        x[3], x[5] = x[0], x[0]  # of whatever class
        x[np.flatnonzero(labels == 1)[1]] = x[np.flatnonzero(labels == 1)[0]]  # and two of one class
    elif case == "zeros":
        x[[1, 6]] = 0
    elif case == "lone_labels":
        labels[:2] = [7, 8]
    elif case == "all_masked":
        where[:] = False
    return x, labels, where


def pairs(labels, where):
    """(positives, negatives): lists of (anchor, other) that count."""
    n = range(len(labels))
    counted = [(i, j) for i in n for j in n if i != j and where[i] and where[j]]
    return [(i, j) for i, j in counted if labels[i] == labels[j]], [(i, j) for i, j in counted if labels[i] != labels[j]]


def triplets(labels, where):
    """All (anchor, positive, negative) that count."""
    positives, negatives = pairs(labels, where)
    return [(a, p, n) for a, p in positives for b, n in negatives if a == b]


def euclidean(x):
    """All Euclidean distances, in a loop."""
    return np.array([[np.sqrt(((a - b) ** 2).sum()) for b in x] for a in x])


def cosines(x):
    """All cosines, in a loop; 0 for zero vectors."""
    norms = np.array([np.sqrt((a**2).sum()) for a in x])
    unit = [a / s if s else a for a, s in zip(x, norms, strict=True)]
    return np.array([[(a * b).sum() for b in unit] for a in unit])


def mean(values):
    """The mean of a list; 0 of none."""
    return sum(values) / len(values) if len(values) else 0.0


def smooth_directions(x, *, everywhere):
    """Four directions [4, b, e] along which to compare slopes: a wrong entry of the gradient shows in all of them.

    Unless the loss has a derivative `everywhere`, rows that coincide move together, for apart they have none, and zero rows stay.
    """
    directions = np.random.default_rng(0).normal(size=(4, *x.shape))
    if everywhere:
        return directions
    first = [np.flatnonzero((x == row).all(1))[0] for row in x]
    return directions[:, first] * x.any(1)[:, None]


def assert_equals_batch_oracle(loss_fn, oracle, *, without_derivative=WITHOUT_DERIVATIVE, cases=CASES, **options):
    """`oracle(x, labels, where, **options)` is the mean over the batch. Needs float64. Then order, padding, float32, bfloat16."""
    compiled = assert_equals_ordered_oracle(loss_fn, oracle, without_derivative=without_derivative, cases=cases, **options)
    x, labels, where = make_case("random")
    (expected, _), gradient = compiled(jnp.array(x), jnp.array(labels), jnp.array(where))
    order = np.random.default_rng(1).permutation(len(x))
    (value, _), permuted = compiled(jnp.array(x[order]), jnp.array(labels[order]), jnp.array(where))
    np.testing.assert_allclose(value, expected, rtol=1e-9, err_msg="permuted")
    np.testing.assert_allclose(permuted, gradient[order], rtol=1e-7, atol=1e-10, err_msg="permuted")


def assert_equals_ordered_oracle(loss_fn, oracle, *, without_derivative=WITHOUT_DERIVATIVE, cases=CASES, **options):
    """The same for a loss that reads examples in the order of the batch. Returns ((its mean, each example's), gradient), compiled."""

    def batch_mean(x, labels, where):
        values = loss_fn(x, labels, where=where, **options)
        return masked_mean(values, where), values

    compiled = jax.jit(jax.value_and_grad(batch_mean, has_aux=True))
    for case in cases:
        x, labels, where = make_case(case)
        garbage = x.copy()
        garbage[~where] = np.nan
        (value, _), gradient = compiled(jnp.array(garbage), jnp.array(labels), jnp.array(where))
        expected = oracle(x, labels, where, **options)
        np.testing.assert_allclose(value, expected, rtol=1e-8, atol=1e-10, err_msg=case)
        assert np.isfinite(gradient).all(), case
        assert (gradient[~where] == 0).all(), case
        for direction in smooth_directions(x, everywhere=case not in without_derivative):
            up, down = (oracle(x + step * direction, labels, where, **options) for step in (1e-6, -1e-6))
            np.testing.assert_allclose((gradient * direction)[where].sum(), (up - down) / 2e-6, rtol=1e-5, atol=1e-7, err_msg=case)
    _assert_robust(loss_fn, compiled, **options)
    return compiled


def _assert_robust(loss_fn, compiled, **options):
    x, labels, where = make_case("random")
    (expected, _), gradient = compiled(jnp.array(x), jnp.array(labels), jnp.array(where))
    apart = jax.jit(partial(loss_fn, **options))(jnp.array(x[:7]), jnp.array(labels[:7]))
    (_, hidden), _ = compiled(jnp.array(x), jnp.array(labels), jnp.arange(len(x)) < 7)
    np.testing.assert_allclose(hidden[:7], apart, rtol=1e-8, atol=1e-10, err_msg="hidden rows")
    assert (hidden[7:] == 0).all()
    with jax.enable_x64(False):
        (value, _), single = compiled(jnp.array(x, jnp.float32), jnp.array(labels), jnp.array(where))
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5, err_msg="float32")
        np.testing.assert_allclose(single, gradient, rtol=1e-3, atol=1e-4 * max(1, np.abs(gradient).max()), err_msg="float32")
    half = jax.eval_shape(partial(loss_fn, **options), jnp.array(x, jnp.bfloat16), jnp.array(labels))
    assert half.dtype == jnp.bfloat16
