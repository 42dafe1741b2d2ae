"""Times networks at inference, one image and many: ours with BatchNorm folded, torch in all its forms, and plain Flax, in turns.

    python -m benchmarks.inference [words of rows]       writes its part of docs/performance.md when all are run

float32, on random images that lie in memory. The peers' best is the fastest of torch's.
"""

import sys
from functools import partial
from typing import NamedTuple

from benchmarks import nets, steps
from benchmarks.roofline import HEADINGS, jax_product, rates, torch_product
from benchmarks.sides import Side, Work
from benchmarks.versus import chosen, compare

SIDES = [
    Side("ours", "benchmarks.inference:ours"),
    Side("torch", "benchmarks.inference:torch_eager"),
    Side("torch, compiled", "benchmarks.inference:torch_compiled", (("TORCHINDUCTOR_FREEZING", "1"),)),
    Side("torch, frozen", "benchmarks.inference:torch_frozen"),
    Side("Flax", "benchmarks.inference:plain_flax", steps.STOCK),
]
BEST = ("torch", "torch, compiled", "torch, frozen")
NETS = ("LeNet-5, 128 × 32²", "ResNet-18, 16 × 224²", "ResNet-50, 16 × 224²", "MobileNetV2, 16 × 224²")
NOTE = (
    "Compiled and frozen, torch folds BatchNorm too. The last columns: the rate as a share of that of a 2048³ matrix product in the same "
    "process, operations as XLA counts those of ours before optimising."
)


class Case(NamedTuple):
    """A network of `nets.NETS` and its number of images."""

    name: str
    batch: int

    def __str__(self) -> str:
        name, _, size = self.name.partition(", ")
        return f"{name}, {self.batch} × {size.partition(' × ')[2]}"

    @property
    def net(self) -> nets.Net:
        """The network with this batch."""
        return nets.NETS[self.name]()._replace(batch=self.batch)


CASES = [Case(name, batch) for name in NETS for batch in (1, 32)]


def ours(case: Case) -> Work:
    """Returns our network, folded where there is something to fold."""
    from cnn_jax import runtime

    runtime.set_up()
    import jax

    from cnn_jax.folding import fold_batch_norm
    from cnn_jax.parallel import count_flops

    model = steps.our_model(case.net)
    variables = _first_variables(model, case.net)
    if "batch_stats" in variables:
        model, variables = fold_batch_norm(model, variables, case.net.shape)
    forward, images = partial(model.apply, train=False), jax.numpy.asarray(steps.data(case.net)[0])
    return Work(_once(forward, variables, images), {"product": jax_product()}, {"flops": count_flops(forward, variables, images)})


def plain_flax(case: Case):
    """Returns the network in Flax's own layers."""
    import jax

    from benchmarks.nets_flax import FlaxNet

    model = FlaxNet(case.net.layers)
    images = jax.numpy.asarray(steps.data(case.net)[0])
    return _once(partial(model.apply, train=False), _first_variables(model, case.net), images)


def _first_variables(model, net: nets.Net):
    import jax

    return jax.jit(partial(model.init, train=False))(jax.random.key(0), jax.numpy.zeros((1, *net.shape)))


def _once(forward, variables, images):
    import jax

    program = jax.jit(forward)
    return lambda: program(variables, images).block_until_ready()


def torch_eager(case: Case) -> Work:
    """Returns torch's network, eager."""
    return _torch(case, lambda model, images: model)


def torch_compiled(case: Case) -> Work:
    """Returns torch's network, compiled with its weights as constants (TORCHINDUCTOR_FREEZING)."""
    import torch

    return _torch(case, lambda model, images: torch.compile(model))


def torch_frozen(case: Case) -> Work:
    """Returns torch's network, traced, frozen and optimised for inference."""
    import torch

    return _torch(case, lambda model, images: torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, images))))


def _torch(case: Case, prepared) -> Work:
    from cnn_jax.allocator import keep_memory

    keep_memory()
    import torch

    from benchmarks.nets_torch import build

    images = torch.from_numpy(steps.data(case.net)[0]).movedim(-1, 1)
    with torch.no_grad():
        model = prepared(build(case.net.layers, case.net.shape).eval(), images)

    def once():
        with torch.inference_mode():
            model(images)

    return Work(once, {"product": torch_product()})


def main(words: list[str]) -> int:
    """Runs all rows, or those whose names hold a word; returns the exit status."""
    steps.need_extension()
    options = {"extra": lambda case, timings: rates(timings), "headings": HEADINGS}
    by_size = {"group": lambda case: f"{case.batch} image{'s' if case.batch > 1 else ''}"}
    compare("inference", chosen(CASES, words), SIDES, best=BEST, against="Flax", **options, **by_size, note=NOTE, save=not words)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
