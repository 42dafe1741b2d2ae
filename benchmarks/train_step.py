"""Times one training step of each network: ours, plain Flax, and torch with and without its best settings, in turns.

    python -m benchmarks.train_step [words of names]       writes its part of docs/performance.md when all are run

Forward, backward and SGD with momentum, float32, on random images that lie in memory. The peers' best is the fastest of torch's.
"""

import sys
from functools import partial

from benchmarks import nets
from benchmarks.sides import Side
from benchmarks.versus import compare

STOCK = (("XLA_FLAGS", None), ("CNN_JAX_ALLOCATOR", "0"))
SIDES = [
    Side("ours", "benchmarks.train_step:ours"),
    Side("torch", "benchmarks.train_step:torch_step"),
    Side("torch, compiled", "benchmarks.train_step:torch_compiled"),
    Side("torch, stock", "benchmarks.train_step:torch_stock", STOCK),
    Side("Flax", "benchmarks.train_step:plain_flax", STOCK),
]
BEST = ("torch", "torch, compiled", "torch, stock")


def ours(name: str):
    """Returns our step."""
    from cnn_jax import runtime

    runtime.set_up()
    net = nets.NETS[name]()
    if net.ours is None:
        from benchmarks.nets_flax import FlaxNet

        return _ours(net, FlaxNet(net.layers, ours=True))
    from cnn_jax.registry import MODELS

    model, options = net.ours
    return _ours(net, MODELS[model](num_outputs=net.num_classes, **options))


def _ours(net: nets.Net, model):
    import jax
    import optax

    from cnn_jax.losses.classification import softmax_cross_entropy
    from cnn_jax.mixing import unmixed
    from cnn_jax.parallel import make_parallel
    from cnn_jax.state import init_state
    from cnn_jax.step import make_train_step

    def last(*arguments, **options):
        return arguments[-1]

    tx, parallel = optax.sgd(0.01, momentum=0.9), make_parallel("jit", 1)
    step = make_train_step(
        model, softmax_cross_entropy, {}, tx, augment=last, mix=unmixed, standardise=last, average=last
    )
    inputs, targets = data(net)
    batch = parallel.shard({"inputs": inputs, "targets": targets, "valid": targets >= 0})
    state = parallel.make(partial(init_state, model, tx, net.shape, 0, with_ema=False))
    return _repeated(parallel.compile(step, state, batch, donate=True), state, batch, jax.block_until_ready)


def plain_flax(name: str):
    """Returns the step as Flax's guide writes it: its own layers, optax, jit."""
    import jax
    import optax

    from benchmarks.nets_flax import FlaxNet

    net = nets.NETS[name]()
    model, tx = FlaxNet(net.layers), optax.sgd(0.01, momentum=0.9)
    batch = tuple(map(jax.numpy.asarray, data(net)))
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), batch[0])

    def step(state, batch):
        params, rest, opt_state = state
        images, labels = batch

        def loss(params):
            logits, updates = model.apply({"params": params, **rest}, images, train=True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updates

        (_, rest), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state)
        return (optax.apply_updates(params, updates), dict(rest), opt_state), None

    params = variables["params"]
    state = params, {k: v for k, v in variables.items() if k != "params"}, tx.init(params)
    return _repeated(jax.jit(step, donate_argnums=0), state, batch, jax.block_until_ready)


def _repeated(step, state, batch, wait):
    held = [state]

    def once():
        held[0], _ = step(held[0], batch)
        wait(held[0])

    return once


def torch_step(name: str, *, compiled: bool = False, keep: bool = True):
    """Returns torch's step, eager, with the allocator that ours has."""
    if keep:
        from cnn_jax.allocator import keep_memory

        keep_memory()
    import torch
    from torch.nn import functional as F

    from benchmarks.nets_torch import build

    net = nets.NETS[name]()
    model = build(net.layers, net.shape)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=True)
    images, labels = map(torch.from_numpy, data(net))
    images = images.movedim(-1, 1)  # channels last in memory, as torch likes them
    if compiled:
        model = torch.compile(model)

    def once():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels.long()).backward()
        optimizer.step()

    return once


def torch_compiled(name: str):
    """Returns torch's step, its network compiled."""
    return torch_step(name, compiled=True)


def torch_stock(name: str):
    """Returns torch's step as it comes."""
    return torch_step(name, keep=False)


def data(net: nets.Net):
    """Returns random images and labels."""
    import numpy as np

    draw = np.random.default_rng(0)
    return draw.normal(size=(net.batch, *net.shape)).astype(np.float32), draw.integers(net.num_classes, size=net.batch).astype(np.int32)


def main(words: list[str]) -> int:
    """Runs all rows, or those whose names hold a word; returns the exit status."""
    names = [name for name in nets.NETS if not words or any(word in name for word in words)]
    compare("train_step", names, SIDES, best=BEST, against="Flax", save=not words)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
