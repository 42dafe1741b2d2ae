"""Random and telling geometries of correlation, with arrays that fit, and the comparison of two ways of computing them."""

import numpy as np
from hypothesis import strategies as st

from cnn_jax.ops.native_conv import Geometry

NAMES = ("correlation", "input_gradient", "kernel_gradient")


@st.composite
def geometries(draw):
    """Odd sizes, strides larger than windows, negative padding, spread inputs, groups down to one channel, in 1-D to 3-D."""
    n = draw(st.integers(1, 3))

    def each(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(n))

    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    window, dilation, space = each(1, 3), each(1, 2), each(1, 7)
    input_dilation = each(1, 3) if draw(st.booleans()) else (1,) * n
    pads = []
    for size, k, d, gap in zip(space, window, dilation, input_dilation, strict=True):
        before, after = draw(st.integers(-1, 3)), draw(st.integers(-1, 3))
        fits = (size - 1) * gap + 1 + before + after >= (k - 1) * d + 1 and size + min(before, after, before + after) > 0
        pads.append((before, after) if fits else ((k - 1) * d, 1))
    geometry = Geometry(space, window, each(1, 4), tuple(pads), input_dilation, dilation, groups)
    c_in, c_out = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    return geometry, draw(st.sampled_from([1, 2])), c_in, c_out


def arrays(geometry, batch, c_in, c_out, dtype=np.float64):
    draw = np.random.default_rng(0)
    shapes = (batch, *geometry.space, c_in), (*geometry.window, c_in // geometry.groups, c_out), (batch, *geometry.positions, c_out)
    return tuple(draw.normal(size=shape).astype(dtype) for shape in shapes)


def all_three(module, geometry, x, w, g, **options):
    given = {"correlation": (x, w), "input_gradient": (g, w), "kernel_gradient": (x, g)}
    return {name: getattr(module, name)(*given[name], geometry, **options) for name in NAMES}


def assert_alike(ours, theirs, tolerance):
    for name in NAMES:
        scale = max(float(np.abs(theirs[name]).max(initial=0)), 1e-30)
        np.testing.assert_allclose(np.asarray(ours[name]) / scale, np.asarray(theirs[name]) / scale, atol=tolerance, err_msg=name)
