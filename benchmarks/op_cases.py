"""The operations that `ops.py` times, as plain values: convolutions, BatchNorm, pooling, each with what of it is computed."""

import math
from typing import NamedTuple

FORWARD, INPUTS, KERNEL, BOTH = "forward", "input gradient", "kernel gradient", "forward and gradient"


class Conv(NamedTuple):
    """A convolution of inputs [batch, *space, channels], padded alike at both ends; torch's meaning of a transposed one's padding."""

    group: str
    batch: int
    space: tuple[int, ...]
    channels: int
    features: int
    window: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    transposed: bool = False
    kind: str = FORWARD

    @property
    def positions(self) -> tuple[int, ...]:
        """Sizes of the output."""
        span = (self.window - 1) * self.dilation + 1
        if self.transposed:
            return tuple((n - 1) * self.stride + span - 2 * self.padding for n in self.space)
        return tuple((n + 2 * self.padding - span) // self.stride + 1 for n in self.space)

    @property
    def flops(self) -> float:
        """Twice the multiply-adds, the same forward and for either gradient."""
        places = self.space if self.transposed else self.positions
        taps = self.window ** len(self.space)
        return 2.0 * self.batch * math.prod(places) * taps * self.channels // self.groups * self.features

    def __str__(self) -> str:
        window = "×".join([str(self.window)] * len(self.space)) + (f"/{self.stride}" if self.stride > 1 else "")
        return f"{self.group} {window}, {self.channels}→{self.features}, {_inputs(self.batch, self.space)}: {self.kind}"


class Norm(NamedTuple):
    """BatchNorm with a batch's statistics, then relu where `relu`."""

    group: str
    batch: int
    space: tuple[int, ...]
    channels: int
    relu: bool
    kind: str = BOTH

    def __str__(self) -> str:
        return f"{self.group}{' and relu' if self.relu else ''}, {self.channels}, {_inputs(self.batch, self.space)}: {self.kind}"


class Pool(NamedTuple):
    """The maximum or, where `average`, the mean of each window."""

    group: str
    batch: int
    space: tuple[int, ...]
    channels: int
    window: int
    stride: int
    padding: int = 0
    average: bool = False
    kind: str = FORWARD

    def __str__(self) -> str:
        window = f"{self.window}×{self.window}/{self.stride}"
        return f"{self.group} {window}, {self.channels}, {_inputs(self.batch, self.space)}: {self.kind}"


def _inputs(batch: int, space: tuple[int, ...]) -> str:
    sizes = f"{space[0]}²" if len(space) == 2 and len(set(space)) == 1 else "×".join(map(str, space))
    return f"{batch} × {sizes}"


CONVS = [
    Conv("dense", 16, (56, 56), 64, 64, 3, padding=1),
    Conv("dense", 16, (28, 28), 128, 128, 3, padding=1),
    Conv("dense", 16, (14, 14), 256, 256, 3, padding=1),
    Conv("dense", 16, (7, 7), 512, 512, 3, padding=1),
    Conv("dense", 64, (32, 32), 64, 64, 3, padding=1),
    Conv("stem", 16, (224, 224), 3, 64, 7, stride=2, padding=3),
    Conv("pointwise", 16, (56, 56), 64, 256, 1),
    Conv("pointwise", 16, (56, 56), 256, 64, 1),
    Conv("pointwise", 16, (14, 14), 1024, 256, 1),
    Conv("strided", 16, (56, 56), 128, 128, 3, stride=2, padding=1),
    Conv("strided", 16, (56, 56), 256, 512, 1, stride=2),
    Conv("dilated", 16, (56, 56), 64, 64, 3, padding=2, dilation=2),
    Conv("dilated", 16, (14, 14), 256, 256, 3, padding=2, dilation=2),
    Conv("grouped", 16, (56, 56), 128, 128, 3, padding=1, groups=32),
    Conv("grouped", 16, (14, 14), 512, 512, 3, padding=1, groups=32),
    Conv("depthwise", 16, (56, 56), 144, 144, 3, padding=1, groups=144),
    Conv("depthwise", 16, (14, 14), 576, 576, 3, padding=1, groups=576),
    Conv("depthwise", 16, (56, 56), 144, 144, 3, stride=2, padding=1, groups=144),
    Conv("transposed", 16, (28, 28), 128, 64, 4, stride=2, padding=1, transposed=True),
    Conv("LeNet's", 128, (32, 32), 1, 6, 5),
    Conv("LeNet's", 128, (14, 14), 6, 16, 5),
    Conv("1-D", 64, (56,), 300, 100, 3),
    Conv("1-D", 64, (56,), 300, 100, 5),
    Conv("3-D", 8, (8, 56, 56), 3, 32, 3, padding=1),
    Conv("3-D", 8, (8, 56, 56), 32, 64, 3, stride=2, padding=1),
]
NORMS = [
    Norm("BatchNorm", 16, space, channels, relu)
    for space, channels in (((112, 112), 64), ((56, 56), 256), ((14, 14), 1024))
    for relu in (False, True)
]
POOLS = [
    Pool("max pool", 16, (112, 112), 64, 3, 2, padding=1),
    Pool("max pool", 16, (56, 56), 128, 2, 2),
    Pool("max pool", 128, (28, 28), 6, 2, 2),
    Pool("average pool", 16, (56, 56), 128, 2, 2, average=True),
    Pool("average pool", 16, (7, 7), 2048, 7, 7, average=True),
]
CASES = [
    *(conv._replace(kind=kind) for conv in CONVS for kind in (FORWARD, INPUTS, KERNEL)),
    *NORMS,
    *(pool._replace(kind=kind) for pool in POOLS for kind in (FORWARD, BOTH)),
]
