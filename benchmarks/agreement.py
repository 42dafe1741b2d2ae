"""One comparison of a function of ours with torch's: the same arrays through both, values and gradients back."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


@dataclasses.dataclass(frozen=True)
class Case:
    """One configuration of a pair of functions.

    Attributes:
      ours, theirs: functions of the arrays, giving one array of the same shape; torch's takes and gives our layout, channels last.
      arrays: NumPy arrays; those of floats are differentiated by.
      variant: what sets the case apart so far that it gets a row of its own.
      fixed: places of arrays of floats that neither or only one of the two can be differentiated by.
      gradient: whether there is one to compare.
      pointwise: whether each value is compared relative to itself, not to the largest.
    """

    ours: Callable[..., jax.Array]
    theirs: Callable[..., torch.Tensor]
    arrays: tuple[np.ndarray, ...]
    variant: str = ""
    fixed: tuple[int, ...] = ()
    gradient: bool = True
    pointwise: bool = False


def case(ours, theirs, *arrays, **options) -> Case:
    """Returns the case, its floats rounded to float32, so that every type starts from the same numbers."""
    rounded = [np.asarray(a, np.float32) if np.asarray(a).dtype.kind == "f" else np.asarray(a) for a in arrays]
    return Case(ours, theirs, tuple(rounded), **options)


@dataclasses.dataclass(frozen=True)
class Difference:
    """The largest differences of values and of gradients; None where there is no gradient."""

    value: float
    gradient: float | None

    def largest(self) -> float:
        """Returns the larger of the two."""
        return max(self.value, self.gradient or 0.0)


def compare(item: Case, dtype: str) -> Difference:
    """Returns how far ours is from torch's with arrays of that type."""
    return between(ours_of(item, dtype), theirs_of(item, dtype), item.pointwise)


def between(ours: list[np.ndarray], theirs: list[np.ndarray], pointwise: bool = False) -> Difference:
    """Returns the difference of two lists (value, gradients …) as max |a − b| / max(1, max |b|)."""
    value, *gradients = [_distance(a, b, pointwise) for a, b in zip(ours, theirs, strict=True)]
    return Difference(value, max(gradients) if gradients else None)


def ours_of(item: Case, dtype: str) -> list[np.ndarray]:
    """Returns our value and its gradients under a random cotangent, as float64."""
    with jax.enable_x64(dtype == "float64"):
        arrays = [jnp.asarray(a, dtype if a.dtype.kind == "f" else None) for a in item.arrays]
        places = _differentiated(item)

        def of_floats(*floats):
            whole = list(arrays)
            for place, array in zip(places, floats, strict=True):
                whole[place] = array
            return item.ours(*whole)

        def value_and_gradients(*floats):
            value, pull = jax.vjp(of_floats, *floats)
            return value, *pull(jnp.asarray(_cotangent(value.shape), value.dtype))

        function = value_and_gradients if places else lambda: (item.ours(*arrays),)
        return [np.asarray(y, np.float64) for y in jax.jit(function)(*(arrays[i] for i in places))]


def theirs_of(item: Case, dtype: str) -> list[np.ndarray]:
    """Returns torch's value and its gradients under the same cotangent, as float64."""
    # A copy: batch norm writes into its arguments.
    arrays = [torch.tensor(a, dtype=DTYPES[dtype] if a.dtype.kind == "f" else None) for a in item.arrays]
    arrays = [a.long() if a.dtype == torch.int32 else a for a in arrays]
    floats = [arrays[i].requires_grad_() for i in _differentiated(item)]
    value = item.theirs(*arrays)
    outcome = [value]
    if floats:
        cotangent = torch.tensor(_cotangent(tuple(value.shape))).to(value.dtype)
        outcome += torch.autograd.grad(value, floats, cotangent, allow_unused=True, materialize_grads=True)
    return [y.detach().to(torch.float64).numpy() for y in outcome]


def _differentiated(item: Case) -> list[int]:
    floats = [i for i, a in enumerate(item.arrays) if a.dtype.kind == "f" and i not in item.fixed]
    return floats if item.gradient else []


def _cotangent(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def _distance(a: np.ndarray, b: np.ndarray, pointwise: bool) -> float:
    if a.shape != b.shape:
        raise ValueError(f"ours has shape {a.shape}, torch's {b.shape}")
    alike = (a == b) | (np.isnan(a) & np.isnan(b))  # two infinities of one sign agree, as do two NaN
    finite = np.isfinite(a) & np.isfinite(b)
    if not (alike | finite).all():
        return float("inf")
    sizes = np.where(finite, np.abs(b), 0)
    scale = np.maximum(1, sizes if pointwise else sizes.max(initial=0))
    return float((np.where(alike, 0, np.abs(np.where(finite, a, 0) - np.where(finite, b, 0))) / scale).max(initial=0))
