"""One training step as each side writes it: forward, backward and SGD with momentum, for all benchmarks that take steps."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from benchmarks import nets

LEARNING_RATE, MOMENTUM = 0.01, 0.9
STOCK = (("XLA_FLAGS", None), ("CNN_JAX_ALLOCATOR", "0"))  # a process as it comes, without what `runtime.set_up` sets

UNBUILT = (("CNN_JAX_EXTENSION", "0"),)  # ours without what `make extension` builds


def need_extension() -> None:
    """Raises SystemExit where the extension was not built: ours is timed with it, and where it matters without it as well."""
    from cnn_jax.ops import extension

    if not extension.library().exists():
        raise SystemExit("Ours is timed with the extension, which was not built: python -m cnn_jax.build_extension")


def data(net: nets.Net):
    """Returns random images and labels."""
    import numpy as np

    draw = np.random.default_rng(0)
    return draw.normal(size=(net.batch, *net.shape)).astype(np.float32), draw.integers(net.num_classes, size=net.batch).astype(np.int32)


def our_model(net: nets.Net, **options):
    """Returns our model of the network, or our layers as it describes them."""
    if net.ours is None:
        from benchmarks.nets_flax import FlaxNet

        return FlaxNet(net.layers, ours=True)
    from cnn_jax.registry import MODELS

    model, given = net.ours
    return MODELS[model](num_outputs=net.num_classes, **given, **options)


class OurStep(NamedTuple):
    """Our step: taken `once`, the compiled `program`, and its operations as XLA counts them before optimising."""

    once: Callable[[], None]
    program: Any
    flops: Callable[[], float]


def our_step(net: nets.Net, *, mode: str = "jit", num_devices: int = 1, **options) -> OurStep:
    """Returns our step, compiled, in a process that is set up as `launch.py` sets up its own.

    Args:
      options: of the model.
    """
    from cnn_jax import runtime

    runtime.set_up(num_devices)
    import jax

    from cnn_jax.losses.classification import softmax_cross_entropy
    from cnn_jax.mixing import unmixed
    from cnn_jax.parallel import count_flops, make_parallel
    from cnn_jax.state import init_state
    from cnn_jax.step import make_train_step

    def last(*arguments, **options):
        return arguments[-1]

    parallel = make_parallel(mode, num_devices)
    axis = {"axis_name": parallel.axis_name}
    model, tx = our_model(net, **options, **(axis if net.ours else {})), _sgd()
    same = {"augment": last, "mix": unmixed, "standardise": last, "average": last}
    step = make_train_step(model, softmax_cross_entropy, {}, tx, **same, **axis)
    inputs, targets = data(net)
    batch = parallel.shard({"inputs": inputs, "targets": targets, "valid": targets >= 0})
    state = parallel.make(partial(init_state, model, tx, net.shape, 0, with_ema=False))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state, batch))
    program = parallel.compile(step, state, batch, donate=True)
    return OurStep(repeated(program, state, batch), program, lambda: count_flops(step, *shapes))


def flax_step(net: nets.Net):
    """Returns (state, (images, labels)) -> (state, None), and the first state, as Flax's guide writes it: its own layers, optax, jit."""
    import jax
    import optax

    from benchmarks.nets_flax import FlaxNet

    model, tx = FlaxNet(net.layers), _sgd()
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), jax.numpy.zeros((1, *net.shape)))

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
    return step, (params, {k: v for k, v in variables.items() if k != "params"}, tx.init(params))


def _sgd():
    import optax

    return optax.sgd(LEARNING_RATE, momentum=MOMENTUM)


def repeated(step, state, batch):
    """Returns a function that takes the next step with the same batch and waits for it."""
    import jax

    held = [state]

    def once():
        held[0], _ = step(held[0], batch)
        jax.block_until_ready(held[0])

    return once


def torch_update(net: nets.Net, *, compiled: bool = False, keep: bool = True, device: str = "cpu"):
    """Returns torch's step of (images [b, *space, c], labels).

    Args:
      keep: with the allocator that ours has.
    """
    if keep:
        from cnn_jax.allocator import keep_memory

        keep_memory()
    import torch
    from torch.nn import functional as F

    from benchmarks.nets_torch import build

    model = build(net.layers, net.shape).to(device)
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=MOMENTUM, fused=True)
    if compiled:
        model = torch.compile(model)

    def update(images, labels):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = F.cross_entropy(model(images.movedim(-1, 1)), labels.long())  # channels last in memory, as torch likes them
        loss.backward()
        optimizer.step()

    return update
