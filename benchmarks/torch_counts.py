"""Cases of what has a value and no gradient: the arithmetic of convolutions, and initial weights."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn import init
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import torch_layout as layout
from benchmarks.agreement import case
from cnn_jax import initialisers
from cnn_jax.ops import arithmetic
from cnn_jax.ops import gain as ops_gain

GEOMETRIES = (
    ((32,), (5,), {}),
    ((17, 23), (3, 5), {"stride": 2, "padding": 1}),
    ((17, 23), (3, 5), {"stride": (1, 3), "padding": (2, 0), "dilation": 2}),
    ((9, 8, 11), (3, 2, 3), {"stride": 3, "padding": 2, "dilation": (1, 2, 2)}),
)


def _counted(ours, theirs):
    """Whole numbers as floats, so that they pass as arrays."""
    return case(lambda: jnp.asarray(ours(), float), lambda: torch.tensor(theirs(), dtype=torch.float64), gradient=False)


def _output(sizes, window, geometry, c_in=4, c_out=6, *, kind="conv", groups=1):
    """torch's output for inputs without memory."""
    rows = (c_in, c_out // groups) if kind == "conv_transpose" else (c_out, c_in // groups)
    x, w = torch.empty(1, c_in, *sizes, device="meta"), torch.empty(*rows, *window, device="meta")
    return getattr(F, f"{kind}{len(sizes)}d")(x, w, groups=groups, **geometry)


def output_sizes(draw):
    """The shape of F.conv's output, and of F.max_pool's."""
    for sizes, window, geometry in GEOMETRIES:
        shape = lambda s=sizes, k=window, g=geometry: list(_output(s, k, g).shape[2:])
        yield _counted(partial(arithmetic.output_sizes, sizes, window, **geometry), shape)
        pooled = lambda s=sizes, k=window: list(getattr(F, f"max_pool{len(s)}d")(torch.empty(1, 1, *s), k, stride=2, padding=1).shape[2:])
        yield _counted(partial(arithmetic.output_sizes, sizes, window, stride=2, padding=1), pooled)


def transposed_output_sizes(draw):
    """The shape of F.conv_transpose's output."""
    for sizes, window, geometry in GEOMETRIES:
        for options in (geometry, {"stride": 3, "padding": 1, "output_padding": 2}):
            shape = lambda s=sizes, k=window, o=options: list(_output(s, k, o, kind="conv_transpose").shape[2:])
            yield _counted(partial(arithmetic.transposed_output_sizes, sizes, window, **options), shape)


def num_weights(draw):
    """numel of nn.Conv's weight."""
    for sizes, window, _ in GEOMETRIES:
        for groups in (1, 2):
            conv = getattr(nn, f"Conv{len(sizes)}d")
            theirs = lambda c=conv, k=window, g=groups: c(4, 6, k, groups=g).weight.numel()
            yield _counted(partial(arithmetic.num_weights, window, 4, 6, groups=groups), theirs)


def num_neurons(draw):
    """numel of F.conv's output."""
    for sizes, window, geometry in GEOMETRIES:
        theirs = lambda s=sizes, k=window, g=geometry: _output(s, k, g).numel()
        yield _counted(partial(arithmetic.num_neurons, sizes, window, 6, **geometry), theirs)


def num_macs(draw):
    """Half of what torch.utils.flop_counter counts."""

    def theirs(sizes, window, geometry, groups):
        with FlopCounterMode(display=False) as counter:
            _output(sizes, window, geometry, groups=groups)
        return counter.get_total_flops() / 2

    for sizes, window, geometry in GEOMETRIES:
        for groups in (1, 2):
            ours = partial(arithmetic.num_macs, sizes, window, 4, 6, groups=groups, **geometry)
            yield _counted(ours, partial(theirs, sizes, window, geometry, groups))


def gain(draw):
    """init.calculate_gain."""
    names = ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu")
    yield _counted(lambda: [ops_gain.gain(n) for n in names], lambda: [init.calculate_gain(n) for n in names])
    slopes = (0.0, 0.2, math.sqrt(5))
    ours = lambda: [ops_gain.gain("leaky_relu", negative_slope=s) for s in slopes]
    yield _counted(ours, lambda: [init.calculate_gain("leaky_relu", s) for s in slopes])


def dirac(draw):
    """init.dirac_, which sets the second of an even window's two middle taps."""
    for window in ((3,), (5, 3), (3, 1, 5), (4, 3)):
        for c_in, c_out, groups in ((4, 4, 1), (2, 6, 1), (6, 2, 1), (3, 6, 2), (2, 8, 4)):
            shape = (*window, c_in, c_out)
            ours = lambda s=shape, g=groups: initialisers.dirac(g)(jax.random.key(0), s, jnp.result_type(float))
            theirs = lambda s=shape, g=groups: layout.kernel_back(init.dirac_(torch.empty(s[-1], s[-2], *s[:-2]), g))
            yield case(ours, theirs, gradient=False, variant="even window" if 4 in window else "")


SHAPES = ((5, 3, 4, 8), (7, 2, 9), (3, 2, 2, 4, 6), (12, 5))


def _bound(name, draw):
    """What unit draws are multiplied by: our initialiser over jax's draw, torch's over torch's draw of the same seed."""
    ours, theirs, kind = FANS[name]
    for shape in SHAPES:
        unit = partial(jax.random.uniform, minval=-1) if kind == "uniform" else jax.random.normal

        def of_ours(dummy, shape=shape, unit=unit):
            key = jax.random.key(7)
            made, drawn = ours(key, shape, dummy.dtype), unit(key, shape, dummy.dtype)
            return jnp.abs(made).sum() / jnp.abs(drawn).sum()

        def of_theirs(dummy, shape=shape):
            made, drawn = (torch.empty(shape[-1], shape[-2], *shape[:-2], dtype=dummy.dtype) for _ in range(2))
            torch.manual_seed(7)
            theirs(made)
            torch.manual_seed(7)
            drawn.uniform_(-1, 1) if kind == "uniform" else drawn.normal_()
            return made.abs().sum() / drawn.abs().sum()

        yield case(of_ours, of_theirs, [0.0], gradient=False)


def _default(w):
    """As the layers' reset_parameters draws."""
    layer = nn.Linear(w.shape[1], w.shape[0]) if w.ndim == 2 else getattr(nn, f"Conv{w.ndim - 2}d")(w.shape[1], w.shape[0], w.shape[2:])
    layer.to(w.dtype)
    torch.manual_seed(7)
    layer.reset_parameters()
    w.copy_(layer.weight.detach())


FANS = {
    "initialisers.glorot_uniform": (initialisers.glorot_uniform, init.xavier_uniform_, "uniform"),
    "initialisers.glorot_normal": (initialisers.glorot_normal, init.xavier_normal_, "normal"),
    "initialisers.he_uniform": (initialisers.he_uniform, partial(init.kaiming_uniform_, nonlinearity="relu"), "uniform"),
    "initialisers.he_normal": (initialisers.he_normal, partial(init.kaiming_normal_, nonlinearity="relu"), "normal"),
    "initialisers.he_normal_fan_out": (
        initialisers.he_normal_fan_out, partial(init.kaiming_normal_, nonlinearity="relu", mode="fan_out"), "normal",
    ),
    "initialisers.lecun_uniform": (initialisers.lecun_uniform, partial(init.kaiming_uniform_, nonlinearity="linear"), "uniform"),
    "initialisers.torch_default": (initialisers.torch_default, _default, "uniform"),
    "initialisers.normal": (initialisers.normal(0.3), partial(init.normal_, std=0.3), "normal"),
    "initialisers.uniform": (initialisers.uniform(0.3), partial(init.uniform_, a=-0.3, b=0.3), "uniform"),
}  # fmt: skip


def torch_default_bias(draw):
    """The bound of nn.Conv2d's bias: its draw over a unit draw of the same seed."""
    for c_in, window in ((3, 5), (8, 1)):

        def ours(dummy, fan_in=c_in * window**2):
            key = jax.random.key(7)
            made = initialisers.torch_default_bias(fan_in)(key, (16,), dummy.dtype)
            return jnp.abs(made).sum() / jnp.abs(jax.random.uniform(key, (16,), dummy.dtype, -1)).sum()

        def theirs(dummy, c_in=c_in, window=window):
            layer = nn.Conv2d(c_in, 16, window).to(dummy.dtype)
            torch.manual_seed(7)
            layer.reset_parameters()
            torch.manual_seed(7)
            torch.empty_like(layer.weight).uniform_(-1, 1)  # the weight is drawn first
            return layer.bias.detach().abs().sum() / torch.empty(16, dtype=dummy.dtype).uniform_(-1, 1).abs().sum()

        yield case(ours, theirs, [0.0], gradient=False)


def orthogonal(draw):
    """init.orthogonal_: not the draw, but what all draws share, the inner products of the outputs' weights (or of the rows')."""
    for shape in ((9, 4), (3, 5), (3, 2, 4, 6), (2, 3, 30)):

        def ours(dummy, shape=shape):
            w = initialisers.orthogonal(1.5)(jax.random.key(3), shape, dummy.dtype).reshape(-1, shape[-1])
            return w @ w.T if w.shape[0] < w.shape[1] else w.T @ w

        def theirs(dummy, shape=shape):
            w = init.orthogonal_(torch.empty(shape[-1], math.prod(shape[:-1]), dtype=dummy.dtype), gain=1.5)
            return w.T @ w if w.shape[1] < w.shape[0] else w @ w.T

        yield case(ours, theirs, [0.0], gradient=False)


def constant(draw):
    """init.constant_."""
    for value in (0.0, 1.0, -2.5):
        ours = lambda dummy, v=value: initialisers.constant(v)(jax.random.key(0), (3, 4), dummy.dtype)
        yield case(ours, lambda dummy, v=value: init.constant_(torch.empty(3, 4, dtype=dummy.dtype), v), np.zeros(1), gradient=False)


CASES = {
    "ops.arithmetic.output_sizes": output_sizes,
    "ops.arithmetic.transposed_output_sizes": transposed_output_sizes,
    "ops.arithmetic.num_weights": num_weights,
    "ops.arithmetic.num_neurons": num_neurons,
    "ops.arithmetic.num_macs": num_macs,
    **{name: partial(_bound, name) for name in FANS},
    "initialisers.torch_default_bias": torch_default_bias,
    "initialisers.constant": constant,
    "initialisers.orthogonal": orthogonal,
    "initialisers.dirac": dirac,
    "ops.gain.gain": gain,
}
