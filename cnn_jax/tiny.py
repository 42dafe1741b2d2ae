"""Any experiment shrunk to a few seconds on generated data of the same shape: for tests and `--tiny`."""

import dataclasses

from cnn_jax.check import option
from cnn_jax.experiment import Experiment, Spec
from cnn_jax.options import options
from cnn_jax.registry import DATASETS, SAMPLERS

BATCH_SIZE, NUM_STEPS, MAX_SIDE = 8, 4, 32


def tiny(experiment: Experiment) -> Experiment:
    """Returns the experiment with four updates of eight generated images; model, loss, metrics and optimizer as they are.

    Images keep their shape up to 32×32; larger ones become 32×32, and the crops that go with them. Data sets that are
    decoded one by one stay on that path, but without workers, which take seconds to start.

    >>> from cnn_jax.experiment import About
    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("resnet50"), dataset=Spec("cifar10"))
    >>> tiny(mine).num_steps, tiny(mine).model, tiny(mine).dataset.kwargs["shape"]
    (4, resnet50(), (32, 32, 3))
    """
    dataset = DATASETS[experiment.dataset.name](**experiment.dataset.kwargs)
    data = Spec(
        "generated",
        shape=_shrunk(dataset.input_shape),
        train_shape=_shrunk(dataset.train_shape),
        num_classes=min(dataset.num_classes, 5) if experiment.retrieval else dataset.num_classes,  # so that test images have mates
        num_train=40,
        num_test=21,
        in_memory=max(dataset.train_shape) <= 64,
    )
    schedule = experiment.schedule
    if option(schedule, "schedule", "warmup_steps"):
        schedule = schedule.replace(warmup_steps=1)
    return dataclasses.replace(
        experiment,
        about=dataclasses.replace(experiment.about, expected=None),
        dataset=data,
        sampler=_sampler(experiment.sampler),
        augment=tuple(
            spec.replace(size=_at_most(spec.kwargs["size"])) if "size" in spec.kwargs else spec for spec in experiment.augment
        ),
        schedule=schedule,
        batch_size=BATCH_SIZE * experiment.accumulate_steps,
        eval_batch_size=BATCH_SIZE,
        num_steps=NUM_STEPS,
        log_every=2,
        eval_every=2,
        save_every=None,
        workers=0,
    )


def _sampler(sampler: Spec) -> Spec:
    fitting = {name: n for name, n in (("num_groups", 1), ("num_images", 2)) if name in options(SAMPLERS[sampler.name])}
    return sampler.replace(**fitting)


def _at_most(size: int | tuple[int, int]) -> int | tuple[int, ...]:
    return tuple(min(n, MAX_SIDE) for n in size) if isinstance(size, tuple) else min(size, MAX_SIDE)


def _shrunk(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    height, width, channels = shape
    return min(height, MAX_SIDE), min(width, MAX_SIDE), channels
