"""From names and numbers to plain values: model, loss, metrics, optimizer, data. After this no string steers anything."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnn_jax import optim
from cnn_jax.check import check, label, option
from cnn_jax.data.dataset import Dataset
from cnn_jax.data.samplers import Order
from cnn_jax.data.source import Source
from cnn_jax.errors import UserError, unknown
from cnn_jax.experiment import Experiment, Spec
from cnn_jax.layers import Embedder, Scorer, Siamese
from cnn_jax.losses.binding import WEIGHTS, bound, init_loss
from cnn_jax.losses.two_views import as_labelled, as_two_views
from cnn_jax.metrics.embedding_health import embedding_health
from cnn_jax.mixing import MixFn, make_mix, unmixed
from cnn_jax.options import options, reads
from cnn_jax.precision import settled
from cnn_jax.registry import BY_FIELD, LOSSES, REPORTS, RETRIEVAL
from cnn_jax.state import TrainState, init_state
from cnn_jax.step import undiagnosed
from cnn_jax.types import AugmentFn, LossFn, MetricFn, PyTree, ViewFn

# What a loss reads -> how the model ends. Scores, embeddings and distances of pairs are wrapped around any network.
_ENDINGS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "logits": lambda network: network,
    "embeddings": Embedder,
    "scores": Scorer,
    "distances": Siamese,
}


class Built(NamedTuple):
    """An experiment as values. `outputs` is "logits", "embeddings", "scores" or "distances"; `learning_rate` is a function of the step.

    `experiment.precision` is no longer "auto": it is what this process' devices compute in.
    """

    experiment: Experiment
    dataset: Dataset
    sampler: Callable[[Source, int], Order]
    model: nn.Module
    outputs: str
    loss_fn: LossFn
    metric_fns: Mapping[str, MetricFn]
    retrieval_fns: Mapping[str, Callable[[Any], float]]
    diagnose: MetricFn
    tx: optax.GradientTransformation
    learning_rate: Callable[[int], float]
    average: Callable[[PyTree, PyTree, jax.Array], PyTree]
    augment: AugmentFn
    mix: MixFn
    view: ViewFn
    standardise: Callable[[jax.Array], jax.Array]


def build(experiment: Experiment, *, axis_name: str | None = None) -> Built:
    """Returns the experiment's parts. Reads no data.

    Args:
      axis_name: the device axis of `parallel.py`, under pmap only.

    Raises:
      UserError: a name, an option or a combination that does not work; says which, and what would.

    >>> from cnn_jax.experiment import About, Spec
    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("generated"))
    >>> build(mine).outputs
    'logits'
    """
    check(experiment)
    experiment = settled(experiment, jax.default_backend())
    dataset = _call(experiment.dataset, "dataset")
    outputs, learned = reads(LOSSES[experiment.loss.name]), inspect.isclass(LOSSES[experiment.loss.name])
    size = experiment.embedding_size
    num_outputs = {"logits": dataset.num_classes, "embeddings": size, "scores": 1, "distances": size}[outputs]
    dtype = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[experiment.precision]
    network = _call(experiment.model, "model", num_outputs=num_outputs, dtype=dtype, axis_name=axis_name)
    try:
        factor = _call(experiment.schedule, "schedule")(experiment.num_steps)
        tx = optim.clipped(_optimizer(experiment, factor, learned), experiment.clip_norm)
    except ValueError as error:
        raise UserError(f"{experiment.optimizer.name} with {experiment.schedule.name}: {error}.") from None
    to_loss = {"num_classes": dataset.num_classes} if learned else {}
    if experiment.miner:
        to_loss["miner"] = _call(experiment.miner[0], "miner")
    augmentations = [_call(spec, "augment") for spec in experiment.augment]
    built = Built(
        experiment=experiment,
        dataset=dataset,
        sampler=_call(experiment.sampler, "sampler"),
        model=network if (outputs, experiment.embedding_length) == ("embeddings", "free") else _ENDINGS[outputs](network),
        outputs=outputs,
        loss_fn=_call(experiment.loss, "loss", **to_loss),
        metric_fns={label(spec, "metrics"): _call(spec, "metrics") for spec in experiment.metrics},
        retrieval_fns={label(spec, "retrieval"): _call(spec, "retrieval") for spec in experiment.retrieval},
        diagnose=_diagnosis(experiment.loss) if outputs == "embeddings" else undiagnosed,
        tx=tx,
        learning_rate=lambda step: option(experiment.optimizer, "optimizer", "learning_rate") * float(factor(step)),
        average=optim.no_average if experiment.ema_decay is None else optim.moving_average(experiment.ema_decay),
        augment=partial(_in_turn, augmentations),
        mix=make_mix([_call(spec, "mix") for spec in experiment.mix]) if experiment.mix else unmixed,
        view=partial(as_two_views, num_micro=experiment.accumulate_steps) if experiment.two_views else as_labelled,
        standardise=partial(_standardise, mean=dataset.mean, std=dataset.std),
    )
    _check_fit(built)
    return built


def first_state(built: Built) -> TrainState:
    """Returns the experiment's state before the first update.

    >>> from cnn_jax.experiment import About, Spec
    >>> mine = Experiment(name="mine", about=About(shows="", num_params=0), model=Spec("lenet5"), dataset=Spec("generated"))
    >>> jax.eval_shape(partial(first_state, build(mine))).params["c1"]["kernel"].shape
    (5, 5, 1, 6)
    """
    experiment = built.experiment
    return init_state(
        built.model,
        built.tx,
        built.dataset.input_shape,
        experiment.seed,
        with_ema=experiment.ema_decay is not None,
        loss_fn=built.loss_fn,
        memory_size=experiment.memory_size,
    )


def _diagnosis(loss: Spec) -> MetricFn:
    """The health of embeddings; triplets are active by the margin and the distance of a triplet loss, else where in the wrong order."""
    if not loss.name.startswith("triplet"):
        return embedding_health
    return partial(embedding_health, **{name: option(loss, "loss", name) for name in ("margin", "distance")})


def _check_fit(built: Built) -> None:
    """Refuses parts that do not go together, before any data is read."""
    experiment, dataset = built.experiment, built.dataset
    for spec in experiment.metrics:
        wanted = reads(BY_FIELD["metrics"][spec.name])
        if wanted != built.outputs:
            raise UserError(
                f"The metric {spec.name} reads {wanted}, but the loss {experiment.loss.name} makes the model end in {built.outputs}. "
                f"Add --set metrics={'' if built.outputs != 'logits' else 'accuracy'}"
                f"{' --set retrieval=recall_at_k --set best_by=recall_at_1' if built.outputs == 'embeddings' else ''}"
                f"{' --set best_by=loss' if built.outputs == 'scores' else ''}."
            )
    for spec in experiment.retrieval:
        wanted = reads(REPORTS[reads(RETRIEVAL[spec.name])])
        if wanted != built.outputs:
            raise UserError(
                f"retrieval={spec.name} reads {wanted}, but the loss {experiment.loss.name} makes the model end in {built.outputs}. "
                f"Add --set retrieval={'roc_auc' if built.outputs == 'distances' else ''} or choose a loss on {wanted}."
            )
    if experiment.mix and built.outputs != "logits":
        raise UserError(
            f"mix={experiment.mix[0].name} mixes class labels, but the loss {experiment.loss.name} reads {built.outputs}. "
            f"Add --set mix= or choose a loss on logits."
        )
    if option(experiment.model, "model", "auxiliary") and built.outputs != "logits":
        raise UserError(f"model.auxiliary=true adds heads of class logits, but the loss {experiment.loss.name} reads {built.outputs}.")
    measured = ["loss", *(name for name in (*built.metric_fns, *built.retrieval_fns) if name != "confusion")]
    if experiment.best_by not in measured:
        raise unknown("best_by", experiment.best_by, measured, "It names the test metric that picks the best checkpoint.")
    for name, k in ((s.name, option(s, f, "k")) for f in ("metrics", "retrieval") for s in getattr(experiment, f)):
        limit = dataset.num_test - 1 if name in RETRIEVAL else dataset.num_classes
        if k is not None and not 1 <= k <= limit:
            raise UserError(f"{name} with k={k}: k must be from 1 to {limit} on {dataset.name}.")
    _check_model(built)
    images = jax.ShapeDtypeStruct((experiment.batch_size, *dataset.train_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((experiment.batch_size,), jnp.int32)
    try:
        changed = jax.eval_shape(lambda key, x, y: built.mix(key, built.augment(key, x), y)[0], jax.random.key(0), images, labels)
    except (TypeError, ValueError) as error:
        raise UserError(f"The augmentation does not fit images of shape {dataset.train_shape}: {error}") from None
    if (augmented := changed.shape[1:]) != dataset.input_shape:
        raise UserError(
            f"Training images come out of the augmentation as {augmented}, but evaluation images of {dataset.name} are "
            f"{dataset.input_shape}. Make them agree, with random_resized_crop's size or dataset.image_size."
        )


def _check_model(built: Built) -> None:
    """Traces model, loss and metrics on shapes: what their options do not allow is said here, before any data is read."""
    experiment, size = built.experiment, built.experiment.batch_size
    images = jax.ShapeDtypeStruct((size, *built.dataset.input_shape), jnp.float32)
    targets, valid = jax.ShapeDtypeStruct((size,), jnp.int32), jax.ShapeDtypeStruct((size,), jnp.bool_)

    def trace(images, targets, valid):
        outputs, _ = built.model.init_with_output(jax.random.key(0), images, train=False)
        loss = bound(built.loss_fn, init_loss(built.loss_fn, jax.random.key(0), outputs))
        return jax.tree.leaves([f(outputs, targets, where=valid) for f in (loss, *built.metric_fns.values())])

    try:
        jax.eval_shape(trace, images, targets, valid)
    except (TypeError, ValueError, ArithmeticError, IndexError) as error:
        raise UserError(
            f"The model {experiment.model} with the loss {experiment.loss} cannot be built for images of {built.dataset.input_shape}: "
            f"{str(error).strip().splitlines()[0]}. Check the options with --mode=describe."
        ) from None


def _call(spec: Spec, field: str, **provided: Any) -> Any:
    """What the spec stands for: a module or a data set made, or a function with its options filled in."""
    function = BY_FIELD[field][spec.name]
    missing = [n for n, o in options(function).items() if o.required and n not in spec.kwargs]
    if missing:
        raise UserError(f"{field} {spec.name} needs {', '.join(missing)}. Add --set {field}.{missing[0]}=VALUE.")
    if field in ("model", "dataset") or inspect.isclass(function):
        try:
            return function(**spec.kwargs, **provided)
        except (TypeError, ValueError, IndexError) as error:
            raise UserError(f"{field} {spec.name} refuses these options: {error}") from None
    return partial(function, **spec.kwargs, **provided)


def _optimizer(experiment: Experiment, factor: optim.Factor, learned: bool) -> optax.GradientTransformation:
    """One for all; or, where the loss has weights, two, so that these may be given a learning rate of their own in a run."""
    optimizer = _call(experiment.optimizer, "optimizer")
    if not learned:
        return optimizer(factor)
    rate = {} if experiment.loss_learning_rate is None else {"learning_rate": experiment.loss_learning_rate}
    return optim.apart(optimizer(factor), optimizer(factor, **rate), WEIGHTS)


def _in_turn(augmentations: list[AugmentFn], key: jax.Array, images: jax.Array, *, axis_name: str | None = None) -> jax.Array:
    keys = jax.random.split(key, max(len(augmentations), 1))
    return reduce(lambda x, step: step[0](step[1], x, axis_name=axis_name), zip(augmentations, keys, strict=False), images)


def _standardise(images: jax.Array, *, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    shape = (1, 1, 1, -1)
    return (images - np.reshape(np.float32(mean), shape)) / np.reshape(np.float32(std), shape)
