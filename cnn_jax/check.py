"""What can be told from names, options and numbers alone: refused, or written out in full, before anything is built."""

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any

from cnn_jax.errors import UserError, unknown
from cnn_jax.experiment import Experiment, Spec
from cnn_jax.options import fits, options, reads, takes, wrong_type
from cnn_jax.registry import BY_FIELD, LOSSES

_AT_LEAST_ONE = (
    *("batch_size", "eval_batch_size", "num_steps", "log_every", "eval_every"),
    *("accumulate_steps", "steps_per_dispatch", "embedding_size", "keep_best", "max_skipped"),
)
_MAX_BLOCKS = 2_000  # of a network: more would only be built for hours
_OR_NONE = ("save_every", "keep_every")


def resolve(experiment: Experiment) -> Experiment:
    """Returns the experiment with every option written out, defaults included.

    So it is saved: another default in a later version must not change what a workdir holds.

    Raises:
      UserError: as `check`.

    >>> from cnn_jax.experiment import About
    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("generated"))
    >>> mine.optimizer, resolve(mine).optimizer
    (sgd(learning_rate=0.1), sgd(learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.0))
    """

    def full(spec: Spec, field: str) -> Spec:
        defaults = {n: o.default for n, o in options(BY_FIELD[field][spec.name]).items() if not o.required}
        return Spec(spec.name, **{**defaults, **spec.kwargs})

    check(experiment)
    values = {f: getattr(experiment, f) for f in BY_FIELD}
    resolved = {f: full(v, f) if isinstance(v, Spec) else tuple(full(s, f) for s in v) for f, v in values.items()}
    return dataclasses.replace(experiment, **resolved)


def label(spec: Spec, field: str) -> str:
    """Returns a metric's name in logs and tables: top_k with k=5 is "top_5".

    Args:
      field: of the experiment, "metrics" or "retrieval".

    >>> label(Spec("top_k", k=5), "metrics"), label(Spec("accuracy"), "metrics")
    ('top_5', 'accuracy')
    """
    k = option(spec, field, "k")
    return spec.name if k is None else spec.name.removesuffix("_k") + f"_{k}"


def option(spec: Spec, field: str, name: str) -> Any:
    """Returns the value of a spec's option, its default where it is not set, None where there is no such option.

    Args:
      field: of the experiment, such as "optimizer": a key of `registry.BY_FIELD`.

    >>> option(Spec("sgd"), "optimizer", "momentum"), option(Spec("sgd", momentum=0.5), "optimizer", "momentum")
    (0.9, 0.5)
    """
    known = options(BY_FIELD[field][spec.name])
    return spec.kwargs.get(name, known[name].default if name in known else None)


def check(experiment: Experiment) -> None:
    """Raises UserError unless every name is registered, every option known and of its type, every number in range.

    >>> from cnn_jax.experiment import About
    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("generated"), seed=-1)
    >>> check(mine)
    Traceback (most recent call last):
    cnn_jax.errors.UserError: seed=-1 must be from 0 to 4294967295 (2³² − 1).
    """
    hints = typing.get_type_hints(Experiment)
    for field in dataclasses.fields(experiment):
        value = getattr(experiment, field.name)
        if field.name in BY_FIELD:
            for spec in (value,) if isinstance(value, Spec) else value:
                _check_spec(spec, field.name)
        elif field.name not in ("name", "about") and not fits(value, hints[field.name]):
            raise wrong_type(field.name, value, hints[field.name])
    for name in (*_AT_LEAST_ONE, *(name for name in _OR_NONE if getattr(experiment, name) is not None)):
        if getattr(experiment, name) < 1:
            raise UserError(f"{name}={getattr(experiment, name)} must be at least 1.")
    if experiment.batch_size % experiment.accumulate_steps:
        raise UserError(
            f"batch_size={experiment.batch_size} cannot be split into accumulate_steps={experiment.accumulate_steps} equal "
            f"micro-batches. Choose a divisor of the batch size."
        )
    if experiment.memory_size < 0:
        raise UserError(f"memory_size={experiment.memory_size} must not be negative; 0 keeps no memory.")
    if experiment.loss_learning_rate is not None and not experiment.loss_learning_rate >= 0:
        raise UserError(f"loss_learning_rate={experiment.loss_learning_rate} must not be negative; none takes the optimizer's.")
    if len(experiment.miner) > 1:
        names = ",".join(spec.name for spec in experiment.miner)
        raise UserError(f"miner={names} names {len(experiment.miner)}: choose one, or none with --set miner=.")
    _check_loss(experiment)
    if experiment.two_views:
        _check_views(experiment)
    if not 0 <= experiment.seed < 2**32:
        raise UserError(f"seed={experiment.seed} must be from 0 to 4294967295 (2³² − 1).")
    if experiment.workers < 0:
        raise UserError(f"workers={experiment.workers} must not be negative; 0 decodes in the main process.")
    if not 0 <= experiment.max_bad_fraction <= 1:
        raise UserError(f"max_bad_fraction={experiment.max_bad_fraction} must lie from 0 to 1; 0 refuses any example that cannot be used.")
    if experiment.ema_decay is not None and not 0 < experiment.ema_decay < 1:
        raise UserError(f"ema_decay={experiment.ema_decay} must lie between 0 and 1; none turns it off.")
    if experiment.clip_norm is not None and not experiment.clip_norm > 0:
        raise UserError(f"clip_norm={experiment.clip_norm} must be positive; none turns it off.")


def _check_loss(experiment: Experiment) -> None:
    """What only some losses can be given."""
    wants = (
        ("memory_size", experiment.memory_size, "references", "compares no example with others", "memory_size=0"),
        ("miner", ",".join(spec.name for spec in experiment.miner), "miner", "reads no pairs that a miner could choose", "miner="),
    )
    for field, value, argument, why, way_out in wants:
        if value and not takes(LOSSES[experiment.loss.name], argument):
            able = ", ".join(name for name, loss in LOSSES.items() if takes(loss, argument))
            raise UserError(f"{field}={value}, but the loss {experiment.loss.name} {why}. Add --set {way_out} or choose one of {able}.")
    if experiment.loss_learning_rate is not None and not inspect.isclass(LOSSES[experiment.loss.name]):
        able = ", ".join(name for name, loss in LOSSES.items() if inspect.isclass(loss))
        raise UserError(
            f"loss_learning_rate={experiment.loss_learning_rate}, but the loss {experiment.loss.name} has no weights. "
            f"Add --set loss_learning_rate=none or choose one of {able}."
        )


def _check_views(experiment: Experiment) -> None:
    """What learning without labels cannot go with."""
    if not _compares(LOSSES[experiment.loss.name]):
        able = ", ".join(name for name, loss in LOSSES.items() if _compares(loss))
        why = "has weights for each class" if reads(LOSSES[experiment.loss.name]) == "embeddings" else "compares no embeddings"
        raise UserError(
            f"two_views=true makes each image a class of its own, but the loss {experiment.loss.name} {why}. "
            f"Add --set two_views=false or choose one of {able}."
        )
    if experiment.sampler.name != "shuffled":
        raise UserError(
            f"two_views=true reads no labels, but sampler={experiment.sampler.name} makes batches by them. Add --set sampler=shuffled."
        )
    if not experiment.augment:
        raise UserError(
            "two_views=true without augmentation: both views of an image would be the same. "
            "Add for example --set augment=random_shift,random_affine."
        )


def _compares(loss: Callable) -> bool:
    """Whether a loss compares a batch with itself, so that labels of the pictures need not be classes."""
    return reads(loss) == "embeddings" and not inspect.isclass(loss)


def _check_spec(spec: Spec, field: str) -> None:
    registry = BY_FIELD[field]
    if spec.name not in registry:
        raise unknown(field, spec.name, registry)
    allowed = options(registry[spec.name])
    for key, value in spec.kwargs.items():
        if key not in allowed:
            raise unknown(f"option of {field} {spec.name}", key, allowed)
        if not fits(value, allowed[key].type):
            raise wrong_type(f"{field}.{key}", value, allowed[key].type)
        if key in ("stage_sizes", "block_sizes") and sum(value) > _MAX_BLOCKS:
            raise UserError(f"{field}.{key}={','.join(map(str, value))} are {sum(value):,} blocks; {_MAX_BLOCKS:,} are the most.")
