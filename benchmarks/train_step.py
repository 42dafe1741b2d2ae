"""Times one training step of each network: ours, plain Flax, and torch with and without its best settings, in turns.

    python -m benchmarks.train_step [words of names]       writes its part of docs/performance.md when all are run

Forward, backward and SGD with momentum, float32, on random images that lie in memory. The peers' best is the fastest of torch's.
"""

import sys
from functools import partial

from benchmarks import nets, steps
from benchmarks.roofline import HEADINGS, jax_product, rates, torch_product
from benchmarks.sides import Side, Work, timed
from benchmarks.versus import chosen, compare

SIDES = [
    Side("ours", "benchmarks.train_step:ours"),
    Side("ours without the extension", "benchmarks.train_step:ours", steps.UNBUILT),
    Side("torch", "benchmarks.train_step:torch_step"),
    Side("torch, compiled", "benchmarks.train_step:torch_compiled"),
    Side("torch, stock", "benchmarks.train_step:torch_stock", steps.STOCK),
    Side("Flax", "benchmarks.train_step:plain_flax", steps.STOCK),
]
BEST = ("torch", "torch, compiled", "torch, stock")
NOTE = (
    "Ours has the extension (`make extension`), with which the ratios are. "
    "The last columns: the step's rate as a share of that of a 2048³ matrix product in the same process, the step's operations being those "
    "that XLA counts in ours before optimising."
)


def ours(name: str) -> Work:
    """Returns our step."""
    step = steps.our_step(nets.NETS[name]())
    return Work(step.once, {"product": jax_product()}, {"flops": step.flops()})


def plain_flax(name: str):
    """Returns the step as Flax's guide writes it."""
    import jax

    net = nets.NETS[name]()
    step, state = steps.flax_step(net)
    return steps.repeated(jax.jit(step, donate_argnums=0), state, tuple(map(jax.numpy.asarray, steps.data(net))))


def torch_step(name: str, **options) -> Work:
    """Returns torch's step, eager, with the allocator that ours has."""
    net = nets.NETS[name]()
    update = steps.torch_update(net, **options)
    import torch

    images, labels = map(torch.from_numpy, steps.data(net))
    return Work(lambda: update(images, labels), {"product": torch_product()})


def torch_compiled(name: str) -> Work:
    """Returns torch's step, its network compiled."""
    return torch_step(name, compiled=True)


def torch_stock(name: str) -> Work:
    """Returns torch's step as it comes."""
    return torch_step(name, keep=False)


def main(words: list[str]) -> int:
    """Runs all rows, or those whose names hold a word; returns the exit status."""
    steps.need_extension()
    options = {"extra": lambda name, timings: rates(timings), "headings": HEADINGS}
    # Steps follow each other in training: enough of them that the first, which finds its data in no cache, does not count much.
    measure = partial(timed, at_least=0.5)
    names = chosen(nets.NETS, words)
    compare("train_step", names, SIDES, best=BEST, against="Flax", **options, note=NOTE, measure=measure, save=not words)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
