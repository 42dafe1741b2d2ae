"""Losses on numbers against oracles written from their formulas, element by element."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax.losses import regression
from cnn_jax.losses.reduction import reduce
from tests.against_oracle import assert_equals_oracle, assert_survives

pytestmark = pytest.mark.usefixtures("float64")


def over_elements(formula):
    """The oracle of an example: the mean of a formula over its elements, in a loop."""

    def oracle(*rows, **options):
        elements = list(zip(*(np.atleast_1d(row).ravel() for row in rows), strict=True))
        return sum(formula(*e, **options) for e in elements) / len(elements)

    return oracle


def huber(s, t, delta=1.0):
    return 0.5 * (s - t) ** 2 if abs(s - t) <= delta else delta * (abs(s - t) - 0.5 * delta)


def smooth_l1(s, t, beta=1.0):
    return 0.5 * (s - t) ** 2 / beta if abs(s - t) < beta else abs(s - t) - 0.5 * beta


def poisson(s, t, log_input=True, full=False):
    value = np.exp(s) - t * s if log_input else s - t * np.log(s + 1e-8)
    return value + (t * np.log(t) - t + 0.5 * np.log(2 * np.pi * t) if full and t > 1 else 0)


def gaussian(s, t, v, full=False):
    return 0.5 * (np.log(v) + (s - t) ** 2 / v) + (0.5 * np.log(2 * np.pi) if full else 0)


def quantile(s, t, level=0.5):
    return level * (t - s) if t > s else (1 - level) * (s - t)


positive = st.sampled_from([0.3, 1.0, 2.5])
flag = st.booleans()
LOSSES = {
    "mean_squared_error": (lambda s, t: (s - t) ** 2, {}),
    "mean_absolute_error": (lambda s, t: abs(s - t), {}),
    "huber": (huber, {"delta": positive}),
    "smooth_l1": (smooth_l1, {"beta": positive}),
    "log_cosh": (lambda s, t: np.log(np.cosh(s - t)), {}),
    "quantile": (quantile, {"level": st.sampled_from([0.1, 0.5, 0.85])}),
    "poisson_nll": (poisson, {"log_input": flag, "full": flag}),
    "gaussian_nll": (gaussian, {"full": flag}),
}


def arguments(name, shape, seed, options):
    rng = np.random.default_rng(seed)
    scores, targets = rng.normal(size=shape) * 2 + 0.3, rng.normal(size=shape)
    if name == "poisson_nll":
        return (scores if options.get("log_input", True) else np.abs(scores) + 0.1), rng.integers(5, size=shape)
    if name == "gaussian_nll":
        return scores, targets, np.abs(rng.normal(size=shape)) + 0.1
    return scores, targets if seed % 2 else rng.integers(-3, 4, size=shape)


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(data=st.data(), shape=st.sampled_from([(5,), (5, 2, 3)]), seed=st.integers(0, 10**6))
def test_equals_its_oracle(name, data, shape, seed):
    formula, strategies = LOSSES[name]
    options = {key: data.draw(strategy) for key, strategy in strategies.items()}
    oracle = over_elements(formula)
    arrays = arguments(name, shape, seed, options)
    if name == "gaussian_nll":  # the mean and the variance both learn; targets stand between them
        arrays = (arrays[0], arrays[2], arrays[1])
        assert_equals_oracle(
            lambda s, v, t, **o: regression.gaussian_nll(s, t, v, **o), lambda s, v, t, **o: oracle(s, t, v, **o), arrays,
            seed=seed, num_outputs=2, **options,
        )
    else:
        assert_equals_oracle(getattr(regression, name), oracle, arrays, seed=seed, **options)


@pytest.mark.parametrize("name", LOSSES)
def test_survives_other_types_and_empty_masks(name):
    assert_survives(getattr(regression, name), arguments(name, (5, 2, 3), 3, {}))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "poisson_nll"])
def test_is_finite_far_out_and_flat_at_agreement(name):
    more = [jnp.ones(4, jnp.float32)] if name == "gaussian_nll" else []
    loss_fn = getattr(regression, name)
    targets = jnp.zeros(4, jnp.float32)
    gradient_of = jax.jit(jax.grad(lambda s: loss_fn(s, targets, *more).sum()))
    far = jnp.array([1e4, -1e4, 50.0, -50.0], jnp.float32)
    assert np.isfinite(loss_fn(far, targets, *more)).all()
    assert (jnp.sign(gradient_of(far)) == jnp.sign(far)).all()
    assert (gradient_of(targets) == (0 if name != "quantile" else 0.5)).all()


def test_log_cosh_keeps_its_digits_near_zero():
    small = np.array([1e-4, 1e-3, 0.01, 0.99, 1.01], np.float32)
    expected = np.log(np.cosh(small.astype(np.float64)))
    expected[:2] = small[:2].astype(np.float64) ** 2 / 2  # where the oracle itself cancels; the next term is below 1e-6 of it
    np.testing.assert_allclose(regression.log_cosh(jnp.array(small), jnp.zeros(5, jnp.float32)), expected, rtol=1e-5)


def test_limits_and_relations():
    s, t = jnp.array([0.3, -2.0, 5.0]), jnp.array([0.0, 0.0, 1.0])
    np.testing.assert_array_equal(regression.smooth_l1(s, t, beta=0.0), jnp.abs(s - t))
    np.testing.assert_allclose(regression.smooth_l1(s, t, beta=0.7), regression.huber(s, t, delta=0.7) / 0.7)
    np.testing.assert_allclose(regression.quantile(s, t), jnp.abs(s - t) / 2)


def test_a_variance_below_epsilon_keeps_its_gradient():
    value, gradient = jax.jit(jax.value_and_grad(lambda v: regression.gaussian_nll(jnp.zeros(1), jnp.zeros(1), v)[0]))(jnp.array([0.0]))
    np.testing.assert_allclose(value, 0.5 * np.log(1e-6))
    np.testing.assert_allclose(gradient, 0.5 / 1e-6)


def test_mean_and_sum_of_the_values_are_those_of_all_elements():
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    losses = regression.mean_squared_error(jnp.array(s), jnp.array(t))
    np.testing.assert_allclose(reduce(losses), ((s - t) ** 2).mean())
    np.testing.assert_allclose(reduce(losses, how="sum") * 3, ((s - t) ** 2).sum())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: regression.mean_squared_error(jnp.zeros(8), jnp.zeros(7)), r"scores \[8\] but targets \[7\]: targets must be \[8\]"),
        (lambda: regression.mean_squared_error(jnp.zeros((8, 1)), jnp.zeros(8)), r"scores \[8, 1\] but targets \[8\]"),
        (lambda: regression.huber(jnp.zeros(1), jnp.zeros(1), delta=0.0), "delta=0.0 must be positive"),
        (lambda: regression.smooth_l1(jnp.zeros(1), jnp.zeros(1), beta=-1.0), "beta=-1.0 must be finite and not negative"),
        (lambda: regression.quantile(jnp.zeros(1), jnp.zeros(1), level=1.0), "level=1.0 must be between 0 and 1"),
        (lambda: regression.poisson_nll(jnp.zeros(2), jnp.array([1, -2])), r"targets\[1\]=-2 is not allowed: targets must be counts"),
        (lambda: regression.poisson_nll(jnp.zeros(1), jnp.zeros(1), epsilon=0.0), "epsilon=0.0"),
        (
            lambda: regression.poisson_nll(jnp.array([1.0, -2.0]), jnp.ones(2), log_input=False),
            r"scores\[1\]=-2.0 is not allowed: scores must be expected counts, not negative, where log_input is False",
        ),
        (lambda: regression.gaussian_nll(jnp.zeros(1), jnp.zeros(1), jnp.array([-1.0])), r"variances\[0\]=-1.0 .* not negative"),
        (lambda: regression.gaussian_nll(jnp.zeros(2), jnp.zeros(2), jnp.zeros(1)), r"scores \[2\] but variances \[1\]"),
        (lambda: regression.gaussian_nll(jnp.zeros(1), jnp.zeros(1), jnp.zeros(1), epsilon=0.0), "epsilon=0.0"),
    ],
)
def test_errors_name_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_negative_counts_are_nan_under_jit():
    values = jax.jit(regression.poisson_nll)(jnp.zeros(2), jnp.array([1, -2]))
    assert jnp.isnan(values).tolist() == [False, True]
