"""Adaptive pooling against bins found position by position."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax.ops.adaptive_pool import adaptive_average_pool, adaptive_max_pool
from tests.even_choice import TYPES, evenly
from tests.walked_windows import assert_equals_walk, first_maximum

# Positions and bins along one to three axes; bins may be more.
three_axes = st.tuples(*(st.tuples(st.integers(1, most), st.integers(1, most)) for most in (7, 5, 4)))
sizes = three_axes.map(lambda axes: tuple(zip(*axes[3 - evenly((1, 2, 3), axes) :], strict=True)))


def bins(space, outputs):
    """Bin i of m along n positions holds the positions whose stretch [j, j + 1) meets [i·n/m, (i + 1)·n/m)."""
    for place in itertools.product(*map(range, outputs)):
        rows = [[j for j in range(n) if (j + 1) * m > i * n and j * m < (i + 1) * n] for i, n, m in zip(place, space, outputs, strict=True)]
        yield place, [*itertools.product(*rows)], None


@pytest.mark.usefixtures("float64")
@settings(max_examples=15, deadline=None, derandomize=True)
@given(sizes)
def test_adaptive_average_is_the_mean_of_each_bin(sizes):
    space, outputs = sizes
    x = np.random.default_rng(0).normal(size=(2, *space, 2)) + 1
    ours = functools.partial(adaptive_average_pool, output_size=outputs)
    assert_equals_walk(ours, x, bins(space, outputs), lambda v, _: v.mean(0), dtype=evenly(TYPES, sizes))


@pytest.mark.usefixtures("float64")
@settings(max_examples=15, deadline=None, derandomize=True)
@given(sizes)
def test_adaptive_maximum_is_the_first_of_each_bin(sizes):
    space, outputs = sizes
    x = np.random.default_rng(0).integers(-9, -5, size=(2, *space, 2)).astype(float)  # ties everywhere
    ours = functools.partial(adaptive_max_pool, output_size=outputs)
    assert_equals_walk(ours, x, bins(space, outputs), lambda v, _: v.max(0), slope=first_maximum, dtype=evenly(TYPES, sizes, 1))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("function", [adaptive_average_pool, adaptive_max_pool])
def test_output_sizes_that_do_not_fit_are_named(function):
    x = np.zeros((1, 5, 4, 2), np.float32)
    for inputs, output_size, message in [
        (x, 0, "output_size=0 must be whole numbers of at least 1"),
        (x, (2, -1), r"output_size=\(2, -1\) must be"),
        (x, (2, 2.0), r"output_size=\(2, 2.0\) must be"),
        (x, (2, 2, 2), r"output_size=\(2, 2, 2\) has 3 number.s. for 2 spatial axes"),
        (x[0, 0], 2, "1 to 3 spatial axes"),
    ]:
        with pytest.raises(ValueError, match=message):
            function(inputs, output_size)
