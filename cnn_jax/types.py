"""The shapes everything hangs on: arrays, a batch, and what a loss, a metric and a step are."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

PyTree = Any  # nested dicts, tuples and lists of arrays
ArrayLike = jax.Array | np.ndarray | np.generic  # an array, or a NumPy scalar

Batch = Mapping[str, PyTree]
"""`inputs` and `targets`, each an array or a pytree with leading axis b, and `valid`, a boolean an example [b].

The last batch is padded and masked, never dropped. Images are NHWC, sequences NWC, volumes NDHWC.
"""


class LossFn(Protocol):
    """`loss(outputs, targets, where=mask)` returns a value an example [b]; the step takes the mean over `where`."""

    def __call__(self, outputs: PyTree, targets: PyTree, *, where: Bool[Array, "b"] | None = None) -> Float[Array, "b"]: ...


class MetricFn(Protocol):
    """The arguments of a loss; returns sums and counts that merge by addition and have a `result()`."""

    def __call__(self, outputs: PyTree, targets: PyTree, *, where: Bool[Array, "b"] | None = None) -> PyTree: ...


class AugmentFn(Protocol):
    """Randomly changed images of one batch. `axis_name` names the mapped device axis, under pmap only."""

    def __call__(self, key: PRNGKeyArray, images: Array, *, axis_name: str | None = None) -> Array: ...


class ViewFn(Protocol):
    """The batch of one update before it is augmented, from that of the data: as labelled, or two views of each picture."""

    def __call__(self, batch: Batch, step: Array, *, axis_name: str | None = None) -> Batch: ...


# Some training steps: (state, data on the device, batches stacked, how many of them count) -> (state, measures stacked)
StepsFn = Callable[[PyTree, PyTree, Batch, np.int32], tuple[PyTree, PyTree]]
