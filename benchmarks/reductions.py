"""A loss in its three reductions: torch's function unreduced, its module reduced to the mean and to the sum."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import torch

from benchmarks.agreement import Case, case
from cnn_jax.losses.reduction import reduce


def row_means(values: torch.Tensor) -> torch.Tensor:
    """Returns the mean of each example's elements: our per-example value."""
    return values.flatten(1).mean(1) if values.ndim > 1 else values


def reductions(
    ours: Callable[..., jax.Array],
    function: Callable[..., torch.Tensor],
    module: Callable[..., torch.nn.Module],
    *arrays,
    elements: int = 1,
    options: dict | None = None,
    fold: Callable[[torch.Tensor], torch.Tensor] = row_means,
    **about,
) -> Iterator[Case]:
    """Yields the cases "none" (torch's function), "mean" and "sum" (torch's module) of one configuration.

    Args:
      elements: how many an example has, over which our value is the mean: torch's sum is so much larger.
      options: torch's.
      fold: makes torch's unreduced values one an example.
    """
    options = options or {}
    yield case(ours, lambda *a: fold(function(*a, reduction="none", **options)), *arrays, **about)
    yield case(lambda *a: reduce(ours(*a)), module(reduction="mean", **options), *arrays, **about)
    total = partial(module, reduction="sum", **options)()
    yield case(lambda *a: elements * reduce(ours(*a), how="sum"), total, *arrays, **about)
