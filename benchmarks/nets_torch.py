"""The described networks in torch, channels last."""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import nets

_CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class Residual(nn.Module):
    """The sum of a branch and a shortcut."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, relu: bool):
        super().__init__()
        self.branch, self.shortcut, self.relu = branch, shortcut, relu

    def forward(self, x):
        y = self.branch(x) + self.shortcut(x)
        return F.relu(y, inplace=True) if self.relu else y


class Beside(nn.Module):
    """Branches joined along the channels."""

    def __init__(self, branches: list[nn.Module]):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


class OfAll(nn.Module):
    """The mean or maximum over all positions."""

    def __init__(self, reduce):
        super().__init__()
        self.reduce = reduce

    def forward(self, x):
        return self.reduce(x, tuple(range(2, x.ndim)))


def build(layers: tuple, shape: tuple[int, ...]) -> nn.Module:
    """Returns the network for inputs [*space, c], in the memory format torch is fastest with."""
    net, _ = _sequence(layers, shape[-1], len(shape) - 1, shape[:-1])
    formats = {3: torch.channels_last_3d, 2: torch.channels_last}
    return net.to(memory_format=formats[len(shape) - 1]) if len(shape) - 1 in formats else net


def _sequence(layers: tuple, channels: int, n: int, space: tuple[int, ...]) -> tuple[nn.Module, int]:
    modules = []
    for layer in layers:
        match layer:
            case nets.Conv(features, window, stride, depthwise, bias, padding):
                padding = window[0] // 2 if padding is None else padding
                options = {"groups": channels if depthwise else 1, "bias": bias}
                modules.append(_CONVS[n](channels, features, window, stride, padding, **options))
                channels = features
                space = tuple((s + 2 * padding - w) // stride + 1 for s, w in zip(space, window, strict=True))
            case nets.Norm():
                modules.append(_NORMS[n](channels))
            case nets.Relu(most):
                modules.append(nn.ReLU(inplace=True) if most is None else nn.ReLU6(inplace=True))
            case nets.MaxPool(window, stride, padding):
                modules.append(nn.MaxPool2d(window, stride, padding))
                space = tuple((s + 2 * padding - window) // stride + 1 for s in space)
            case nets.MeanOfAll():
                modules.append(OfAll(torch.mean))
            case nets.MaxOfAll():
                modules.append(OfAll(torch.amax))
            case nets.Flatten():
                modules.append(nn.Flatten())
                channels *= torch.Size(space).numel()
            case nets.Dense(features):
                modules.append(nn.Linear(channels, features))
                channels = features
            case nets.Residual(branch, shortcut, relu):
                inner, out = _sequence(branch, channels, n, space)
                modules.append(Residual(inner, _sequence(shortcut, channels, n, space)[0], relu))
                channels = out
            case nets.Beside(branches):
                parts = [_sequence(branch, channels, n, space) for branch in branches]
                modules.append(Beside([part for part, _ in parts]))
                channels = sum(c for _, c in parts)
            case _:
                raise ValueError(f"layer={layer!r} is not one of benchmarks/nets.py")
    return nn.Sequential(*modules), channels
