"""Networks described once, so that plain Flax and torch build the very same as ours: layers as plain values."""

from collections.abc import Callable
from typing import NamedTuple


class Conv(NamedTuple):
    """A convolution padded by half its window (or as told); one window size for each spatial axis."""

    features: int
    window: tuple[int, ...]
    stride: int = 1
    depthwise: bool = False
    bias: bool = False
    padding: int | None = None


class Norm(NamedTuple):
    """BatchNorm."""


class Relu(NamedTuple):
    """max(x, 0), and at most `most`."""

    most: float | None = None


class MaxPool(NamedTuple):
    """The maximum of each window."""

    window: int
    stride: int
    padding: int = 0


class MeanOfAll(NamedTuple):
    """The mean over all positions."""


class MaxOfAll(NamedTuple):
    """The maximum over all positions."""


class Flatten(NamedTuple):
    """Positions and channels as one axis."""


class Dense(NamedTuple):
    """A linear layer with bias."""

    features: int


class Residual(NamedTuple):
    """The sum of a branch and a shortcut, which is the identity where it has no layers; then relu where `relu`."""

    branch: tuple
    shortcut: tuple = ()
    relu: bool = True


class Beside(NamedTuple):
    """Branches of one input, their outputs joined along the channels."""

    branches: tuple


class Net(NamedTuple):
    """A network and what it is timed on. `ours` makes our model; None builds it from the same description with our layers."""

    layers: tuple
    batch: int
    shape: tuple[int, ...]
    num_classes: int
    ours: tuple[str, dict] | None


def _unit(features: int, window: int, stride: int = 1, *, relu: bool = True) -> tuple:
    return (Conv(features, (window, window), stride), Norm(), *([Relu()] if relu else []))


def resnet(sizes: tuple[int, ...], *, bottleneck: bool, small: bool, classes: int, width: int = 64) -> tuple:
    """Returns torchvision's ResNet; `small` begins with one 3×3."""
    layers = list(_unit(width, 3)) if small else [*_unit(width, 7, 2), MaxPool(3, 2, 1)]
    channels = width
    for stage, blocks in enumerate(sizes):
        inner = width * 2**stage
        outer = inner * (4 if bottleneck else 1)
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            if bottleneck:
                branch = (*_unit(inner, 1), *_unit(inner, 3, stride), *_unit(outer, 1, relu=False))
            else:
                branch = (*_unit(inner, 3, stride), *_unit(outer, 3, relu=False))
            shortcut = _unit(outer, 1, stride, relu=False) if stride > 1 or channels != outer else ()
            layers.append(Residual(branch, shortcut))
            channels = outer
    return (*layers, MeanOfAll(), Dense(classes))


def mobilenet_v2(classes: int) -> tuple:
    """Returns MobileNetV2 without its dropout."""
    layers, channels = [Conv(32, (3, 3), 2), Norm(), Relu(6.0)], 32
    for expansion, features, blocks, first in (
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
        *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    ):
        for block in range(blocks):
            stride, inner = first if not block else 1, channels * expansion
            branch = [] if expansion == 1 else [Conv(inner, (1, 1)), Norm(), Relu(6.0)]
            branch += [Conv(inner, (3, 3), stride, depthwise=True), Norm(), Relu(6.0), Conv(features, (1, 1)), Norm()]
            layers += [Residual(tuple(branch), relu=False)] if stride == 1 and channels == features else branch
            channels = features
    return (*layers, Conv(1280, (1, 1)), Norm(), Relu(6.0), MeanOfAll(), Dense(classes))


def lenet5() -> tuple:
    """Returns the modern LeNet-5 for 32×32."""
    convs = (Conv(f, (5, 5), bias=True, padding=0) for f in (6, 16))
    layers = [layer for conv in convs for layer in (conv, Relu(), MaxPool(2, 2))]
    return (*layers, Flatten(), Dense(120), Relu(), Dense(84), Relu(), Dense(10))


def text_cnn() -> tuple:
    """Returns Kim's (2014) sentence classifier on embedded words: windows of 3, 4 and 5, a hundred features each."""
    branches = tuple((Conv(100, (k,), bias=True, padding=0), Relu(), MaxOfAll()) for k in (3, 4, 5))
    return (Beside(branches), Dense(2))


def video() -> tuple:
    """Returns a small net of 3×3×3 convolutions over frames (Tran et al. 2015, "C3D", four layers deep)."""
    layers: list = []
    for features, stride in ((32, 1), (64, 2), (128, 2), (128, 2)):
        layers += [Conv(features, (3, 3, 3), stride), Norm(), Relu()]
    return (*layers, MeanOfAll(), Dense(10))


NETS: dict[str, Callable[[], Net]] = {
    "LeNet-5, 128 × 32²": lambda: Net(lenet5(), 128, (32, 32, 1), 10, ("lenet5_modern", {})),
    "digits' ResNet-8, 64 × 8²": lambda: Net(
        resnet((1, 1, 1), bottleneck=False, small=True, classes=10, width=32), 64, (8, 8, 1), 10, ("resnet8", {"width": 32})
    ),
    "ResNet-18, 64 × 32²": lambda: Net(
        resnet((2, 2, 2, 2), bottleneck=False, small=False, classes=10), 64, (32, 32, 3), 10, ("resnet18", {})
    ),
    "ResNet-18 for CIFAR, 64 × 32²": lambda: Net(
        resnet((2, 2, 2, 2), bottleneck=False, small=True, classes=10), 64, (32, 32, 3), 10, ("resnet18", {"stem": "small"})
    ),
    "ResNet-18, 16 × 224²": lambda: Net(
        resnet((2, 2, 2, 2), bottleneck=False, small=False, classes=1000), 16, (224, 224, 3), 1000, ("resnet18", {})
    ),
    "ResNet-50, 16 × 224²": lambda: Net(
        resnet((3, 4, 6, 3), bottleneck=True, small=False, classes=1000), 16, (224, 224, 3), 1000, ("resnet50", {})
    ),
    "MobileNetV2, 16 × 224²": lambda: Net(mobilenet_v2(1000), 16, (224, 224, 3), 1000, ("mobilenet_v2", {"dropout": 0.0})),
    "TextCNN, 64 × 56 words": lambda: Net(text_cnn(), 64, (56, 300), 2, None),
    "3-D net, 8 × 8 × 56²": lambda: Net(video(), 8, (8, 56, 56, 3), 10, None),
}
