"""Yes-or-no and multi-label losses against oracles written from their formulas, element by element."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax.losses.binary import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    hinge,
    soft_margin,
    squared_hinge,
)
from cnn_jax.losses.focal import sigmoid_focal
from cnn_jax.losses.multi_label import asymmetric, multi_label_margin, multi_label_soft_margin, sigmoid_cross_entropy
from tests.against_oracle import assert_equals_oracle, assert_survives

pytestmark = pytest.mark.usefixtures("float64")


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def over_elements(formula):
    """The oracle of an example: the mean of formula(output, target, place along the last axis) over its elements."""

    def oracle(row, target, **options):
        row, target = np.asarray(row), np.asarray(target)
        places = list(np.ndindex(row.shape))
        return sum(formula(row[i], target[i], i[-1] if i else 0, **options) for i in places) / len(places)

    return oracle


def bce(p, t, j):
    return -t * np.log(p) - (1 - t) * np.log(1 - p)


def bce_with_logits(z, t, j, pos_weight=None, class_weights=None, smoothing=0.0):
    t = t * (1 - smoothing) + smoothing / 2
    yes = 1 if pos_weight is None else pos_weight[j % len(pos_weight)]
    return (1 if class_weights is None else class_weights[j % len(class_weights)]) * (
        -yes * t * np.log(sigmoid(z)) - (1 - t) * np.log(1 - sigmoid(z))
    )


def focal_oracle(z, t, j, alpha=0.25, gamma=2.0):
    """torchvision's, line by line."""
    p = sigmoid(z)
    p_t = p * t + (1 - p) * (1 - t)
    loss = bce(p, t, j) * (1 - p_t) ** gamma
    return loss if alpha is None else (alpha * t + (1 - alpha) * (1 - t)) * loss


def multi_label_margin_oracle(row, target):
    total = 0.0
    for i, applies in enumerate(target):
        for j, other in enumerate(target):
            if applies == 1 and other == 0:
                total += max(0.0, 1 - (row[i] - row[j]))
    return total / len(row)


def asymmetric_oracle(row, target, gamma_negative=4.0, gamma_positive=1.0, shift=0.05):
    total = 0.0
    for z, t in zip(row, target, strict=True):
        m = max(sigmoid(z) - shift, 0)
        total -= (1 - sigmoid(z)) ** gamma_positive * np.log(sigmoid(z)) if t else m**gamma_negative * np.log(1 - m)
    return total


three = (0.5, 2.0, 0.0)
gammas = st.sampled_from([0.0, 0.5, 1.0, 3.0])
LOSSES = {
    "bce": (binary_cross_entropy, over_elements(bce), {}, "probabilities"),
    "bce_with_logits": (
        binary_cross_entropy_with_logits, over_elements(bce_with_logits),
        {"pos_weight": st.sampled_from([None, three, (1.7,)]), "class_weights": st.sampled_from([None, three, (0.3,)]),
         "smoothing": st.sampled_from([0.0, 0.2])}, "soft",
    ),
    "sigmoid_focal": (sigmoid_focal, over_elements(focal_oracle), {"alpha": st.sampled_from([None, 0.25, 0.6]), "gamma": gammas}, "soft"),
    "soft_margin": (soft_margin, over_elements(lambda s, t, j: np.log(1 + np.exp(-t * s))), {}, "signs"),
    "hinge": (hinge, over_elements(lambda s, t, j: max(0.0, 1 - t * s)), {}, "signs"),
    "squared_hinge": (squared_hinge, over_elements(lambda s, t, j: max(0.0, 1 - t * s) ** 2), {}, "signs"),
    "multi_label_soft_margin": (
        multi_label_soft_margin, over_elements(bce_with_logits), {"class_weights": st.sampled_from([None, three])}, "multi_label",
    ),
    "multi_label_margin": (multi_label_margin, multi_label_margin_oracle, {}, "multi_label"),
    "asymmetric": (
        asymmetric, asymmetric_oracle, {"gamma_negative": gammas, "gamma_positive": gammas, "shift": st.sampled_from([0.0, 0.05])},
        "multi_label",
    ),
}


def arguments(name, shape, seed):
    rng, kind = np.random.default_rng(seed), LOSSES[name][3]
    outputs = rng.normal(size=shape) * 2 + 0.3
    if kind == "signs":
        return outputs, rng.choice([-1, 1], size=shape)
    if kind == "multi_label":
        return outputs, rng.integers(2, size=shape)
    targets = rng.random(size=shape) if seed % 2 else rng.integers(2, size=shape)
    return (rng.uniform(0.02, 0.98, size=shape) if kind == "probabilities" else outputs), targets


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_equals_its_oracle(name, data, seed):
    loss_fn, oracle, strategies, kind = LOSSES[name]
    shape = (5, 3) if kind == "multi_label" else data.draw(st.sampled_from([(5,), (5, 2, 3)]))
    options = {key: data.draw(strategy) for key, strategy in strategies.items()}
    if len(shape) == 1:
        options = {key: value[:1] if isinstance(value, tuple) else value for key, value in options.items()}
    assert_equals_oracle(loss_fn, oracle, arguments(name, shape, seed), seed=seed, **options)


@pytest.mark.parametrize("name", LOSSES)
def test_survives_other_types_and_empty_masks(name):
    assert_survives(LOSSES[name][0], arguments(name, (5, 3), 4))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "bce"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_is_finite_far_out(name, dtype):
    loss_fn, _, _, kind = LOSSES[name]
    outputs = jnp.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 100.0], [100.0, -100.0, 15.0]], dtype)
    targets = jnp.array([[1, -1, 1], [1, -1, -1], [-1, 1, 1]])
    targets = targets if kind == "signs" else targets > 0
    keys = [key for key in ("gamma", "gamma_negative", "gamma_positive") if key in LOSSES[name][2]]
    for options in [{}, *(dict.fromkeys(keys, 0.5) | ({"shift": 0.0} if name == "asymmetric" else {}) for _ in keys[:1])]:
        total = lambda z, o=options: loss_fn(z, targets, **o).astype(jnp.float32).sum()
        value, gradient = jax.jit(jax.value_and_grad(total))(outputs)
        assert np.isfinite(value)
        assert np.isfinite(gradient.astype(jnp.float32)).all()


def test_probabilities_of_0_and_1_cost_100_and_have_torchs_gradient():
    p, t = jnp.array([0.0, 1.0, 0.0, 1.0, 1e-3]), jnp.array([1.0, 0.0, 0.0, 1.0, 1.0])
    losses = binary_cross_entropy(p, t)
    np.testing.assert_allclose(losses, [100.0, 100.0, 0.0, 0.0, -np.log(1e-3)])
    gradient = jax.jit(jax.grad(lambda p: binary_cross_entropy(p, t).sum()))(p)
    np.testing.assert_allclose(gradient, [-1e12, 1e12, 0.0, 0.0, -1e3])
    by_target = jax.jit(jax.grad(lambda t: binary_cross_entropy(p, t).sum()))(t)
    np.testing.assert_allclose(by_target, [100.0, -100.0, 100.0, -100.0, np.log((1 - 1e-3) / 1e-3)])


def test_probabilities_and_logits_agree_through_the_sigmoid():
    z, t = jnp.array([-6.0, -1.0, 0.0, 2.0, 5.0]), jnp.array([0.0, 1.0, 0.3, 1.0, 0.0])
    for both in (lambda f: f(z), jax.grad):
        if both is jax.grad:
            on_p = jax.jit(jax.grad(lambda z: binary_cross_entropy(jax.nn.sigmoid(z), t).sum()))(z)
            on_z = jax.jit(jax.grad(lambda z: binary_cross_entropy_with_logits(z, t).sum()))(z)
        else:
            on_p, on_z = binary_cross_entropy(jax.nn.sigmoid(z), t), binary_cross_entropy_with_logits(z, t)
        np.testing.assert_allclose(on_p, on_z, rtol=1e-6)


def test_one_number_weighs_all_places():
    z, t = jnp.array([[0.5, -1.0, 2.0]]), jnp.array([[1, 0, 1]])
    expected = binary_cross_entropy_with_logits(z, t, pos_weight=(3.0, 3.0, 3.0))
    for one in (3.0, (3.0,), jnp.array(3.0)):
        np.testing.assert_array_equal(binary_cross_entropy_with_logits(z, t, pos_weight=one), expected)
    one, each = (sigmoid_cross_entropy(z, jnp.array([1]), pos_weight=w) for w in (3.0, (3.0, 3.0, 3.0)))
    np.testing.assert_array_equal(one, each)


def test_what_is_not_allowed_is_nan_under_jit():
    z = jnp.array([0.5, 0.5, 0.5])
    for loss_fn in (soft_margin, hinge, squared_hinge):
        assert jnp.isnan(jax.jit(loss_fn)(z, jnp.array([1, 0, -1]))).tolist() == [False, True, False]
    for loss_fn in (binary_cross_entropy_with_logits, sigmoid_focal, binary_cross_entropy):
        assert jnp.isnan(jax.jit(loss_fn)(z, jnp.array([1, -1, 2]))).tolist() == [False, True, True]
    assert jnp.isnan(jax.jit(binary_cross_entropy)(jnp.array([-0.1, 1.1, 0.5]), jnp.ones(3))).tolist() == [True, True, False]
    for loss_fn in (multi_label_margin, asymmetric, multi_label_soft_margin):
        assert jnp.isnan(jax.jit(loss_fn)(jnp.zeros((2, 2)), jnp.array([[1, 0], [3, -1]]))).tolist() == [False, True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: binary_cross_entropy(jnp.array([0.5, 1.5]), jnp.ones(2)), r"probabilities\[1\]=1.5 is not allowed: .* from 0 to 1"),
        (lambda: binary_cross_entropy(jnp.array([jnp.nan]), jnp.ones(1)), r"probabilities\[0\]=nan is not allowed"),
        (lambda: binary_cross_entropy(jnp.ones(2), jnp.array([1, -1])), r"targets\[1\]=-1 is not allowed: targets must be from 0 to 1"),
        (lambda: binary_cross_entropy(jnp.ones(8), jnp.ones(7)), r"probabilities \[8\] but targets \[7\]"),
        (lambda: binary_cross_entropy_with_logits(jnp.ones((2, 3)), jnp.ones(2)), r"logits \[2, 3\] but targets \[2\]: .* \[2, 3\]"),
        (lambda: binary_cross_entropy_with_logits(jnp.ones(1), jnp.ones(1), smoothing=1.0), "smoothing=1.0"),
        (
            lambda: binary_cross_entropy_with_logits(jnp.ones((2, 3)), jnp.ones((2, 3)), pos_weight=(1.0, 2.0)),
            r"pos_weight \[2\] = \[1.0, 2.0\] must be one number for each of 3 classes",
        ),
        (lambda: sigmoid_focal(jnp.ones(1), jnp.ones(1), alpha=-1.0), "alpha=-1.0 must be from 0 to 1, or None"),
        (lambda: sigmoid_focal(jnp.ones(1), jnp.ones(1), gamma=-1.0), "gamma=-1.0 must be finite and not negative"),
        *(
            (lambda f=f, t=t: f(jnp.ones(1), jnp.array([t])), r"targets \[1\] \(bool\) must be numbers, 1 or -1")
            for f in (hinge, squared_hinge, soft_margin) for t in (True, False)
        ),
        (lambda: multi_label_margin(jnp.ones(3), jnp.ones(3)), r"logits \[3\] must be \[b, k\]"),
        (lambda: asymmetric(jnp.ones(3), jnp.ones(3)), r"logits \[3\] must be \[b, k\]"),
        (lambda: hinge(jnp.ones((1, 2)), jnp.array([[1, 0]])), r"targets\[0, 1\]=0 is not allowed: targets must be 1 or -1"),
        (lambda: soft_margin(jnp.ones(2), jnp.array([1.0, 0.5])), r"targets\[1\]=0.5 is not allowed"),
        (lambda: asymmetric(jnp.ones((1, 2)), jnp.ones((1, 2)), shift=1.0), "shift=1.0"),
        (lambda: multi_label_margin(jnp.ones((1, 2)), jnp.ones((1, 3))), r"logits \[1, 2\] but targets \[1, 3\]"),
    ],
)
def test_errors_name_what_is_wrong(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
