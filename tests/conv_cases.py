"""Random configurations of a convolution for hypothesis, and the definition of correlation in loops."""

import itertools
from typing import NamedTuple

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

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


def correlate_oracle(x, w, case):
    """The definition: each output position, each tap, each channel; what lies outside, or between spread inputs, is zero."""
    positions = []
    for size, k, s, (before, after), d, gap in zip(*case[:6], strict=True):
        spread = (size - 1) * gap + 1
        positions.append((spread + before + after - ((k - 1) * d + 1)) // s + 1)
    y = np.zeros((len(x), *positions, case.c_out))
    for place in itertools.product(*map(range, positions)):
        for tap in itertools.product(*map(range, case.window)):
            at = [p * s + t * d - b for p, s, t, d, (b, _) in zip(place, case.stride, tap, case.dilation, case.pads, strict=True)]
            if any(a % g or not 0 <= a // g < n for a, g, n in zip(at, case.input_dilation, case.space, strict=True)):
                continue
            source = tuple(a // g for a, g in zip(at, case.input_dilation, strict=True))
            for o in range(case.c_out):
                group = o // (case.c_out // case.groups)
                for c in range(case.c_in // case.groups):
                    y[(slice(None), *place, o)] += x[(slice(None), *source, group * (case.c_in // case.groups) + c)] * w[(*tap, c, o)]
    return y
