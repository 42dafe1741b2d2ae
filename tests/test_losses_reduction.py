"""What all losses share: reduction, what does not count, and options that are tuples as settings and arrays in programs."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses import classification, contrastive, focal, multi_label, ranking, regression, triplet
from cnn_jax.losses.examples import hide, read
from cnn_jax.losses.reduction import masked_mean, reduce
from cnn_jax.options import fits, options, parse, reads

VALUES = jnp.array([1.0, 5.0, 3.0])
WHERE = jnp.array([True, False, True])


def test_reduce_divides_by_what_counts():
    assert reduce(VALUES) == 3
    assert reduce(VALUES, WHERE) == masked_mean(VALUES, WHERE) == 2
    assert reduce(VALUES, WHERE, how="sum") == 4
    assert reduce(VALUES, WHERE, weights=jnp.array([0.5, 9.0, 1.5])) == 2
    assert reduce(VALUES.at[1].set(jnp.nan), WHERE) == 2


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_the_mean_of_many_halves_stays_in_range(dtype):
    values = jnp.full(1000, 100.0, dtype)
    for mean in (reduce(values), reduce(values, jnp.arange(1000) < 900), reduce(values, weights=jnp.ones(1000, dtype))):
        assert mean.dtype == dtype
        assert mean == 100


def test_weights_of_what_does_not_count_may_be_anything():
    assert reduce(VALUES, WHERE, weights=jnp.array([0.5, -9.0, 1.5])) == 2


@pytest.mark.parametrize("options", [{}, {"how": "sum"}, {"weights": jnp.ones(3)}])
def test_reduce_of_nothing_is_zero_with_zero_gradient(options):
    value, gradient = jax.jit(jax.value_and_grad(lambda v: reduce(v, jnp.zeros(3, bool), **options)))(VALUES)
    assert value == 0
    assert (gradient == 0).all()


def test_reduce_with_weights_that_are_all_zero_is_zero():
    value, gradient = jax.jit(jax.value_and_grad(lambda v: reduce(v, weights=jnp.zeros(3))))(VALUES)
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reduce(VALUES, how="max"), "how='max' must be 'mean' or 'sum'"),
        (lambda: reduce(VALUES, jnp.ones(3)), r"where \[3\] \(float32\) must be bool \[3\]"),
        (lambda: reduce(VALUES, jnp.ones(2, bool)), r"where \[2\] must have the shape of the values, \[3\]"),
        (lambda: reduce(VALUES, jnp.array(True)), r"where \[\] must have the shape of the values, \[3\]"),
        (lambda: reduce(VALUES, weights=jnp.array([1.0, -1.0, 2.0])), r"weights\[1\]=-1.0 is not allowed: weights must be not negative"),
        (lambda: hide(VALUES, jnp.ones(2, bool)), r"where \[2\] \(bool\) must be bool \[3\]: True for what counts"),
        (lambda: hide(VALUES, jnp.ones(3)), r"where \[3\] \(float32\) must be bool \[3\]"),
        (lambda: read("logits", jnp.ones(3, int)), r"logits \[3\] \(int32\) must be floats"),
    ],
)
def test_errors_name_what_is_wrong(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()


TRAINABLE = {
    "scores": [
        regression.mean_squared_error, regression.mean_absolute_error, regression.smooth_l1, regression.huber, regression.log_cosh,
        regression.quantile, regression.poisson_nll, ranking.margin_ranking,
    ],
    "embeddings": [triplet.triplet_batch_hard, triplet.triplet_batch_all, triplet.triplet_semi_hard, contrastive.contrastive],
    "logits": [
        classification.softmax_cross_entropy, classification.poly1, classification.multi_margin, focal.focal,
        multi_label.sigmoid_cross_entropy,
    ],
}


@pytest.mark.parametrize(("reading", "loss_fn"), [(name, f) for name, family in TRAINABLE.items() for f in family])
def test_what_the_training_step_does_with_a_loss(reading, loss_fn):
    """Int labels, a mask, jit: padded rows of NaN change neither the loss nor its gradient."""
    assert reads(loss_fn) == reading
    rng = np.random.default_rng(0)
    outputs = jnp.array(rng.normal(size=(6,) if reading == "scores" else (6, 3)), jnp.float32)
    labels, where = jnp.array([0, 1, 0, 1, 2, 2]), jnp.arange(6) < 4

    def mean(outputs, labels, where):
        losses = loss_fn(outputs, labels, where=where)
        return masked_mean(losses, where), losses

    gradient_of = jax.jit(jax.value_and_grad(mean, has_aux=True))
    (value, losses), gradient = gradient_of(outputs.at[4:].set(jnp.nan), labels.at[4:].set(-1), where)
    (padded, _), same = gradient_of(outputs.at[4:].set(0), labels.at[4:].set(0), where)
    assert losses.shape == (6,)
    assert (losses[4:] == 0).all()
    assert np.isfinite(value)
    assert (gradient[:4] != 0).any()
    assert (gradient[4:] == 0).all()
    np.testing.assert_allclose(value, padded, rtol=1e-6)
    np.testing.assert_allclose(gradient, same, rtol=1e-6)


def test_class_weights_are_set_as_numbers():
    for loss_fn in TRAINABLE["logits"]:
        option = options(loss_fn)["class_weights"]
        assert option.default is None
        assert parse("1, 2,0.5", option.type, "class_weights") == (1.0, 2.0, 0.5)
        assert parse("none", option.type, "class_weights") is None
        assert fits((1, 2), option.type)
        assert fits(None, option.type)
        assert not fits(jnp.ones(2), option.type)
        weighted = partial(loss_fn, class_weights=(1.0, 2.0, 0.5))
        assert jax.eval_shape(weighted, jnp.zeros((2, 3)), jnp.array([0, 1])).shape == (2,)
    assert set(options(focal.focal)) == {"gamma", "class_weights", "ignore_index"}


def test_every_option_of_a_loss_can_be_set():
    for family in TRAINABLE.values():
        for loss_fn in family:
            kinds = inspect.signature(loss_fn).parameters.values()
            given = ("where", "references", "miner")  # by the program
            assert set(options(loss_fn)) == {p.name for p in kinds if p.kind is p.KEYWORD_ONLY and p.name not in given}
