"""Any experiment shrunk to a few seconds on generated data of the same shape: for tests and `--tiny`."""

import dataclasses

from cnn_jax.build import option
from cnn_jax.experiment import Experiment, Spec
from cnn_jax.registry import DATASETS

BATCH_SIZE, NUM_STEPS = 8, 6


def tiny(experiment: Experiment) -> Experiment:
    """Returns the experiment with six updates of eight generated images; model, loss, metrics and optimizer as they are.

    Images keep their shape. Data sets that are decoded by workers stay on that path, with one worker.
    """
    dataset = DATASETS[experiment.dataset.name](**experiment.dataset.kwargs)
    data = Spec(
        "generated",
        shape=dataset.input_shape,
        train_shape=dataset.train_shape,
        num_classes=dataset.num_classes,
        num_train=40,
        num_test=21,
        in_memory=experiment.dataset.name != "imagenet2012",
    )
    schedule = experiment.schedule
    if option(schedule, "schedule", "warmup_steps"):
        schedule = schedule.replace(warmup_steps=1)
    return dataclasses.replace(
        experiment,
        about=dataclasses.replace(experiment.about, expected=None),
        dataset=data,
        schedule=schedule,
        batch_size=BATCH_SIZE * experiment.accumulate_steps,
        eval_batch_size=BATCH_SIZE,
        num_steps=NUM_STEPS,
        log_every=2,
        eval_every=3,
        save_every=None,
        workers=1,
    )
