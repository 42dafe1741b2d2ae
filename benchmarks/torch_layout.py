"""Between our layout and torch's: channels last or first, kernels [*window, c_in, c_out] or [c_out, c_in, *window]."""

import torch
from torch.func import functional_call
from torch.nn import functional as F


def first(x: torch.Tensor) -> torch.Tensor:
    """Returns [b, *space, c] as [b, c, *space]."""
    return x.movedim(-1, 1)


def last(x: torch.Tensor) -> torch.Tensor:
    """Returns [b, c, *space] as [b, *space, c]."""
    return x.movedim(1, -1)


def kernel(w: torch.Tensor) -> torch.Tensor:
    """Returns [*window, c_in / groups, c_out] as [c_out, c_in / groups, *window]."""
    return w.movedim((-1, -2), (0, 1))


def transposed_kernel(w: torch.Tensor, groups: int = 1) -> torch.Tensor:
    """Returns [*window, c_in / groups, c_out] as torch's transposed convolution has it, [c_in, c_out / groups, *window]."""
    *window, c_in, c_out = w.shape
    split = w.reshape(*window, c_in, groups, c_out // groups).movedim((-2, -3, -1), (0, 1, 2))
    return split.reshape(groups * c_in, c_out // groups, *window)


def conv(x: torch.Tensor, w: torch.Tensor, **options) -> torch.Tensor:
    """Returns F.conv1d, conv2d or conv3d, by the rank of x, in our layout."""
    return last(getattr(F, f"conv{x.ndim - 2}d")(first(x), kernel(w), **options))


def pad(x: torch.Tensor, pads, mode: str = "constant") -> torch.Tensor:
    """Returns F.pad with (before, after) of each spatial axis, in our layout. torch counts from the last axis."""
    return last(F.pad(first(x), [n for pair in reversed(list(pads)) for n in pair], mode=mode))


def run(module: torch.nn.Module, x: torch.Tensor, **parameters: torch.Tensor) -> torch.Tensor:
    """Returns the module's output in our layout, with these tensors for its parameters, so that gradients reach them."""
    return last(functional_call(module, parameters, (first(x),)))


def kernel_back(w: torch.Tensor) -> torch.Tensor:
    """Returns [c_out, c_in, *window] as [*window, c_in, c_out]."""
    return w.movedim((0, 1), (-1, -2))
