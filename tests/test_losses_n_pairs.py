"""N-pair loss over a batch against loops."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses.n_pairs import n_pairs
from tests.embedding_cases import assert_equals_ordered_oracle, make_case, mean

pytestmark = pytest.mark.usefixtures("float64")


def first_pairs(labels, where):
    """(first, second) example that counts, of each class that has two."""
    members = [[i for i in range(len(labels)) if where[i] and labels[i] == kind] for kind in sorted(set(labels))]
    return [m[:2] for m in members if len(m) > 1]


def oracle(x, labels, where):
    chosen = first_pairs(labels, where)
    return mean([math.log(sum(math.exp(x[a] @ x[other] - x[a] @ x[p]) for _, other in chosen)) for a, p in chosen])


def test_against_loops():
    # Products have a derivative everywhere.
    assert_equals_ordered_oracle(n_pairs, oracle, without_derivative=[])


def test_the_pair_is_the_first_that_a_miner_leaves():
    x, labels, where = make_case("random")
    chosen = first_pairs(labels, where)
    first, second = chosen[0]
    labelled = np.flatnonzero(labels == labels[first])

    def miner(comparison):
        """Drops the first pair of a class, and weighs the others."""
        return comparison._replace(positives=comparison.positives.at[first, second].set(False) * 2)

    chosen[0] = (first, labelled[2])
    expected = [math.log(sum(math.exp(x[a] @ x[other] - x[a] @ x[p]) for _, other in chosen)) for a, p in chosen]
    found = n_pairs(jnp.array(x), jnp.array(labels), miner=miner)
    np.testing.assert_allclose(found.mean(), mean(expected), rtol=1e-10)
    assert np.flatnonzero(found).tolist() == sorted(a for a, _ in chosen)


def test_long_embeddings_do_not_overflow():
    x = 100 * jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], jnp.float32)
    np.testing.assert_allclose(n_pairs(x, jnp.array([0, 0, 1, 1])).mean(), 1e4)
