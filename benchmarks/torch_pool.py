"""Cases of pooling."""

import math
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import torch_layout as layout
from benchmarks.agreement import case
from cnn_jax.ops import pool

SPACES = ((13,), (9, 11), (6, 7, 5))
# Options of both, for windows of 3.
FORMS = (
    {},
    {"stride": 2},
    {"stride": 2, "padding": 1},
    {"stride": 1, "padding": 1},
    {"stride": 2, "ceil_mode": True},
    {"stride": 3, "padding": 1, "ceil_mode": True},
)


def _inputs(draw, space, channels=3):
    return draw.normal(size=(2, *space, channels))


def _functional(name: str, x, *arguments, **options):
    return layout.last(getattr(F, f"{name}{x.ndim - 2}d")(layout.first(x), *arguments, **options))


def _pools(draw, ours, name, module, forms, space):
    """The function with window 3, the module with a window of unequal sides, and one of too many taps to be taken apart."""
    for options in forms:
        yield case(partial(ours, window=3, **options), partial(_functional, name, kernel_size=3, **options), _inputs(draw, space))
    window = (2, 3, 4)[-len(space) :]
    made = getattr(nn, f"{module}{len(space)}d")(window, stride=2)
    yield case(partial(ours, window=window, stride=2), lambda x: layout.run(made, x), _inputs(draw, space))
    large = {1: 11, 2: 7, 3: 4}[len(space)]
    options = {"stride": 2, "padding": 1}
    yield case(partial(ours, window=large, **options), partial(_functional, name, kernel_size=large, **options), _inputs(draw, space))


def max_pool(draw):
    """Also with equal values, of which the first takes the gradient, and with NaN."""
    dilated = ({"stride": 2, "dilation": 2}, {"stride": 1, "padding": 1, "dilation": 2, "ceil_mode": True})
    for space in SPACES:
        yield from _pools(draw, pool.max_pool, "max_pool", "MaxPool", FORMS + dilated, space)
        for window in (3, 4):  # 4³ taps are walked axis by axis
            ties = np.round(_inputs(draw, space))
            options = {"stride": 2, "padding": 1}
            theirs = partial(_functional, "max_pool", kernel_size=window, **options)
            yield case(partial(pool.max_pool, window=window, **options), theirs, ties)
        broken = _inputs(draw, space)
        broken[(0,) + (2,) * len(space)] = np.nan
        yield case(partial(pool.max_pool, window=2), partial(_functional, "max_pool", kernel_size=2), broken)


def average_pool(draw):
    """With the padding counted and not."""
    for space in SPACES:
        for counted in (True, False):
            forms = tuple({**form, "count_include_pad": counted} for form in FORMS)
            yield from _pools(draw, pool.average_pool, "avg_pool", "AvgPool", forms, space)


def lp_pool(draw):
    """torch computes sign(Σ x^p)·|Σ x^p|^(1/p), without padding."""
    forms = ({}, {"stride": 2}, {"stride": 1})
    for space in SPACES:
        for options in forms:
            for p in (1.0, 2.0, 3.0, 4.0):
                theirs = partial(_functional, "lp_pool", norm_type=p, kernel_size=3, **options)
                x = _inputs(draw, space) if p % 2 == 0 else np.abs(_inputs(draw, space)) + 0.1
                yield case(partial(pool.lp_pool, window=3, p=p, **options), theirs, x)
        window = (2, 3, 4)[: len(space)] if len(space) > 1 else 4  # torch's LPPool1d takes no tuple
        made = getattr(nn, f"LPPool{len(space)}d")(2.0, window)
        yield case(partial(pool.lp_pool, window=window), lambda x, m=made: layout.run(m, x), _inputs(draw, space))
        odd = partial(_functional, "lp_pool", norm_type=3.0, kernel_size=3)
        yield case(partial(pool.lp_pool, window=3, p=3.0), odd, _inputs(draw, space), variant="negative values, odd p")
        cut = partial(_functional, "lp_pool", norm_type=2.0, kernel_size=3, stride=2, ceil_mode=True)
        even = _inputs(draw, tuple(2 * n for n in space))
        yield case(partial(pool.lp_pool, window=3, stride=2, ceil_mode=True), cut, even, variant="window cut off by ceil_mode")
        zeros = _inputs(draw, space)
        zeros[:, :4] = 0
        theirs = partial(_functional, "lp_pool", norm_type=2.0, kernel_size=3)
        yield case(partial(pool.lp_pool, window=3), theirs, zeros, variant="windows of zeros")


def l2_pool(draw):
    """F.lp_pool with p = 2."""
    for space in SPACES:
        for options in ({}, {"stride": 2}):
            theirs = partial(_functional, "lp_pool", norm_type=2.0, kernel_size=3, **options)
            yield case(partial(pool.l2_pool, window=3, **options), theirs, _inputs(draw, space))


def _adaptive(draw, ours, name, module, inputs):
    for space in SPACES:
        n = len(space)
        for size in (1, 3, 4, space, tuple(2 * s - 1 for s in space), (2, 5, 3)[:n]):
            yield case(partial(ours, output_size=size), partial(_functional, name, output_size=size), inputs(draw, space))
        made = getattr(nn, f"{module}{n}d")((4, 3, 2)[:n])
        yield case(partial(ours, output_size=(4, 3, 2)[:n]), lambda x, m=made: layout.run(m, x), inputs(draw, space))


def adaptive_average_pool(draw):
    """To sizes that divide the input's, that do not, and that are larger."""
    yield from _adaptive(draw, pool.adaptive_average_pool, "adaptive_avg_pool", "AdaptiveAvgPool", _inputs)


def adaptive_max_pool(draw):
    """Also with equal values."""
    yield from _adaptive(draw, pool.adaptive_max_pool, "adaptive_max_pool", "AdaptiveMaxPool", _inputs)
    yield from _adaptive(draw, pool.adaptive_max_pool, "adaptive_max_pool", "AdaptiveMaxPool", lambda *a: np.round(_inputs(*a)))


def _whole(name, x):
    return _functional(name, x, 1).flatten(1)


def _global(draw, ours, theirs):
    for space in SPACES:
        yield case(ours, theirs, _inputs(draw, space, 5))
        yield case(ours, theirs, np.round(_inputs(draw, space, 4)))


def global_average_pool(draw):
    """F.adaptive_avg_pool to one place."""
    yield from _global(draw, pool.global_average_pool, partial(_whole, "adaptive_avg_pool"))


def global_max_pool(draw):
    """F.adaptive_max_pool to one place, also with equal values."""
    yield from _global(draw, pool.global_max_pool, partial(_whole, "adaptive_max_pool"))


def global_average_max_pool(draw):
    """Half the sum of both."""
    yield from _global(draw, pool.global_average_max_pool, lambda x: (_whole("adaptive_avg_pool", x) + _whole("adaptive_max_pool", x)) / 2)


def _blur(x, window, stride, mode="reflect"):
    n, c = x.ndim - 2, x.shape[-1]
    row = torch.tensor([math.comb(window - 1, i) / 2 ** (window - 1) for i in range(window)], dtype=x.dtype)
    w = row
    for _ in range(n - 1):
        w = w[..., None] * row
    padded = layout.pad(x, [((window - 1) // 2, window // 2)] * n, mode)
    return layout.conv(padded, w[..., None, None].expand(*w.shape, 1, c), stride=stride, groups=c)


def blur_pool(draw):
    """F.pad and F.conv with a binomial kernel for each channel."""
    for space in SPACES:
        for window, stride in ((3, 2), (4, 2), (2, 1), (5, 3)):
            options = {"window": window, "stride": stride}
            yield case(partial(pool.blur_pool, **options), partial(_blur, **options), _inputs(draw, space))
        for mode in ("replicate", "circular"):
            yield case(partial(pool.blur_pool, border=mode), partial(_blur, window=3, stride=2, mode=mode), _inputs(draw, space))


def max_blur_pool(draw):
    """F.max_pool with stride 1, then the same."""
    for space in SPACES:
        for window, blur in ((2, 3), (3, 4)):
            theirs = lambda x, k=window, b=blur: _blur(_functional("max_pool", x, k, stride=1), b, 2)
            yield case(partial(pool.max_blur_pool, window=window, blur=blur), theirs, _inputs(draw, space))


CASES = {
    "ops.max_pool.max_pool": max_pool,
    "ops.pool.average_pool": average_pool,
    "ops.pool.lp_pool": lp_pool,
    "ops.pool.l2_pool": l2_pool,
    "ops.adaptive_pool.adaptive_average_pool": adaptive_average_pool,
    "ops.adaptive_pool.adaptive_max_pool": adaptive_max_pool,
    "ops.pool.global_average_pool": global_average_pool,
    "ops.pool.global_max_pool": global_max_pool,
    "ops.pool.global_average_max_pool": global_average_max_pool,
    "ops.blur_pool.blur_pool": blur_pool,
    "ops.blur_pool.max_blur_pool": max_blur_pool,
}
