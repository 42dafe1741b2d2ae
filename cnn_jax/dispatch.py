"""Many updates as one piece of work for the device: a loop of the compiled program, which asks the host for nothing in between."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax

from cnn_jax.state import TrainState
from cnn_jax.step import Measures
from cnn_jax.types import Batch, PyTree


def make_steps(
    step: Callable[[TrainState, Batch], tuple[TrainState, Measures]], take: Callable[[PyTree, Batch], Batch], size: int
) -> Callable[[TrainState, PyTree, Mapping[str, PyTree], jax.Array], tuple[TrainState, Measures]]:
    """Returns (state, data, batches, num) -> (state after `num` updates, each update's measures [size, …]): one dispatch for many.

    The loop is one of the compiled program: its body is compiled once however many updates there are, and the host is not asked in between.

    Args:
      step: as from `make_train_step`.
      take: (data, batch) -> batch, such as `data.feed.taken`.
      size: the most updates, and the leading axis of `batches`. Measures of updates beyond `num` are zeros.

    >>> step = lambda state, batch: (state + batch["x"], {"seen": batch["x"]})
    >>> steps = make_steps(step, lambda data, batch: batch, size=3)
    >>> total, measures = steps(jnp.zeros(()), {}, {"x": jnp.array([1.0, 2.0, 4.0])}, 2)
    >>> total.item(), measures["seen"].tolist()
    (3.0, [1.0, 2.0, 0.0])
    """

    def one_step(state, data, batches, num):
        state, measures = step(state, take(data, jax.tree.map(lambda x: x[0], batches)))
        return state, jax.tree.map(lambda m: m[None], measures)

    def train_steps(state, data, batches, num):
        def at(i):
            return take(data, jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, keepdims=False), batches))

        def body(i, carried):
            state, kept = carried
            state, measures = step(state, at(i))
            return state, jax.tree.map(lambda rows, row: lax.dynamic_update_index_in_dim(rows, row, i, 0), kept, measures)

        return lax.fori_loop(0, num, body, (state, _rows_of_zeros(lambda: step(state, at(0))[1], size)))

    return one_step if size == 1 else train_steps


def _rows_of_zeros(function: Callable[[], PyTree], size: int) -> PyTree:
    """Zeros for `size` results of the function, which is not computed."""
    structure = None

    def leaves():
        nonlocal structure
        flat, structure = jax.tree.flatten(function())
        return flat

    shapes = jax.eval_shape(leaves)
    return jax.tree.unflatten(structure, [jnp.zeros((size, *shape.shape), shape.dtype) for shape in shapes])
