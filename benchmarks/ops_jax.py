"""The operations of `op_cases.py` by our functions and by lax's own."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.op_cases import FORWARD, INPUTS, Conv, Norm, Pool
from benchmarks.roofline import jax_product
from benchmarks.sides import Work


def ours(case: Conv | Norm | Pool) -> Work:
    """Returns our operation."""
    return _work(case, *our_program(case))


def plain(case: Conv | Norm | Pool) -> Work:
    """Returns the operation as lax, or Flax by a line of lax, has it."""
    return _work(case, *lax_program(case))


def our_program(case: Conv | Norm | Pool):
    """Returns our operation, or its gradient, not yet compiled, and random arguments."""
    from cnn_jax import runtime

    runtime.set_up()
    return _program(case, {Conv: _our_conv, Norm: _our_norm, Pool: _our_pool}[type(case)])


def lax_program(case: Conv | Norm | Pool):
    """Returns the same of lax."""
    return _program(case, {Conv: _lax_conv, Norm: _flax_norm, Pool: _flax_pool}[type(case)])


def _our_conv(case: Conv, x, w):
    from cnn_jax.ops.conv import correlate, transposed_correlate

    function = transposed_correlate if case.transposed else correlate
    return function(x, w, stride=case.stride, padding=case.padding, dilation=case.dilation, groups=case.groups)


def _lax_conv(case: Conv, x, w):
    n = len(case.space)
    letters = {1: "W", 2: "HW", 3: "DHW"}[n]
    options = {"dimension_numbers": (f"N{letters}C", f"{letters}IO", f"N{letters}C"), "feature_group_count": case.groups}
    if case.transposed:
        pad = case.dilation * (case.window - 1) - case.padding
        return lax.conv_general_dilated(x, w, (1,) * n, [(pad, pad)] * n, (case.stride,) * n, (case.dilation,) * n, **options)
    return lax.conv_general_dilated(x, w, (case.stride,) * n, [(case.padding,) * 2] * n, None, (case.dilation,) * n, **options)


def _our_norm(case: Norm, x, scale, bias):
    from cnn_jax.ops.batch_norm import batch_normalise

    y, *_ = batch_normalise(x, scale, bias)
    return nn.relu(y) if case.relu else y


def _flax_norm(case: Norm, x, scale, bias):
    y, _ = nn.BatchNorm(use_running_average=False).apply({"params": {"scale": scale, "bias": bias}}, x, mutable=["batch_stats"])
    return nn.relu(y) if case.relu else y


def _our_pool(case: Pool, x):
    from cnn_jax.ops.pool import average_pool, max_pool

    return (average_pool if case.average else max_pool)(x, case.window, stride=case.stride, padding=case.padding)


def _flax_pool(case: Pool, x):
    pool = nn.avg_pool if case.average else nn.max_pool
    return pool(x, (case.window,) * 2, (case.stride,) * 2, [(case.padding,) * 2] * 2)


def _work(case: Conv | Norm | Pool, program, given) -> Work:
    compiled = jax.jit(program)
    return Work(lambda: jax.block_until_ready(compiled(*given)), {"product": jax_product()} if isinstance(case, Conv) else {})


def _program(case: Conv | Norm | Pool, function):
    """The function, or its gradient, and random numbers: all random, as equal ones would be a maximum's special case."""
    draw, function = np.random.default_rng(0), partial(function, case)
    inputs = [jnp.asarray(draw.normal(size=shape), jnp.float32) for shape in _shapes(case)]
    cotangent = jnp.asarray(draw.normal(size=jax.eval_shape(function, *inputs).shape), jnp.float32)
    if isinstance(case, Conv) and case.kind != FORWARD:
        return _gradient_of(function, 0 if case.kind == INPUTS else 1), (*inputs, cotangent)
    return (function, inputs) if case.kind == FORWARD else (partial(_with_gradient, function), (cotangent, *inputs))


def _shapes(case: Conv | Norm | Pool) -> list[tuple[int, ...]]:
    x = (case.batch, *case.space, case.channels)
    if isinstance(case, Conv):
        return [x, (*(case.window,) * len(case.space), case.channels // case.groups, case.features)]
    return [x, (case.channels,), (case.channels,)] if isinstance(case, Norm) else [x]


def _gradient_of(function, argument: int):
    """One gradient alone: a convolution is linear, so nothing of the forward pass is left in the program."""

    def gradient(x, w, cotangent):
        one = (lambda x: function(x, w)) if argument == 0 else (lambda w: function(x, w))
        return jax.vjp(one, (x, w)[argument])[1](cotangent)

    return gradient


def _with_gradient(function, cotangent, *inputs):
    y, pull = jax.vjp(function, *inputs)
    return y, pull(cotangent)
