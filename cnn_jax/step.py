"""One update and one evaluation as pure functions of (state, batch). Nothing here knows a device or a setting."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from cnn_jax.accumulate import accumulated
from cnn_jax.losses.binding import bound
from cnn_jax.losses.memory import enqueue
from cnn_jax.losses.reduction import masked_mean
from cnn_jax.losses.two_views import as_labelled
from cnn_jax.metrics.mean import Mean
from cnn_jax.mixing import MixFn
from cnn_jax.state import TrainState
from cnn_jax.types import AugmentFn, Batch, LossFn, MetricFn, PyTree, ViewFn

Measures = Mapping[str, PyTree]  # what a step measures, by name

# Updates: a diagnosis may decompose matrices, which on a GPU can take as long as a small network's step.
DIAGNOSED_EVERY = 10

LOSS = 1  # code of an update that is left out since its loss is not finite; updates that are made have 0
GRADIENT = 2  # since its gradient is not finite
STATISTICS = 3  # since BatchNorm's statistics are not finite
TOO_MANY = 4  # since too many before it were left out
# What the codes in measures["skipped"] mean, for people to read.
LEFT_OUT = {
    LOSS: "the loss is not finite",
    GRADIENT: "the gradient is not finite",
    STATISTICS: "BatchNorm's statistics are not finite",
    TOO_MANY: "too many before it were left out",
}


def undiagnosed(outputs: PyTree, targets: PyTree, *, where: jax.Array | None = None) -> Measures:
    """Returns no measures: of outputs that need no diagnosis.

    >>> undiagnosed(jnp.ones(2), jnp.ones(2))
    {}
    """
    return {}


def make_train_step(
    model: nn.Module,
    loss_fn: LossFn,
    metric_fns: Mapping[str, MetricFn],
    tx: optax.GradientTransformation,
    *,
    augment: AugmentFn,
    mix: MixFn,
    view: ViewFn = as_labelled,
    standardise: Callable[[jax.Array], jax.Array],
    average: Callable[[PyTree, PyTree, jax.Array], PyTree],
    diagnose: MetricFn = undiagnosed,
    accumulate_steps: int = 1,
    max_skipped: int = 10,
    axis_name: str | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Measures]]:
    """Returns (state, batch) -> (state after one update, sums and counts over the batch).

    The mathematics is that of the *global* batch. Under pmap (`axis_name` given) outputs, targets and `valid` are
    gathered before the loss, so every device holds the whole loss; the transpose of that gather sums over devices, and
    the mean of the gradients is therefore exactly the gradient of the global loss.

    An update whose loss, gradient or statistics are not finite is left out: the state is the one before, bit for bit, but for the step,
    which counts on, and `skipped`. All devices decide the same, by what is global. It adds nothing to the measures but a code, "skipped".

    Args:
      model: called as model(inputs, train).
      loss_fn: a function; or a module with weights, which the state holds. It is given the state's memory, if there is one, for
        `references`; afterwards the batch is put into the memory.
      tx: updates the parameters by the gradient of the mean loss.
      augment: (key, images, axis_name=) -> images in [0, 1].
      mix: (key, images, targets, axis_name=) -> (images, targets), such as `mixing.unmixed`.
      view: (batch, step, axis_name=) -> the batch that is augmented, such as `losses.two_views.as_two_views`.
      standardise: of images in [0, 1].
      average: (average, new, update) -> average, such as `optim.moving_average`; used where the state keeps one.
      diagnose: (outputs, targets, where=) -> further measures, made at the first and then at every tenth update only.
      accumulate_steps: micro-batches of an update, which share the batch equally.
      max_skipped: updates in a row that may be left out; after so many none is made, so that the state stays what it was before them.
      axis_name: the device axis, under pmap only.

    >>> from cnn_jax.layers import BatchNorm
    >>> from cnn_jax.mixing import unmixed
    >>> from cnn_jax.state import init_state
    >>> same = lambda *arguments, **options: arguments[-1]
    >>> loss = lambda outputs, targets, *, where: outputs.sum(1)  # whose gradient is 1 for the bias
    >>> step = make_train_step(BatchNorm(), loss, {}, optax.sgd(0.5), augment=same, mix=unmixed, standardise=same, average=same)
    >>> batch = {"inputs": jnp.array([[1.0], [3.0]]), "targets": jnp.zeros(2), "valid": jnp.ones(2, bool)}
    >>> state, measures = step(init_state(BatchNorm(), optax.sgd(0.5), (1,), seed=0, with_ema=False), batch)
    >>> state.step.item(), state.params["bias"].tolist()
    (1, [-0.5])
    """

    prepare = make_prepare(augment=augment, mix=mix, view=view, standardise=standardise, axis_name=axis_name)
    gradients = make_gradients(model, loss_fn, metric_fns, diagnose=diagnose, accumulate_steps=accumulate_steps, axis_name=axis_name)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Measures]:
        batch = dict(batch)
        # Of several processes each says with its examples whether it was asked to end: so all know it of the same step.
        asked = {"asked": gather(batch.pop("asked"), axis_name).max()} if "asked" in batch else {}
        grads, ((batch_stats, memory), measures) = gradients(state, *prepare(state, batch))
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = average(state.ema, {"params": params, "batch_stats": batch_stats}, state.step) if state.ema else {}
        norm = Mean(optax.tree.norm(grads), jnp.ones((), jnp.int32))
        skipped = _skipped(measures["loss"].total, norm.total, batch_stats, state.skipped >= max_skipped)
        new = {"params": params, "batch_stats": batch_stats, "opt_state": opt_state, "ema": ema, "memory": memory}
        kept = jax.tree.map(partial(jnp.where, skipped == 0), new, {name: getattr(state, name) for name in new})
        state = state.replace(step=state.step + 1, skipped=jnp.where(skipped == 0, 0, state.skipped + 1), **kept)
        measures = jax.tree.map(lambda m: jnp.where(skipped == 0, m, jnp.zeros_like(m)), {**measures, "gradient_norm": norm})
        return state, {**measures, "skipped": skipped, **asked}

    return train_step


def make_prepare(
    *,
    augment: AugmentFn,
    mix: MixFn,
    view: ViewFn = as_labelled,
    standardise: Callable[[jax.Array], jax.Array],
    axis_name: str | None = None,
) -> Callable[[TrainState, Batch], tuple[Batch, jax.Array]]:
    """Returns (state, batch) -> (what the model is given in the update that follows, the key of its random layers).

    Args: as `make_train_step` has them.

    >>> from cnn_jax.layers import BatchNorm
    >>> from cnn_jax.mixing import unmixed
    >>> from cnn_jax.state import init_state
    >>> same = lambda *arguments, **options: arguments[-1]
    >>> prepare = make_prepare(augment=same, mix=unmixed, standardise=lambda images: images - 1)
    >>> state = init_state(BatchNorm(), optax.sgd(0.5), (1,), seed=0, with_ema=False)
    >>> prepare(state, {"inputs": jnp.array([[255]], jnp.uint8), "targets": jnp.zeros(1)})[0]["inputs"].tolist()
    [[0.0]]
    """

    def prepare(state: TrainState, batch: Batch) -> tuple[Batch, jax.Array]:
        batch = view(batch, state.step, axis_name=axis_name)
        augment_key, model_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        images = augment(augment_key, to_unit(batch["inputs"]), axis_name=axis_name)
        images, targets = mix(jax.random.fold_in(augment_key, 0), images, batch["targets"], axis_name=axis_name)
        return {**batch, "inputs": standardise(images), "targets": targets}, model_key

    return prepare


def make_gradients(
    model: nn.Module,
    loss_fn: LossFn,
    metric_fns: Mapping[str, MetricFn],
    *,
    diagnose: MetricFn = undiagnosed,
    accumulate_steps: int = 1,
    axis_name: str | None = None,
) -> Callable[[TrainState, Batch, jax.Array], tuple[PyTree, tuple[tuple[PyTree, PyTree], Measures]]]:
    """Returns (state, batch, key) -> (gradients of the mean loss, ((batch_stats, memory), measures)), the last three after the batch.

    Args: as `make_train_step` has them; batch and key are those of `make_prepare`.

    >>> from cnn_jax.layers import BatchNorm
    >>> from cnn_jax.state import init_state
    >>> gradients = make_gradients(BatchNorm(), lambda outputs, targets, *, where: outputs.sum(1), {})
    >>> batch = {"inputs": jnp.array([[1.0], [3.0]]), "targets": jnp.zeros(2), "valid": jnp.ones(2, bool)}
    >>> gradients(init_state(BatchNorm(), optax.sgd(0.5), (1,), seed=0, with_ema=False), batch, jax.random.key(0))[0]["bias"].tolist()
    [1.0]
    """

    def loss_and_measures(step, params, carried, batch, key):
        batch_stats, memory = carried
        variables = {"params": params, "batch_stats": batch_stats}
        outputs, updates = model.apply(
            variables, batch["inputs"], train=True, mutable=["batch_stats", "auxiliary"], rngs={"dropout": key}
        )
        outputs, targets, valid = gather((outputs, batch["targets"], batch["valid"]), axis_name)
        loss = bound(loss_fn, params, memory)
        losses = loss(outputs, targets, where=valid)
        measures = {"loss": Mean.of(losses, valid)} | _measure(metric_fns, outputs, targets, valid)
        measures |= _now_and_then(diagnose, step, outputs, targets, valid)
        # Auxiliary heads (Inception) add to what is minimised, not to the loss that is logged: evaluation has none.
        for auxiliary, weight in _sown(updates.get("auxiliary", {})):
            losses += weight * loss(gather(auxiliary, axis_name), targets, where=valid)
        memory = None if memory is None else enqueue(memory, outputs, targets, valid)
        return masked_mean(losses, valid), ((updates.get("batch_stats", {}), memory), measures)

    def gradients(state: TrainState, batch: Batch, key: jax.Array):
        of_batch = accumulated(jax.grad(partial(loss_and_measures, state.step), has_aux=True), accumulate_steps)
        grads, rest = of_batch(state.params, (state.batch_stats, state.memory), batch, key)
        return grads if axis_name is None else lax.pmean(grads, axis_name), rest

    return gradients


def make_eval_step(
    model: nn.Module,
    loss_fn: LossFn,
    metric_fns: Mapping[str, MetricFn],
    *,
    standardise: Callable[[jax.Array], jax.Array],
    axis_name: str | None = None,
) -> Callable[[PyTree, Batch], tuple[Measures, tuple[PyTree, jax.Array, jax.Array]]]:
    """Returns (variables, batch) -> (sums and counts over the examples that count, (outputs, targets, valid) of the global batch).

    Args:
      model: called as model(inputs, train).
      loss_fn: a function; or a module, whose weights are then among the variables. It compares a batch with no memory.
      standardise: of images in [0, 1].
      axis_name: the device axis, under pmap only.

    >>> from cnn_jax.layers import Dropout
    >>> loss = lambda outputs, targets, *, where: (outputs.sum(1) - targets) ** 2
    >>> batch = {"inputs": jnp.array([[1.0], [5.0]]), "targets": jnp.array([3, 3]), "valid": jnp.array([True, False])}
    >>> measures, (outputs, _, _) = make_eval_step(Dropout(), loss, {}, standardise=lambda images: images)({}, batch)
    >>> measures["loss"].result(), outputs.tolist()
    (4.0, [[1.0], [5.0]])
    """

    def eval_step(variables: PyTree, batch: Batch) -> tuple[Measures, tuple[PyTree, jax.Array, jax.Array]]:
        outputs = model.apply(variables, standardise(to_unit(batch["inputs"])), train=False)
        outputs, targets, valid = gather((outputs, batch["targets"], batch["valid"]), axis_name)
        losses = bound(loss_fn, variables.get("params", {}))(outputs, targets, where=valid)
        return {"loss": Mean.of(losses, valid)} | _measure(metric_fns, outputs, targets, valid), (outputs, targets, valid)

    return eval_step


def to_unit(images: jax.Array) -> jax.Array:
    """Returns uint8 images as float32 in [0, 1]; other types unchanged.

    >>> to_unit(jnp.array([0, 255], jnp.uint8)).tolist()
    [0.0, 1.0]
    """
    return images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images


def gather(tree: PyTree, axis_name: str | None) -> PyTree:
    """Returns the arrays of all devices, joined along their first axis; the tree itself without an axis.

    >>> gather({"x": 1}, None)
    {'x': 1}
    """
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: lax.all_gather(x, axis_name, tiled=True), tree)


def _skipped(loss: jax.Array, norm: jax.Array, batch_stats: PyTree, too_many: jax.Array) -> jax.Array:
    """The code of an update: why it is left out, 0 if it is made."""
    # All are asked: on a CPU a sum behind a ReLU can hide a NaN (YNNPACK's maximum of NaN and 0 is 0), the loss is then finite.
    sound = jnp.all(jnp.array([jnp.isfinite(x).all() for x in jax.tree.leaves(batch_stats)], bool))
    code = jnp.where(sound, 0, STATISTICS)
    for value, its_code in ((norm, GRADIENT), (loss, LOSS)):
        code = jnp.where(jnp.isfinite(value), code, its_code)
    return jnp.where(too_many, TOO_MANY, code).astype(jnp.int32)


def _sown(collection: PyTree) -> Iterator[tuple[jax.Array, jax.Array]]:
    """The (logits, weight) pairs that modules have sown, each name holding a tuple of them."""
    if isinstance(collection, Mapping):
        for value in collection.values():
            yield from _sown(value)
    else:
        yield from collection


def _measure(metric_fns, outputs, targets, valid) -> Measures:
    return {name: metric_fn(outputs, targets, where=valid) for name, metric_fn in metric_fns.items()}


def _now_and_then(diagnose: MetricFn, step: jax.Array, outputs, targets, valid) -> Measures:
    """The diagnosis, or zeros of its shapes, which add nothing to sums and counts."""

    def made(outputs, targets, valid):
        return diagnose(outputs, targets, where=valid)

    def none(*arguments):
        return jax.tree.map(jnp.zeros_like, made(*arguments))  # of which XLA computes the zeros alone

    return lax.cond(step % DIAGNOSED_EVERY == 0, made, none, lax.stop_gradient(outputs), targets, valid)
