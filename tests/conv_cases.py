"""Configurations of a convolution, and its definition as a sum of products, with which values and gradients are compared."""

import itertools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from tests.layer_oracle import TOLERANCES

EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True)


class Case(NamedTuple):
    space: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    input_dilation: tuple[int, ...]
    groups: int
    c_in: int
    c_out: int

    def options(self, *names):
        renamed = {"padding": self.pads}
        return {name: renamed.get(name, getattr(self, name, None)) for name in names}


@st.composite
def cases(draw):
    n = draw(st.integers(1, 3))

    def each(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(n))

    groups = draw(st.sampled_from([1, 1, 2, 3]))
    pads = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(n))
    window, dilation = each(1, 3), each(1, 2)
    space = tuple(draw(st.integers((k - 1) * d + 1, (k - 1) * d + 3)) for k, d in zip(window, dilation, strict=True))
    c_in, c_out = (groups * draw(st.integers(1, 2)) for _ in range(2))
    return Case(space, window, each(1, 3), pads, dilation, each(1, 2), groups, c_in, c_out)


def beyond(at, size, border):
    """The place whose value stands at `at`, inside or outside of `size` places; None for zero."""
    if border == "zeros":
        return at if 0 <= at < size else None
    if border == "replicate":
        return min(max(at, 0), size - 1)
    if border == "circular":
        return at % size
    return -at if at < 0 else 2 * (size - 1) - at if at >= size else at


def channels(case):
    """(output channel, input channel, its place within the group), for each pair of one group."""
    per_group, outputs = case.c_in // case.groups, case.c_out // case.groups
    for o in range(case.c_out):
        yield from ((o, o // outputs * per_group + c, c) for c in range(per_group))


def correlate_terms(case, border="zeros"):
    """The output's shape without the batch, and the definition: (output, input, weight) of each product, all three as indices.

    What lies outside is the border's; between inputs that are spread there is zero.
    """
    positions = []
    for size, k, s, (before, after), d, gap in zip(*case[:6], strict=True):
        spread = (size - 1) * gap + 1
        positions.append((spread + before + after - ((k - 1) * d + 1)) // s + 1)
    terms = []
    for place in itertools.product(*map(range, positions)):
        for tap in itertools.product(*map(range, case.window)):
            at = [p * s + t * d - b for p, s, t, d, (b, _) in zip(place, case.stride, tap, case.dilation, case.pads, strict=True)]
            if any(a % gap for a, gap in zip(at, case.input_dilation, strict=True)):
                continue
            source = [beyond(a // gap, n, border) for a, gap, n in zip(at, case.input_dilation, case.space, strict=True)]
            if None not in source:
                terms += [((*place, o), (*source, c), (*tap, inner, o)) for o, c, inner in channels(case)]
    return (*positions, case.c_out), terms


def transposed_terms(case, extra):
    """As `correlate_terms`: each input spreads its kernel over the output, from which the padding is then cut off."""
    rows = zip(case.space, case.window, case.stride, case.dilation, case.pads, extra, strict=True)
    positions = [(n - 1) * s + (k - 1) * d + 1 - before - after + e for n, k, s, d, (before, after), e in rows]
    terms = []
    for place in itertools.product(*map(range, case.space)):
        for tap in itertools.product(*map(range, case.window)):
            at = [p * s + t * d - b for p, s, t, d, (b, _) in zip(place, case.stride, tap, case.dilation, case.pads, strict=True)]
            if all(0 <= a < n for a, n in zip(at, positions, strict=True)):
                terms += [((*at, o), (*place, c), (*tap, inner, o)) for o, c, inner in channels(case)]
    return (*positions, case.c_out), terms


def added_up(shape_and_terms, x, w):
    """The value of a bilinear map, term by term."""
    shape, terms = shape_and_terms
    y = np.zeros((len(x), *shape))
    for output, source, weight in terms:
        y[(slice(None), *output)] += x[(slice(None), *source)] * w[weight]
    return y


def slopes(shape_and_terms, x, w, cotangent):
    """Gradients of (value · cotangent) by x and by w, term by term."""
    by_x, by_w = np.zeros(x.shape), np.zeros(w.shape)
    for output, source, weight in shape_and_terms[1]:
        g = cotangent[(slice(None), *output)]
        by_x[(slice(None), *source)] += g * w[weight]
        by_w[weight] += (g * x[(slice(None), *source)]).sum()
    return by_x, by_w


def arrays(case, seed=0):
    """Inputs, two of them, and a kernel."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, *case.space, case.c_in)), rng.normal(size=(*case.window, case.c_in // case.groups, case.c_out))


def check_against(ours, value, gradients, *given, dtype="float64"):
    """`ours` against `value(*given)` and `gradients(*given, cotangent)`, all entries, at the numbers as rounded. Needs float64.

    To `TOLERANCES`, relative to the largest entry; the gradients are exact, and as good as the value.
    """
    rounded = [a.astype(jnp.dtype(dtype)) for a in given]  # by NumPy: jax would compile a program for each shape
    exact = [np.asarray(a, np.float64) for a in rounded]
    expected = value(*exact)
    cotangent = np.random.default_rng(7).normal(size=expected.shape).astype(jnp.dtype(dtype))

    @jax.jit
    def value_and_gradients(cotangent, *given):
        y, pull = jax.vjp(ours, *given)
        return y, pull(cotangent)

    y, found = value_and_gradients(cotangent, *rounded)
    tolerance = TOLERANCES[dtype][0]
    for name, a, b in zip(
        ["value", *(f"gradient {i}" for i in range(len(given)))],
        [y, *found],
        [expected, *gradients(*exact, cotangent.astype(np.float64))],
        strict=True,
    ):
        assert a.dtype == dtype
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=0, atol=tolerance * np.abs(b).max(initial=1e-9), err_msg=name)


def check_bilinear(ours, shape_and_terms, x, w, *, dtype="float64"):
    """`ours(x, w)` against the sum of the terms."""
    check_against(ours, partial(added_up, shape_and_terms), partial(slopes, shape_and_terms), x, w, dtype=dtype)
