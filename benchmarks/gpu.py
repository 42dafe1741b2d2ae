"""Times training steps on a GPU in bfloat16: ours and torch's, compiled, channels last and under autocast, in turns.

    python -m benchmarks.gpu [words of names]       writes its part of docs/performance.md when all are run

Beside each step the same process times a product of matrices in bfloat16 and a copy: the shares tell which of the two a step is held up by.
Without a GPU for both jax and torch it says so, and ends with status 1.
"""

import os
import sys

from benchmarks import nets, steps
from benchmarks.roofline import COPIED, jax_copy, jax_product, share, torch_product
from benchmarks.sides import Side, Timing, Work
from benchmarks.versus import chosen, compare

SIZE = 8192  # of the product's matrices
# Both are held in memory at once: jax must not take all of it.
SHARED = (("XLA_PYTHON_CLIENT_PREALLOCATE", "false"),)
SIDES = [Side("ours", "benchmarks.gpu:ours", SHARED), Side("torch, compiled", "benchmarks.gpu:torch_compiled")]
NETS = {"ResNet-50, 256 × 224²": ("ResNet-50, 16 × 224²", 256), "ResNet-18 for CIFAR, 128 × 32²": ("ResNet-18 for CIFAR, 64 × 32²", 128)}
HEADINGS = ("ours, of a product's rate", "torch, of a product's rate", "ours, of a copy's rate")
NOTE = (
    "bfloat16, parameters float32. The last columns: the step's rate as a share of that of an 8192³ product in bfloat16, operations as XLA "
    "counts ours before optimising; and the bytes that our compiled program reads and writes, by XLA's count, as a share of a copy's."
)


def _net(name: str) -> nets.Net:
    described, batch = NETS[name]
    return nets.NETS[described]()._replace(batch=batch)


def ours(name: str) -> Work:
    """Returns our step."""
    import jax.numpy as jnp

    step = steps.our_step(_net(name), dtype=jnp.bfloat16)
    facts = {"flops": step.flops(), "bytes": step.program.cost_analysis()["bytes accessed"]}
    return Work(step.once, {"product": jax_product(SIZE, "bfloat16"), "copy": jax_copy()}, facts)


def torch_compiled(name: str) -> Work:
    """Returns torch's step."""
    update = steps.torch_update(_net(name), compiled=True, keep=False, device="cuda")
    import torch

    images, labels = (torch.from_numpy(array).cuda() for array in steps.data(_net(name)))

    def once():
        update(images, labels)
        torch.cuda.synchronize()

    return Work(once, {"product": torch_product(SIZE, "bfloat16", "cuda")})


def shares(name: str, timings: dict[str, Timing]) -> list[str]:
    """Returns the cells below HEADINGS."""
    mine = timings["ours"]
    if mine.error:
        return ["–"] * len(HEADINGS)
    of_product = [share(mine.facts["flops"], timings[side.name], size=SIZE) for side in SIDES]
    return [*of_product, f"{mine.facts['bytes'] / mine.median / (2 * COPIED / mine.beside['copy']):.0%}"]


def missing() -> str:
    """Returns which of the two finds no GPU; "" where both do."""
    os.environ.update(SHARED)  # this process only looks
    import jax
    import torch

    found = {"jax": jax.default_backend() == "gpu", "torch": torch.cuda.is_available()}
    return " and ".join(library for library, has in found.items() if not has)


def main(words: list[str]) -> int:
    """Runs all rows, or those whose names hold a word; returns the exit status."""
    if without := missing():
        print(f"benchmarks.gpu needs a GPU, and {without} found none: on a machine with one, install jax[cuda12] and torch built for CUDA.")
        return 1
    names = chosen(NETS, words)
    compare("gpu", names, SIDES, best=("torch, compiled",), extra=shares, headings=HEADINGS, note=NOTE, save=not words)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
