"""Softmax losses over the cosines of a batch against loops; the same in blocks of anchors, in their memory."""

import math
from functools import partial
from itertools import chain

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses.comparison import References
from cnn_jax.losses.info_nce import nt_xent, supervised_contrastive
from cnn_jax.losses.two_views import two_views
from tests.embedding_cases import CASES, assert_equals_batch_oracle, cosines, make_case, mean
from tests.mined_cases import assert_equals_when_mined, negatives_of, over_pairs

pytestmark = pytest.mark.usefixtures("float64")
LOSSES = [nt_xent, supervised_contrastive]


def nt_xent_oracle(x, positives, negatives, where, temperature=0.07, tile=None):
    e = np.exp(cosines(x) / temperature)
    return mean([-math.log(e[a, p] / (e[a, p] + sum(e[a, n] for n in negatives_of(a, negatives)))) for a, p in positives])


def supervised_oracle(x, positives, negatives, where, temperature=0.1, tile=None):
    e = np.exp(cosines(x) / temperature)
    losses = []
    for anchor in range(len(where)):
        mine, others = ({j for a, j in listed if a == anchor} for listed in (positives, negatives))
        if mine and negatives:
            losses.append(-mean([math.log(e[anchor, p] / sum(e[anchor, j] for j in mine | others)) for p in mine]))
    return mean(losses)


ORACLES = {nt_xent: nt_xent_oracle, supervised_contrastive: supervised_oracle}


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5}, {"temperature": 0.5, "tile": 2}])
@pytest.mark.parametrize("loss_fn", LOSSES)
def test_against_loops(loss_fn, options):
    assert_equals_batch_oracle(loss_fn, over_pairs(ORACLES[loss_fn]), **options)


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_mined(loss_fn):
    assert_equals_when_mined(loss_fn, ORACLES[loss_fn], temperature=0.3)


def test_one_positive_an_anchor_makes_the_two_the_same():
    first, second = np.random.default_rng(8).normal(size=(2, 5, 3))
    x, labels, where = two_views(jnp.array(first), jnp.array(second), where=jnp.arange(5) != 3)
    one, other = (jax.jit(partial(loss_fn, temperature=0.2))(x, labels, where=where) for loss_fn in LOSSES)
    np.testing.assert_allclose(one, other, rtol=1e-12)
    assert (one[where] > 0).all()


@pytest.mark.parametrize("tile", [1, 4, 100])
@pytest.mark.parametrize("loss_fn", LOSSES)
def test_in_blocks_all_is_the_same(loss_fn, tile):
    earlier, kinds, _ = make_case("lone_labels")
    references = References(jnp.array(earlier), jnp.array(kinds), jnp.arange(9) % 4 != 0)
    factors = jnp.array(np.random.default_rng(2).normal(size=9))  # each anchor's own, so that a permuted one shows

    def weighted(x, labels, where, tile):
        return (loss_fn(x, labels, where=where, references=references, tile=tile) * factors).sum()

    compiled = jax.jit(jax.value_and_grad(weighted), static_argnums=3)
    for case in CASES:
        x, labels, where = map(jnp.array, make_case(case))
        for found, expected in zip(compiled(x, labels, where, tile), compiled(x, labels, where, None), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10, err_msg=case)


def largest(jaxpr):
    """The number of elements of the largest array that a program makes, in its loops and branches as well."""
    sizes = [math.prod(v.aval.shape) for e in jaxpr.eqns for v in e.outvars]
    within = chain.from_iterable(jax.tree.leaves(list(e.params.values()), is_leaf=lambda v: hasattr(v, "eqns")) for e in jaxpr.eqns)
    return max([0, *sizes, *(largest(v) for v in within if hasattr(v, "eqns"))])


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_in_blocks_no_array_is_larger_than_a_block(loss_fn):
    x, labels = jnp.ones((200, 4)), jnp.zeros(200, int)

    def program(tile):
        return jax.make_jaxpr(jax.grad(lambda x: loss_fn(x, labels, tile=tile).sum()))(x).jaxpr

    assert largest(program(None)) == 200 * 200
    assert largest(program(10)) == 200 * 10


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_low_temperatures_do_not_overflow(loss_fn):
    x, labels, _ = make_case("random")
    mean = lambda x: loss_fn(x, jnp.array(labels), temperature=1e-3).mean()
    value, gradient = jax.jit(jax.value_and_grad(mean))(jnp.array(x, jnp.float32))
    assert value > 1  # a negative is nearer than a positive
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize(("options", "message"), [
    ({"temperature": 0.0}, r"temperature=0\.0 must be finite and positive"),
    ({"temperature": math.inf}, "temperature=inf"),
    ({"tile": 0}, "tile=0 must be a whole number of at least 1"),
    ({"tile": 2, "miner": lambda comparison: comparison}, "tile=2 must be None with a miner"),
])
@pytest.mark.parametrize("loss_fn", LOSSES)
def test_what_is_refused(loss_fn, options, message, unchecked):
    with pytest.raises(ValueError, match=message):
        loss_fn(jnp.ones((3, 2)), jnp.array([0, 0, 1]), **options)
