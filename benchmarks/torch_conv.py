"""Cases of convolution and padding."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import torch_layout as layout
from benchmarks.agreement import case
from cnn_jax.layers import Conv, ConvTranspose, SeparableConv, StandardisedConv
from cnn_jax.ops import conv, padding

# Space and window for 1-D, 2-D and 3-D, no two sizes alike.
SPACES = (((11,), (4,)), ((9, 7), (3, 2)), ((6, 5, 7), (3, 2, 4)))
CHANNELS = 4
MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}
FORMS = (
    {},
    {"stride": 2},
    {"stride": 3, "padding": 1},
    {"padding": 2, "dilation": 2},
    {"stride": 2, "padding": 3, "dilation": 2},
    {"padding": "same"},
    {"padding": "same", "dilation": 2},
    {"groups": 2},
    {"stride": 2, "padding": 1, "groups": CHANNELS},
)


def _arrays(draw, space, window, groups=1, c_out=8, batch=3):
    return draw.normal(size=(batch, *space, CHANNELS)), draw.normal(size=(*window, CHANNELS // groups, c_out))


def _mirrored(w):
    return w.flip(*range(w.ndim - 2))


def correlate(draw):
    """F.conv in every form; borders, one-sided padding and spread inputs by F.pad and F.conv_transpose."""
    for space, window in SPACES:
        for options in FORMS:
            arrays = _arrays(draw, space, window, options.get("groups", 1))
            yield case(partial(conv.correlate, **options), partial(layout.conv, **options), *arrays)
        pads = [(i + 1, i) for i in range(len(space))]
        for border, mode in MODES.items():
            ours = partial(conv.correlate, padding=pads, border=border, stride=2)
            yield case(ours, lambda x, w, p=pads, m=mode: layout.conv(layout.pad(x, p, m), w, stride=2), *_arrays(draw, space, window))
        # Correlation of spread inputs is the transposed correlation with the mirrored kernel.
        ours = partial(conv.correlate, input_dilation=2, padding=[k - 1 for k in window])
        yield case(ours, lambda x, w: _transposed(x, _mirrored(w), stride=2), *_arrays(draw, space, window))
    causal = lambda x, w: layout.conv(layout.pad(x, [(6, 0)]), w, dilation=2)
    yield case(partial(conv.correlate, padding="CAUSAL", dilation=2), causal, *_arrays(draw, (11,), (4,)))


def convolve(draw):
    """F.conv with the kernel mirrored."""
    for space, window in SPACES:
        for options in ({}, {"stride": 2, "padding": 1}):
            ours = partial(conv.convolve, **options)
            theirs = lambda x, w, o=options: layout.conv(x, _mirrored(w), **o)
            yield case(ours, theirs, *_arrays(draw, space, window))


def _depthwise(x, w, **options):
    *window, c, m = w.shape
    return layout.conv(x, w.reshape(*window, 1, c * m), groups=c, **options)


def depthwise_correlate(draw):
    """F.conv with as many groups as channels, one and three kernels a channel."""
    for space, window in SPACES:
        for options in ({}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 3}):
            for multiplier in (1, 3):
                arrays = draw.normal(size=(2, *space, CHANNELS)), draw.normal(size=(*window, CHANNELS, multiplier))
                yield case(partial(conv.depthwise_correlate, **options), partial(_depthwise, **options), *arrays)


def separable_correlate(draw):
    """Two calls of F.conv."""
    for space, window in SPACES:
        for options in ({}, {"stride": 2, "padding": 1}):
            ours = partial(conv.separable_correlate, **options)
            theirs = lambda x, w, v, o=options: _depthwise(x, w, **o) @ v
            x = draw.normal(size=(2, *space, CHANNELS))
            yield case(ours, theirs, x, draw.normal(size=(*window, CHANNELS, 2)), draw.normal(size=(2 * CHANNELS, 5)))


def _transposed(x, w, groups=1, **options):
    function = getattr(F, f"conv_transpose{x.ndim - 2}d")
    return layout.last(function(layout.first(x), layout.transposed_kernel(w, groups), groups=groups, **options))


TRANSPOSED_FORMS = (
    {},
    {"stride": 2},
    {"stride": 2, "padding": 1, "output_padding": 1},
    {"stride": 3, "padding": 1, "output_padding": 2, "dilation": 2},
    {"dilation": 2, "output_padding": 1},
    {"stride": 2, "groups": 2},
    {"stride": 2, "padding": 1, "output_padding": 1, "groups": CHANNELS},
)


def transposed_correlate(draw):
    """F.conv_transpose in every form."""
    for space, window in SPACES:
        for options in TRANSPOSED_FORMS:
            arrays = _arrays(draw, space, window, options.get("groups", 1))
            yield case(partial(conv.transposed_correlate, **options), partial(_transposed, **options), *arrays)


def pad_space(draw):
    """F.pad in every mode, and the modules nn.ZeroPad, nn.ReflectionPad, nn.ReplicationPad, nn.CircularPad."""
    modules = {"zeros": "ZeroPad", "reflect": "ReflectionPad", "replicate": "ReplicationPad", "circular": "CircularPad"}
    for space, _ in SPACES:
        n = len(space)
        for border, mode in MODES.items():
            for pads in ([(2, 1)] * n, [(i, 3) for i in range(n)], [(0, 0)] * n):
                x = draw.normal(size=(2, *space, 3))
                yield case(partial(padding.pad_space, pads=pads, border=border), partial(layout.pad, pads=pads, mode=mode), x)
            module = getattr(nn, f"{modules[border]}{n}d")(2)
            ours = partial(padding.pad_space, pads=[(2, 2)] * n, border=border)
            yield case(ours, lambda x, m=module: layout.run(m, x), draw.normal(size=(2, *space, 3)))


def conv_layer(draw):
    """nn.Conv1d, 2d and 3d with all their padding modes, with bias and without."""
    forms = (
        {},
        {"stride": 2, "padding": 1},
        {"padding": 2, "dilation": 2, "groups": 2},
        {"padding": "same", "use_bias": False},
        *({"padding": 2, "border": border, "stride": 2} for border in MODES),
    )
    for space, window in SPACES:
        for options in forms:
            options = {"padding": 0} | options
            ours = lambda x, w, b=None, o=options, k=window: _apply(Conv(8, k, dtype=x.dtype, **o), x, w, b)
            renamed = {"border": "padding_mode", "use_bias": "bias"}
            theirs = {renamed.get(name, name): value for name, value in options.items()}
            module = getattr(nn, f"Conv{len(space)}d")(CHANNELS, 8, window, **theirs)
            bias = [draw.normal(size=8)] if options.get("use_bias", True) else []
            yield case(ours, partial(_run_conv, module), *_arrays(draw, space, window, options.get("groups", 1)), *bias)


def transposed_layer(draw):
    """nn.ConvTranspose1d, 2d and 3d."""
    for space, window in SPACES:
        for options in TRANSPOSED_FORMS:
            options = {"padding": 0} | options
            groups = options.get("groups", 1)
            ours = lambda x, w, b, o=options, k=window: _apply(ConvTranspose(8, k, dtype=x.dtype, **o), x, w, b)
            module = getattr(nn, f"ConvTranspose{len(space)}d")(CHANNELS, 8, window, **options)
            theirs = lambda x, w, b, m=module, g=groups: layout.run(m, x, weight=layout.transposed_kernel(w, g), bias=b)
            yield case(ours, theirs, *_arrays(draw, space, window, groups), draw.normal(size=8))


def separable_layer(draw):
    """Two modules nn.Conv, one with as many groups as channels."""
    for space, window in SPACES:
        n, m = len(space), 2

        def ours(x, depthwise, pointwise, bias, window=window, m=m):
            layer = SeparableConv(5, window, stride=2, padding=1, multiplier=m, dtype=x.dtype)
            params = {"depthwise": {"kernel": depthwise}, "pointwise": {"kernel": pointwise, "bias": bias}}
            return layer.apply({"params": params}, x)

        one = getattr(nn, f"Conv{n}d")(CHANNELS, CHANNELS * m, window, stride=2, padding=1, groups=CHANNELS, bias=False)
        two = getattr(nn, f"Conv{n}d")(CHANNELS * m, 5, 1)
        theirs = lambda x, w, v, b, one=one, two=two: _run_conv(two, _run_conv(one, x, w), v, b)
        shapes = (2, *space, CHANNELS), (*window, 1, CHANNELS * m), (*(1,) * n, CHANNELS * m, 5), (5,)
        yield case(ours, theirs, *(draw.normal(size=shape) for shape in shapes))


def standardised_layer(draw):
    """F.conv with a weight standardised by torch.var_mean, as in timm's StdConv2d."""
    for space, window in SPACES:
        ours = lambda x, w, b, k=window: _apply(StandardisedConv(8, k, padding=1, dtype=x.dtype), x, w, b)

        def theirs(x, w, b):
            axes = tuple(range(w.ndim - 1))
            var, mean = torch.var_mean(w, axes, correction=0, keepdim=True)
            return layout.conv(x, (w - mean) * (var + 1e-6).rsqrt(), bias=b, padding=1)

        yield case(ours, theirs, *_arrays(draw, space, window), draw.normal(size=8))


def _apply(layer, x, w, b):
    return layer.apply({"params": {"kernel": w} if b is None else {"kernel": w, "bias": b}}, x)


def _run_conv(module, x, w, b=None):
    return layout.run(module, x, weight=layout.kernel(w), **({} if b is None else {"bias": b}))


CASES = {
    "ops.conv.correlate": correlate,
    "ops.conv.convolve": convolve,
    "ops.conv.depthwise_correlate": depthwise_correlate,
    "ops.conv.separable_correlate": separable_correlate,
    "ops.conv.transposed_correlate": transposed_correlate,
    "ops.padding.pad_space": pad_space,
    "layers.conv.Conv": conv_layer,
    "layers.conv.ConvTranspose": transposed_layer,
    "layers.conv.SeparableConv": separable_layer,
    "layers.conv.StandardisedConv": standardised_layer,
}
