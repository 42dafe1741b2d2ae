"""What a machine can do at most, measured in the process and the minute of the work that is compared with it: a matrix product, a copy."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.sides import Timing

SIZE = 2048  # of the product's matrices: large enough for its full rate
COPIED = 2**30  # bytes
HEADINGS = ("ours, of a product's rate", "torch, of a product's rate")


def jax_product(size: int = SIZE, dtype: str = "float32") -> Callable[[], Any]:
    """Returns a matrix product of jax as a function of no arguments."""
    import jax

    a = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
    program = jax.jit(lambda a, b: a @ b)
    return lambda: program(a, a).block_until_ready()


def jax_copy() -> Callable[[], Any]:
    """Returns a copy, with its sign changed, of COPIED bytes."""
    import jax

    a, program = jax.numpy.ones(COPIED // 4), jax.jit(lambda a: -a)
    return lambda: program(a).block_until_ready()


def torch_product(size: int = SIZE, dtype: str = "float32", device: str = "cpu") -> Callable[[], Any]:
    """Returns a matrix product of torch as a function of no arguments."""
    import torch

    a = torch.randn(size, size, device=device).to(getattr(torch, dtype))

    def once():
        with torch.inference_mode():
            a @ a
        if device == "cuda":
            torch.cuda.synchronize()

    return once


def rates(timings: Mapping[str, Timing], flops: float | None = None) -> list[str]:
    """Returns the cells below HEADINGS.

    Args:
      flops: of the work; None takes those that our side tells among its facts.
    """
    if flops is None:
        flops = (timings["ours"].facts or {}).get("flops")
    return [share(flops, timings[side]) for side in ("ours", "torch")]


def share(flops: float | None, timing: Timing, *, size: int = SIZE) -> str:
    """Returns which part the work's rate is of that of the product which was timed beside it."""
    if flops is None or "product" not in timing.beside:
        return "–"
    return f"{flops / timing.median / (2 * size**3 / timing.beside['product']):.0%}"
