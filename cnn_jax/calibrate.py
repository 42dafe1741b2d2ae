"""Running statistics of batch normalisation estimated anew, exactly, by one pass over data ("precise BN").

The moving averages of training lag behind the parameters, weigh the last batches most, and are those of other parameters where these
were averaged (EMA), loaded or trained with frozen statistics. Here every value of the pass counts once.

    step = make_calibration_step(built.model, standardise=built.standardise)
    compiled = parallel.compile(step, variables, parallel.shard(batch), donate=False)  # or the step as it is
    variables = recalibrate_batch_norm(compiled, variables, map(parallel.shard, batches))
"""

import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from cnn_jax.features import check_model, check_variables
from cnn_jax.layers import BatchNorm
from cnn_jax.ops.arguments import check_function
from cnn_jax.step import to_unit
from cnn_jax.types import Batch, PyTree


class Moments(NamedTuple):
    """The number of values of each channel, their mean [c] and their biased variance [c]."""

    num: np.ndarray | jax.Array
    mean: np.ndarray | jax.Array
    var: np.ndarray | jax.Array


def make_calibration_step(
    model: nn.Module, *, standardise: Callable[[jax.Array], jax.Array] = lambda images: images
) -> Callable[[PyTree, Batch], PyTree]:
    """Returns (variables, batch) -> the moments of what each BatchNorm layer was given, over the examples that count.

    Each layer normalises by the moments of this batch, as in training, so that a layer sees what the layers before it make of
    *batch* statistics; the pass is not repeated layer by layer. All else is as in evaluation: dropout and its like are off, which
    asks for no key and is what the statistics are for. Frozen layers, and those that evaluation does not run, give nothing.

    Under pmap the model's own `axis_name` makes the moments those of the global batch, the same on every device.

    Args:
      model: called as model(inputs, train).
      standardise: of images in [0, 1], as for `step.make_eval_step`.

    Raises:
      ValueError: the model is no Linen module, or `standardise` no function.

    >>> import jax.numpy as jnp
    >>> norm = BatchNorm()
    >>> variables = norm.init(jax.random.key(0), jnp.zeros((1, 1)), train=False)
    >>> num, mean, var = make_calibration_step(norm)(variables, {"inputs": jnp.array([[1.0], [3.0]])})["moments"][0]
    >>> num.item(), mean.item(), var.item()
    (2.0, 2.0, 1.0)
    """

    check_model(model)
    check_function("standardise", standardise, "a function of images")

    def calibration_step(variables: PyTree, batch: Batch) -> PyTree:
        def train_batch_norm_only(call, args, options, context):
            if not isinstance(context.module, BatchNorm) or context.method_name != "__call__":
                return call(*args, **options)
            inputs = args[0] if args else options["x"]
            return call(inputs, train=True, where=batch.get("valid"))

        with nn.intercept_methods(train_batch_norm_only):
            inputs = standardise(to_unit(batch["inputs"]))
            _, updates = model.apply(variables, inputs, train=False, mutable=["batch_stats", "batch_moments"])
        return updates.get("batch_moments", {})

    return calibration_step


def recalibrate_batch_norm(step: Callable[[PyTree, Batch], PyTree], variables: PyTree, batches: Iterable[Batch]) -> PyTree:
    """Returns the variables with each BatchNorm layer's running mean and variance those of all values of the pass together.

    The moments of batches are merged in float64, in the order given (Chan et al. 1979), batches counting by their examples: a short
    or padded one is exact. The variance is the unbiased one, as training keeps it. All else in `variables` is handed on untouched.

    Args:
      step: from `make_calibration_step`, compiled or not.
      variables: `params` and `batch_stats`, as for evaluation; without `batch_stats` there is nothing to do.
      batches: one epoch of the training data in the batch size of training, say, not augmented or as in training: the statistics
        are of what is given. A few thousand values a channel are enough.

    Raises:
      ValueError: no example counts.

    Reference: Wu & Johnson, "Rethinking 'batch' in BatchNorm", 2021, section 3.

    >>> import jax.numpy as jnp
    >>> norm = BatchNorm()
    >>> variables = norm.init(jax.random.key(0), jnp.zeros((1, 1)), train=False)
    >>> batches = [{"inputs": jnp.array([[1.0], [3.0]])}, {"inputs": jnp.array([[5.0]])}]
    >>> stats = recalibrate_batch_norm(make_calibration_step(norm), variables, batches)["batch_stats"]
    >>> stats["mean"].item(), stats["var"].item()
    (3.0, 4.0)
    """
    check_function("step", step, "a function, from make_calibration_step")
    check_variables("variables", variables)
    if not variables.get("batch_stats"):
        return variables
    pooled: dict[tuple[str, ...], Moments] = {}
    for batch in batches:
        if not isinstance(batch, Mapping) or "inputs" not in batch:
            raise ValueError(f'batches must be dicts with "inputs" (and "valid"), got {type(batch).__name__} {reprlib.repr(batch)}')
        for path, calls in traverse_util.flatten_dict(jax.device_get(step(variables, batch))).items():
            for moments in calls:  # a layer that is used twice in one network has seen two sets of values
                layer = path[:-1]
                pooled[layer] = _merged(pooled.get(layer, Moments(0, 0, 0)), Moments(*moments))
    if not any(moments.num > 0 for moments in pooled.values()):
        raise ValueError("batches hold no example that counts (`valid`), or no BatchNorm layer is running and not frozen")
    stats = traverse_util.flatten_dict(variables["batch_stats"])
    for layer, (num, mean, var) in pooled.items():
        for name, value in (("mean", mean), ("var", var * num / max(num - 1, 1))):
            old = stats[(*layer, name)]
            value = np.asarray(value, old.dtype)
            stats[(*layer, name)] = jax.device_put(value, old.sharding) if isinstance(old, jax.Array) else value
    return {**variables, "batch_stats": traverse_util.unflatten_dict(stats)}


def _merged(a: Moments, b: Moments) -> Moments:
    b = Moments(*(np.asarray(value, np.float64) for value in b))
    num = a.num + b.num
    if num == 0:
        return a
    step = b.mean - a.mean
    mean = a.mean + step * (b.num / num)
    var = (a.num * a.var + b.num * b.var + np.square(step) * (a.num * b.num / num)) / num
    return Moments(num, mean, var)
