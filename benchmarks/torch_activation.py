"""Cases of activations: at random, at the kinks, at 0 and up to ±10⁴, in three types."""

from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.agreement import case
from cnn_jax.layers import PReLU
from cnn_jax.ops import activations, rectifiers

SHAPES = ((7,), (4, 6), (2, 5, 4, 6))
# Where formulas change over, and where exponentials overflow.
POINTS = (-1e4, -100.0, -20.5, -6.0, -3.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 3.0, 6.0, 20.5, 100.0, 1e4)

# Ours, torch's function, torch's module, and options as (ours, torch's).
ELEMENTWISE = {
    "ops.activations.identity": (activations.identity, nn.Identity(), nn.Identity, [({}, {})]),
    "ops.activations.sigmoid": (activations.sigmoid, F.sigmoid, nn.Sigmoid, [({}, {})]),
    "ops.activations.tanh": (activations.tanh, F.tanh, nn.Tanh, [({}, {})]),
    "ops.activations.gelu": (activations.gelu, F.gelu, nn.GELU, [({}, {})]),
    "ops.activations.gelu_tanh": (activations.gelu_tanh, F.gelu, nn.GELU, [({}, {"approximate": "tanh"})]),
    "ops.activations.silu": (activations.silu, F.silu, nn.SiLU, [({}, {})]),
    "ops.activations.mish": (activations.mish, F.mish, nn.Mish, [({}, {})]),
    "ops.activations.softplus": (activations.softplus, F.softplus, nn.Softplus, [({}, {}), ({"beta": 0.3}, {"beta": 0.3})]),
    "ops.activations.softsign": (activations.softsign, F.softsign, nn.Softsign, [({}, {})]),
    "ops.activations.log_sigmoid": (activations.log_sigmoid, F.logsigmoid, nn.LogSigmoid, [({}, {})]),
    "ops.rectifiers.relu": (rectifiers.relu, F.relu, nn.ReLU, [({}, {})]),
    "ops.rectifiers.relu6": (rectifiers.relu6, F.relu6, nn.ReLU6, [({}, {})]),
    "ops.rectifiers.leaky_relu": (rectifiers.leaky_relu, F.leaky_relu, nn.LeakyReLU, [({}, {}), *[({"negative_slope": 0.3},) * 2]]),
    "ops.rectifiers.elu": (rectifiers.elu, F.elu, nn.ELU, [({}, {}), ({"alpha": 0.5}, {"alpha": 0.5})]),
    "ops.rectifiers.selu": (rectifiers.selu, F.selu, nn.SELU, [({}, {})]),
    "ops.rectifiers.celu": (rectifiers.celu, F.celu, nn.CELU, [({}, {}), ({"alpha": 0.5}, {"alpha": 0.5})]),
    "ops.rectifiers.hard_tanh": (
        rectifiers.hard_tanh, F.hardtanh, nn.Hardtanh, [({}, {}), ({"low": -3.0, "high": 0.5}, {"min_val": -3.0, "max_val": 0.5})],
    ),
    "ops.rectifiers.hard_sigmoid": (rectifiers.hard_sigmoid, F.hardsigmoid, nn.Hardsigmoid, [({}, {})]),
    "ops.rectifiers.hard_swish": (rectifiers.hard_swish, F.hardswish, nn.Hardswish, [({}, {})]),
}  # fmt: skip
ALONG_AN_AXIS = {
    "ops.activations.softmax": (activations.softmax, F.softmax, nn.Softmax),
    "ops.activations.softmin": (activations.softmin, F.softmin, nn.Softmin),
    "ops.activations.log_softmax": (activations.log_softmax, F.log_softmax, nn.LogSoftmax),
    "ops.activations.glu": (activations.glu, F.glu, nn.GLU),
}


def _elementwise(name, draw):
    function, functional, module, choices = ELEMENTWISE[name]
    for ours, theirs in choices:
        for shape in SHAPES:
            yield case(partial(function, **ours), partial(functional, **theirs), draw.normal(size=shape) * 2)
        yield case(partial(function, **ours), module(**theirs), draw.normal(size=(5, 3)) * 8)
        yield case(partial(function, **ours), partial(functional, **theirs), POINTS, pointwise=True, variant="at 0, kinks and up to ±1e4")


def _along_an_axis(name, draw):
    function, functional, module = ALONG_AN_AXIS[name]
    for axis in (0, 1, -1):
        x = draw.normal(size=(2, 4, 6)) * 3
        yield case(partial(function, axis=axis), partial(functional, dim=axis), x)
    yield case(function, module(dim=-1), draw.normal(size=(3, 8)) * 8)
    rows = np.stack([np.roll(POINTS, shift)[:14] for shift in range(len(POINTS))])
    yield case(function, partial(functional, dim=-1), rows, pointwise=True, variant="at 0, kinks and up to ±1e4")


def prelu(draw):
    """F.prelu with one slope and with one a channel, which torch has on axis 1."""
    theirs = lambda x, slope: F.prelu(x.movedim(-1, 1), slope.reshape(-1)).movedim(1, -1)
    for shape in ((4, 6), (2, 5, 6), (2, 5, 4, 6)):
        for slopes in ((), (6,)):
            yield case(rectifiers.prelu, theirs, draw.normal(size=shape), draw.normal(size=slopes))
    points = np.stack([POINTS, POINTS[::-1]], 1)
    yield case(rectifiers.prelu, theirs, points, [0.25, 0.5], pointwise=True, variant="at 0, kinks and up to ±1e4")


def prelu_layer(draw):
    """nn.PReLU, shared and a slope a channel."""
    for shared in (True, False):
        slopes = () if shared else (5,)
        ours = lambda x, slope, shared=shared: PReLU(per_channel=not shared).apply({"params": {"slope": slope}}, x)
        module = nn.PReLU(1 if shared else 5)
        theirs = lambda x, slope, m=module: torch.func.functional_call(m, {"weight": slope.reshape(-1)}, (x.movedim(-1, 1),)).movedim(1, -1)
        yield case(ours, theirs, draw.normal(size=(3, 4, 5)), draw.normal(size=slopes))


CASES = {
    **{name: partial(_elementwise, name) for name in ELEMENTWISE},
    **{name: partial(_along_an_axis, name) for name in ALONG_AN_AXIS},
    "ops.rectifiers.prelu": prelu,
    "layers.activation.PReLU": prelu_layer,
}
