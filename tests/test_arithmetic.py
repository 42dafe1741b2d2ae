"""The arithmetic of convolution (output sizes, neurons, connections, multiply-adds) against counting."""

import itertools

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given

from cnn_jax.ops import arithmetic
from cnn_jax.ops.conv import correlate
from tests.conv_cases import EXAMPLES, cases


@EXAMPLES
@given(cases())
def test_counts_equal_counting(case):
    """Weights, neurons, connections and multiply-adds, tap by tap."""
    spread = [(n - 1) * gap + 1 for n, gap in zip(case.space, case.input_dilation, strict=True)]
    positions = [-(-(n + sum(p) - (k - 1) * d) // s) for n, k, s, p, d in zip(spread, *case[1:5], strict=True)]
    taps = list(itertools.product(*map(range, case.window)))
    pairs = [(c, o) for c in range(case.c_in) for o in range(case.c_out) if c * case.groups // case.c_in == o * case.groups // case.c_out]
    macs = edges = 0
    for place, tap in itertools.product(itertools.product(*map(range, positions)), taps):
        at = [p * s + t * d - b for p, s, t, d, (b, _) in zip(place, case.stride, tap, case.dilation, case.pads, strict=True)]
        inside = all(a in range(0, n, gap) for a, n, gap in zip(at, spread, case.input_dilation, strict=True))
        macs, edges = macs + len(pairs), edges + inside * len(pairs)
    neurons = len(list(itertools.product(*map(range, positions), range(case.c_out))))
    geometry = case.options("stride", "padding", "dilation", "input_dilation")
    channels = (case.space, case.window, case.c_in, case.c_out)
    assert arithmetic.num_weights(*channels[1:], groups=case.groups) == len(taps) * len(pairs)
    assert arithmetic.output_sizes(case.space, case.window, **geometry) == tuple(positions)
    assert arithmetic.num_neurons(case.space, case.window, case.c_out, **geometry) == neurons
    assert arithmetic.num_macs(*channels, groups=case.groups, **geometry) == macs
    assert arithmetic.num_connections(*channels, groups=case.groups, use_bias=False, **geometry) == edges
    assert arithmetic.num_connections(*channels, groups=case.groups, **geometry) == edges + neurons


@pytest.mark.parametrize("input_dilation", [1, (1, 3)])
@pytest.mark.parametrize("padding", ["SAME", "VALID", 2, (1, (0, 3))])
def test_output_sizes_are_those_of_the_operation(padding, input_dilation):
    x, w = jnp.zeros((1, 11, 8, 2)), jnp.zeros((3, 4, 2, 5))
    geometry = {"stride": (2, 3), "dilation": (2, 1), "padding": padding, "input_dilation": input_dilation}
    y = jax.eval_shape(lambda: correlate(x, w, **geometry))
    assert y.shape[1:-1] == arithmetic.output_sizes((11, 8), (3, 4), **geometry)
