"""Two views of a batch as one batch."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.losses.comparison import pair_masks
from cnn_jax.losses.two_views import two_views

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_each_picture_is_a_class_of_its_own():
    first, second = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    x, labels, where = two_views(jnp.array(first), jnp.array(second), where=jnp.array([True, False, True]))
    positives, negatives = pair_masks(labels, where)
    for i in range(6):
        np.testing.assert_array_equal(x[i], (first if i < 3 else second)[i % 3])
        for j in range(6):
            counts = i % 3 != 1 and j % 3 != 1
            assert positives[i, j] == (counts and abs(i - j) == 3)
            assert negatives[i, j] == (counts and i % 3 != j % 3)


def test_all_count_by_default():
    assert two_views(jnp.ones((2, 1)), jnp.zeros((2, 1)))[2].tolist() == [True] * 4


@pytest.mark.parametrize(("second", "where", "message"), [
    ((3, 2), None, r"second must be \[2, 2\]"),
    ((2, 2), jnp.ones(2), r"must be bool \[2\]"),
    ((2, 2), jnp.ones(4, bool), r"must be bool \[2\]"),
])
def test_what_is_refused(second, where, message, unchecked):
    with pytest.raises(ValueError, match=message):
        two_views(jnp.ones((2, 2)), jnp.ones(second), where=where)
