"""The operations of `op_cases.py` by torch, channels last in memory."""

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.op_cases import FORWARD, INPUTS, Conv, Norm, Pool
from benchmarks.roofline import torch_product
from benchmarks.sides import Work
from cnn_jax.allocator import keep_memory


def theirs(case: Conv | Norm | Pool) -> Work:
    """Returns torch's operation."""
    keep_memory()
    x = _random((case.batch, *case.space, case.channels)).movedim(-1, 1)
    if isinstance(case, Conv):
        return Work(_conv(case, x), {"product": torch_product()})
    return Work(_norm(case, x) if isinstance(case, Norm) else _pool(case, x))


def _random(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def _conv(case: Conv, x: torch.Tensor):
    n = len(case.space)
    rows, columns = (case.channels, case.features) if case.transposed else (case.features, case.channels)
    w = _random((rows, *(case.window,) * n, columns // case.groups)).movedim(-1, 1)
    stride, padding, dilation = ((value,) * n for value in (case.stride, case.padding, case.dilation))
    if case.kind == FORWARD:

        def forward():
            with torch.inference_mode():
                torch.convolution(x, w, None, stride, padding, dilation, case.transposed, (0,) * n, case.groups)

        return forward
    cotangent = _random((case.batch, *case.positions, case.features)).movedim(-1, 1)
    mask = [case.kind == INPUTS, case.kind != INPUTS, False]
    options = (None, stride, padding, dilation, case.transposed, (0,) * n, case.groups, mask)
    return lambda: torch.ops.aten.convolution_backward(cotangent, x, w, *options)


def _norm(case: Norm, x: torch.Tensor):
    x.requires_grad_()
    scale, bias = (torch.ones(case.channels, requires_grad=True) for _ in range(2))
    cotangent = _random((case.batch, *case.space, case.channels)).movedim(-1, 1)

    def once():
        y = F.batch_norm(x, None, None, scale, bias, training=True)
        torch.autograd.grad(F.relu(y, inplace=True) if case.relu else y, (x, scale, bias), cotangent)

    return once


def _pool(case: Pool, x: torch.Tensor):
    pool = F.avg_pool2d if case.average else F.max_pool2d
    if case.kind == FORWARD:

        def forward():
            with torch.inference_mode():
                pool(x, case.window, case.stride, case.padding)

        return forward
    x.requires_grad_()
    cotangent = torch.randn_like(pool(x, case.window, case.stride, case.padding))
    return lambda: torch.autograd.grad(pool(x, case.window, case.stride, case.padding), x, cotangent)
