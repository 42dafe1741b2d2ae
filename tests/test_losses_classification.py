"""Losses of one class among k against oracles written from their formulas, class by class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax.losses import classification, focal
from cnn_jax.losses.class_weights import class_balanced_weights
from cnn_jax.losses.classification import multi_margin, negative_log_likelihood, poly1, softmax_cross_entropy
from cnn_jax.losses.multi_label import sigmoid_cross_entropy
from cnn_jax.losses.reduction import reduce
from tests.against_oracle import assert_equals_oracle, assert_survives, numeric_gradient

pytestmark = pytest.mark.usefixtures("float64")
WEIGHTS = (0.5, 2.0, 0.0)


def softmax(row):
    return [np.exp(v) / sum(np.exp(w) for w in row) for v in row]


def weight(class_weights, j):
    return 1.0 if class_weights is None else class_weights[j]


def nll(row, label, class_weights=None):
    return -weight(class_weights, label) * row[label]


def cross_entropy(row, label, smoothing=0.0, class_weights=None):
    p, k, total = softmax(row), len(row), 0.0
    for j in range(k):
        q = (label[j] if np.ndim(label) else float(j == label)) * (1 - smoothing) + smoothing / k
        total -= weight(class_weights, j) * q * np.log(p[j])
    return total


def cross_entropy_of_label(row, label, smoothing=0.0, class_weights=None):
    """torch's: the label's weight on the label's term, each class's own on what smoothing adds."""
    log_p = np.log(softmax(row))
    value = -(1 - smoothing) * weight(class_weights, label) * log_p[label]
    for j in range(len(row)):
        value -= smoothing / len(row) * weight(class_weights, j) * log_p[j]
    return value


def focal_oracle(row, label, gamma=2.0, class_weights=None):
    p = softmax(row)[label]
    return -weight(class_weights, label) * (1 - p) ** gamma * np.log(p)


def poly_oracle(row, label, epsilon=1.0, class_weights=None):
    p = softmax(row)[label]
    return weight(class_weights, label) * (-np.log(p) + epsilon * (1 - p))


def multi_margin_oracle(row, label, p=1, margin=1.0, class_weights=None):
    total = 0.0
    for j in range(len(row)):
        if j != label:
            total += max(0.0, margin - row[label] + row[j]) ** p
    return weight(class_weights, label) * total / len(row)


def one_against_all(row, label, smoothing=0.0, class_weights=None, pos_weight=None):
    total = 0.0
    for j, z in enumerate(row):
        t = (1 - smoothing) * (j == label) + smoothing / len(row)
        p = 1 / (1 + np.exp(-z))
        total -= weight(class_weights, j) * (weight(pos_weight, j) * t * np.log(p) + (1 - t) * np.log(1 - p))
    return total


weights = {"class_weights": st.sampled_from([None, WEIGHTS])}
smoothing = {"smoothing": st.sampled_from([0.0, 0.1, 0.4])}
LOSSES = {
    "nll": (negative_log_likelihood, nll, weights),
    "cross_entropy": (softmax_cross_entropy, cross_entropy_of_label, {**weights, **smoothing}),
    "focal": (focal.focal, focal_oracle, {**weights, "gamma": st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0])}),
    "poly1": (poly1, poly_oracle, {**weights, "epsilon": st.sampled_from([-1.0, 0.0, 2.0])}),
    "multi_margin": (multi_margin, multi_margin_oracle, {**weights, "p": st.sampled_from([1, 2]), "margin": st.sampled_from([0.3, 1.0])}),
    "sigmoid_cross_entropy": (
        sigmoid_cross_entropy, one_against_all, {**weights, **smoothing, "pos_weight": st.sampled_from([None, (2.0, 1.0, 0.5)])}
    ),
}
DENSE = ["nll", "cross_entropy", "focal", "poly1"]


def arguments(name, seed, space=()):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(5, *space, 3)) * np.array([1.0, 3.0, 0.3])
    if name == "nll":
        logits = np.log(rng.dirichlet(np.ones(3), size=(5, *space)))
    return logits, rng.integers(3, size=(5, *space))


def drawn(data, name):
    return {key: data.draw(strategy) for key, strategy in LOSSES[name][2].items()}


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_equals_its_oracle(name, data, seed):
    loss_fn, oracle, _ = LOSSES[name]
    assert_equals_oracle(loss_fn, oracle, arguments(name, seed), seed=seed, **drawn(data, name))


@pytest.mark.parametrize("name", DENSE)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 10**6), space=st.sampled_from([(2,), (2, 2)]))
def test_dense_predictions_are_the_mean_over_places_that_count(name, data, seed, space):
    loss_fn, oracle, _ = LOSSES[name]
    logits, labels = arguments(name, seed, space)
    labels[np.random.default_rng(seed).random(labels.shape) < 0.3] = 9
    labels[2] = 9  # an example of which nothing counts

    def dense(rows, labels, **options):
        values = [oracle(rows[i], labels[i], **options) for i in np.ndindex(labels.shape) if labels[i] != 9]
        return sum(values) / max(len(values), 1)

    def ours(logits, labels, **options):
        return loss_fn(logits, labels, ignore_index=9, **options)

    assert_equals_oracle(ours, dense, (logits, labels), seed=seed, **drawn(data, name))


@settings(max_examples=5, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 10**6), space=st.booleans())
def test_cross_entropy_with_probabilities_equals_its_oracle(data, seed, space):
    rng = np.random.default_rng(seed)
    shape = (5, 2) if space else (5,)
    arrays = rng.normal(size=(*shape, 3)) * 2, rng.dirichlet(np.ones(3), size=shape)

    def oracle(rows, q, **options):
        rows, q = rows.reshape(-1, 3), q.reshape(-1, 3)
        return sum(cross_entropy(*pair, **options) for pair in zip(rows, q, strict=True)) / len(rows)

    options = drawn(data, "cross_entropy")
    assert_equals_oracle(softmax_cross_entropy, oracle, arrays, seed=seed, num_outputs=2, **options)


@pytest.mark.parametrize("name", LOSSES)
def test_survives_other_types_and_empty_masks(name):
    loss_fn = LOSSES[name][0]
    assert_survives(loss_fn, arguments(name, 3), class_weights=WEIGHTS)


def test_weighted_and_ignored_means_are_torchs():
    """Σ w_y·l / Σ w_y over what is not ignored, whether the weights are a tuple or an array."""
    rng = np.random.default_rng(4)
    logits, labels = jnp.array(rng.normal(size=(5, 3))), np.array([0, -100, 1, 1, -100])
    w = jnp.array(WEIGHTS)
    losses = softmax_cross_entropy(logits, jnp.array(labels), smoothing=0.1, class_weights=w)
    assert (losses == softmax_cross_entropy(logits, jnp.array(labels), smoothing=0.1, class_weights=WEIGHTS)).all()
    kept = [i for i in range(5) if labels[i] >= 0]
    values = [cross_entropy_of_label(logits[i], labels[i], 0.1, WEIGHTS) for i in kept]
    mean = reduce(losses, jnp.array(labels >= 0), weights=w[jnp.maximum(labels, 0)])
    np.testing.assert_allclose(mean, sum(values) / sum(WEIGHTS[labels[i]] for i in kept))
    np.testing.assert_allclose(reduce(losses, jnp.array(labels != -100)), np.mean(values))


def test_what_is_ignored_has_no_gradient_whatever_it_holds():
    logits = jnp.array([[jnp.nan, 0.0], [1.0, 2.0]])
    for loss_fn in (softmax_cross_entropy, focal.focal, poly1, negative_log_likelihood):
        total = lambda z, f=loss_fn: f(-jnp.abs(z), jnp.array([-100, 1])).sum()
        value, gradient = jax.jit(jax.value_and_grad(total))(logits)
        assert np.isfinite(value)
        assert (gradient[0] == 0).all()
        assert (gradient[1] != 0).any()


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "nll"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_is_finite_far_out(name, dtype):
    loss_fn = LOSSES[name][0]
    logits = jnp.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [0.0, 0.0, 0.0], [1e4, 1e4, 1e4]], dtype)
    more = [{"gamma": g} for g in (0.0, 0.5, 1.0)] if name == "focal" else [{"smoothing": 0.1}] if "cross" in name else []
    for options in [{}, *more]:
        total = lambda z, o=options: loss_fn(z, jnp.zeros(4, int), **o).astype(jnp.float32).sum()
        value, gradient = jax.jit(jax.value_and_grad(total))(logits)
        assert np.isfinite(value)
        assert np.isfinite(gradient.astype(jnp.float32)).all()


def test_impossible_classes_cost_nothing_unless_they_are_the_label():
    logits = jnp.array([[0.0, -jnp.inf, 0.0]])
    for labels in (jnp.array([0]), jnp.array([[1.0, 0.0, 0.0]])):
        value, gradient = jax.jit(jax.value_and_grad(lambda z, y=labels: softmax_cross_entropy(z, y).sum()))(logits)
        np.testing.assert_allclose(value, np.log(2))
        np.testing.assert_allclose(gradient, [[-0.5, 0.0, 0.5]])


def test_focal_without_focus_is_cross_entropy():
    logits, labels = map(jnp.array, arguments("focal", 0))
    np.testing.assert_allclose(focal.focal(logits, labels, gamma=0.0), softmax_cross_entropy(logits, labels))
    np.testing.assert_allclose(poly1(logits, labels, epsilon=0.0), softmax_cross_entropy(logits, labels))
    log_p = jax.nn.log_softmax(logits)
    np.testing.assert_allclose(negative_log_likelihood(log_p, labels), softmax_cross_entropy(logits, labels))


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int32, jnp.uint32, jnp.int64, jnp.uint64])
def test_labels_of_every_int_type_name_the_same_class(dtype):
    logits = jnp.array(np.random.default_rng(0).normal(size=(2, 130)))
    expected = [cross_entropy(row, label) for row, label in zip(np.asarray(logits), (3, 127), strict=True)]
    np.testing.assert_allclose(softmax_cross_entropy(logits, jnp.array([3, 127], dtype)), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_a_label_out_of_range_is_nan_under_jit(name):
    loss_fn = LOSSES[name][0]
    logits = jax.nn.log_softmax(jnp.array(np.random.default_rng(0).normal(size=(4, 3))))
    values = jax.jit(loss_fn)(logits, jnp.array([-1, 2, 3, -101]))
    assert jnp.isnan(values).tolist() == [True, False, True, True]
    values = jax.jit(lambda z, y, w: loss_fn(z, y, where=w))(logits, jnp.array([-1, 2, 3, 0]), jnp.array([False, True, False, True]))
    assert not jnp.isnan(values).any()


def test_a_probability_out_of_range_is_nan_under_jit():
    assert jnp.isnan(jax.jit(softmax_cross_entropy)(jnp.zeros((2, 2)), jnp.array([[0.5, 0.5], [-0.5, 1.5]]))).tolist() == [False, True]


Z, GOOD = np.zeros((8, 10)), np.zeros(8, int)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(7, int), r"(logits|log_probabilities) \[8, 10\] but labels \[7\]: labels must be ints \[8\]"),
        (np.zeros(8), r"labels \[8\] \(float64\) must be ints \[8\]"),
        (np.array([0, 1, 2, 10, 4, 5, 6, 7]), r"labels\[3\]=10 is not allowed: labels must be from 0 to 9, for 10 classes"),
        (np.array([0, 1, 2, 3, 4, -1, 6, 7]), r"labels\[5\]=-1 is not allowed: labels must be from 0 to 9"),
    ],
)
def test_wrong_labels_are_named(name, labels, message):
    with pytest.raises(ValueError, match=message):
        LOSSES[name][0](jnp.array(Z), jnp.array(labels))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z, y: softmax_cross_entropy(z, y, smoothing=1.0), "smoothing=1.0 must be at least 0 and less than 1"),
        (lambda z, y: sigmoid_cross_entropy(z, y, smoothing=-0.1), "smoothing=-0.1"),
        (lambda z, y: softmax_cross_entropy(z, y, class_weights=(1.0, 2.0)), r"class_weights \[2\] = \[1.0, 2.0\] must be .* 10 classes"),
        (lambda z, y: focal.focal(z, y, class_weights=jnp.ones(9)), r"class_weights \[9\] must be one number for each of 10 classes"),
        (lambda z, y: poly1(z, y, class_weights=(1.0,) * 9 + (-1.0,)), r"class_weights\[9\]=-1.0 is not allowed"),
        (lambda z, y: sigmoid_cross_entropy(z, y, pos_weight=(1.0,) * 9 + (float("nan"),)), r"pos_weight\[9\]=nan is not allowed"),
        (lambda z, y: softmax_cross_entropy(z, jnp.full((8, 10), 2.0)), r"labels\[0, 0\]=2.0 is not allowed: labels must be from 0 to 1"),
        (lambda z, y: softmax_cross_entropy(z, jnp.zeros((8, 10), int)), r"\[8, 10\] \(int64\) must be ints \[8\], or floats \[8, 10\]"),
        (lambda z, y: softmax_cross_entropy(z, jnp.zeros((8, 9))), r"logits \[8, 10\] but labels \[8, 9\]: labels must be \[8, 10\]"),
        (lambda z, y: negative_log_likelihood(z + 0.5, y), r"log_probabilities\[0, 0\]=0.5 is not allowed: .* at most 0, as from jax.nn"),
        (lambda z, y: focal.focal(z, y, gamma=-1.0), "gamma=-1.0 must be finite and not negative"),
        (lambda z, y: poly1(z, y, epsilon=-2.0), "epsilon=-2.0 must be at least -1"),
        (lambda z, y: multi_margin(z, y, p=3), "p=3 must be 1 or 2"),
        (lambda z, y: multi_margin(z, y, margin=float("nan")), "margin=nan must be finite"),
        (lambda z, y: multi_margin(z[:, None], y[:, None]), r"logits \[8, 1, 10\] must be \[b, k\]"),
        (lambda z, y: sigmoid_cross_entropy(z[:, None], y[:, None]), r"logits \[8, 1, 10\] must be \[b, k\]"),
        (lambda z, y: softmax_cross_entropy(z[0, :3], y[:2]), r"logits \[3\] must be \[b, k\]"),
        (lambda z, y: softmax_cross_entropy(z, y, ignore_index=1.5), "ignore_index=1.5 must be an int or None"),
        (lambda z, y: softmax_cross_entropy(z, z + 0.125), r"labels.sum\(-1\)\[0\]=1.25 is not allowed: .* must be 1, .* distribution"),
        (lambda z, y: class_balanced_weights(jnp.array([3, 0])), r"counts\[1\]=0 is not allowed: counts must be at least 1"),
        (lambda z, y: class_balanced_weights(jnp.array([3, 1]), beta=1.5), "beta=1.5 must be from 0 to 1"),
        (lambda z, y: class_balanced_weights(jnp.ones((2, 2))), r"counts \[2, 2\] must be \[k\]"),
    ],
)
def test_errors_name_what_is_wrong(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call(jnp.array(Z), jnp.array(GOOD))


def test_labels_that_do_not_count_may_be_anything():
    where = jnp.arange(8) < 7
    labels = jnp.array(GOOD).at[7].set(99)
    assert (softmax_cross_entropy(jnp.array(Z), labels, where=where)[:7] > 0).all()
    with pytest.raises(ValueError, match=r"labels\[7\]=99"):
        softmax_cross_entropy(jnp.array(Z), labels)
    with pytest.raises(ValueError, match=r"labels\[7\]=-100"):
        softmax_cross_entropy(jnp.array(Z), labels.at[7].set(-100), ignore_index=None)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999, 1.0])
def test_class_balanced_weights_follow_the_effective_number(beta):
    counts = [1, 7, 100, 5000]
    effective = [sum(beta**i for i in range(n)) for n in counts]  # the series whose sum is (1 − βⁿ) / (1 − β)
    expected = [4 / e / sum(1 / f for f in effective) for e in effective]
    np.testing.assert_allclose(class_balanced_weights(jnp.array(counts), beta=beta), expected, rtol=1e-9)
    with jax.enable_x64(False):
        np.testing.assert_allclose(class_balanced_weights(jnp.array(counts), beta=beta), expected, rtol=1e-5)
    assert jnp.isnan(jax.jit(class_balanced_weights)(jnp.array([3, 0]))).all()


def test_the_gradient_by_probabilities_is_minus_log_p():
    logits, q = np.array([[0.3, -1.0, 2.0]]), np.array([[0.0, 0.4, 0.6]])
    gradient = jax.jit(jax.grad(lambda q: classification.softmax_cross_entropy(jnp.array(logits), q).sum()))(jnp.array(q))
    np.testing.assert_allclose(gradient, numeric_gradient(lambda q: cross_entropy(logits[0], q[0]), q), rtol=1e-6)
