"""Times an epoch of training, data and all: ours as `launch.py` runs it, plain Flax and torch, in turns.

    python -m benchmarks.loop [words of rows]       writes its part of docs/performance.md when all are run

Whole batches of shuffled uint8 images, standardised on the way, no augmentation; SGD with momentum, float32. Ours measures loss, accuracy
and the gradient's norm at each update, peers nothing. The peers' best is the fastest of torch's.
"""

import sys
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks import nets, steps
from benchmarks.sides import Side
from benchmarks.versus import chosen, compare

SIDES = [
    Side("ours", "benchmarks.loop:ours"),
    Side("torch", "benchmarks.loop:torch_tensors"),
    Side("torch, compiled", "benchmarks.loop:torch_compiled"),
    Side("torch, DataLoader", "benchmarks.loop:torch_loader"),
    Side("Flax", "benchmarks.loop:plain_flax", steps.STOCK),
]
BEST = ("torch", "torch, compiled", "torch, DataLoader")
NOTE = "Times are of an epoch of whole batches; ours hands so many updates to the device at once as the row says."


class Training(NamedTuple):
    """A network and the data set, by its registered name and options, that it is trained on."""

    net: nets.Net
    dataset: str
    options: dict


DIGITS, LENET = (nets.NETS[name]() for name in ("digits' ResNet-8, 64 × 8²", "LeNet-5, 128 × 32²"))
SMALL = nets.resnet((1, 1, 1), bottleneck=False, small=True, classes=10, width=16)
CIFAR = nets.Net(SMALL, 128, (32, 32, 3), 10, ("resnet8", {"width": 16}))
TRAININGS = {
    "digits, ResNet-8, 64 × 8²": Training(DIGITS, "digits", {}),
    "as many as digits, LeNet-5, 64 × 32²": Training(LENET._replace(batch=64), "generated", {"shape": (32, 32, 1), "num_train": 1437}),
    "10,000 like CIFAR's, ResNet-8, 128 × 32²": Training(CIFAR, "generated", {"shape": (32, 32, 3), "num_train": 10_000}),
}


class Case(NamedTuple):
    """A training of TRAININGS, and the updates that ours hands to the device at once."""

    name: str
    dispatch: int

    def __str__(self) -> str:
        return f"{self.name}; {self.dispatch} at once"


CASES = [Case(name, dispatch) for name in TRAININGS for dispatch in (25, 16, 1)]


def ours(case: Case):
    """Returns an epoch by the parts of which `cnn_jax.train` is made: data on the device, many updates a dispatch."""
    from cnn_jax import runtime

    runtime.set_up()
    import jax

    from cnn_jax.build import build, first_state
    from cnn_jax.check import resolve
    from cnn_jax.data.feed import Indexed, chunks, resident, stacked, taken
    from cnn_jax.data.pipeline import train_batches
    from cnn_jax.dispatch import make_steps
    from cnn_jax.parallel import make_parallel
    from cnn_jax.train import make_step

    parallel, built = make_parallel("jit", 1), build(resolve(_experiment(case)))
    size, source = built.experiment.batch_size, built.dataset.open("train")
    updates = len(source) // size
    state, data = parallel.make(partial(first_state, built)), parallel.place(resident(source))
    batches = train_batches(Indexed(source), built.sampler(source, size), seed=0, start_step=0, num_steps=sys.maxsize, workers=0)
    feed = chunks(batches, size=case.dispatch, start_step=0, stop=lambda step: (step // updates + 1) * updates)
    empty = stacked([{"indices": np.zeros(size, np.int32), "valid": np.zeros(size, bool)}], case.dispatch)
    many = make_steps(make_step(built, parallel), taken, case.dispatch)
    program = parallel.compile_steps(many, state, data, parallel.shard_stacked(empty))
    held = [state]

    def once():
        done, before = 0, None
        while done < updates:
            chunk = next(feed)
            held[0], measures = program(held[0], data, parallel.shard_stacked(chunk.batches), np.int32(chunk.num))
            jax.block_until_ready(before)  # one chunk stays in flight, as in training
            done, before = done + chunk.num, measures
        jax.block_until_ready(held[0])

    return once


def _experiment(case: Case):
    from cnn_jax.experiment import About, Experiment, Spec

    training = TRAININGS[case.name]
    model, options = training.net.ours
    return Experiment(
        name="loop",
        about=About(shows="", num_params=0),
        model=Spec(model, **options),
        dataset=Spec(training.dataset, **training.options),
        optimizer=Spec("sgd", learning_rate=steps.LEARNING_RATE, momentum=steps.MOMENTUM, nesterov=False),
        schedule=Spec("constant"),
        batch_size=training.net.batch,
        steps_per_dispatch=case.dispatch,
    )


def _data(training: Training):
    """Images, labels, and mean and deviation of images from 0 to 255."""
    from cnn_jax.registry import DATASETS

    dataset = DATASETS[training.dataset](**training.options)
    source = dataset.open("train")
    return source.images, source.labels, *(255 * np.float32(values) for values in (dataset.mean, dataset.std))


def _orders(num: int, batch: int):
    """Yields the rows of each whole batch of an epoch, shuffled anew each time it is asked for."""
    order = np.random.default_rng().permutation(num)
    yield from order[: num // batch * batch].reshape(-1, batch)


def plain_flax(case: Case):
    """Returns an epoch of a loop over NumPy's batches, each step dispatched by itself."""
    import jax

    training = TRAININGS[case.name]
    images, labels, mean, std = _data(training)
    step, state = steps.flax_step(training.net)
    program = jax.jit(lambda state, batch: step(state, ((batch[0] - mean) / std, batch[1])), donate_argnums=0)
    held = [state]

    def once():
        for rows in _orders(len(labels), training.net.batch):
            held[0], _ = program(held[0], (images[rows], labels[rows]))
        jax.block_until_ready(held[0])

    return once


def torch_tensors(case: Case, *, compiled: bool = False):
    """Returns torch's epoch over tensors in memory, each batch gathered at once."""
    training = TRAININGS[case.name]
    update = steps.torch_update(training.net, compiled=compiled)
    import torch

    images, labels, mean, std = map(torch.from_numpy, _data(training))

    def once():
        for rows in map(torch.from_numpy, _orders(len(labels), training.net.batch)):
            update((images[rows] - mean) / std, labels[rows])

    return once


def torch_compiled(case: Case):
    """Returns the same with the network compiled."""
    return torch_tensors(case, compiled=True)


def torch_loader(case: Case):
    """Returns torch's epoch over a DataLoader, which loads in its own process."""
    training = TRAININGS[case.name]
    update = steps.torch_update(training.net)
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    images, labels, mean, std = map(torch.from_numpy, _data(training))
    loader = DataLoader(TensorDataset(images, labels), training.net.batch, shuffle=True, drop_last=True)

    def once():
        for pictures, classes in loader:
            update((pictures - mean) / std, classes)

    return once


def main(words: list[str]) -> int:
    """Runs all rows, or those whose names hold a word; returns the exit status."""
    steps.need_extension()
    compare("loop", chosen(CASES, words), SIDES, best=BEST, against="Flax", group=lambda case: case.name, note=NOTE, save=not words)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
