"""States small enough to be saved often, and the checkpoints of a few."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnn_jax.checkpoint import Checkpoints
from cnn_jax.layers import BatchNorm, Dense
from cnn_jax.parallel import make_parallel
from cnn_jax.state import TrainState, init_state


class Small(nn.Module):
    """A layer with parameters and one with statistics."""

    size: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return Dense(self.size, name="head")(BatchNorm(name="bn")(x, train))


def small_state(step: int, size: int = 3) -> TrainState:
    """Returns a state whose numbers are of its step."""
    state = init_state(Small(size), optax.sgd(0.1, momentum=0.9), (4,), seed=0, with_ema=True)
    filled = jax.tree.map(lambda x: x + jnp.asarray(step, x.dtype), state.replace(key=jax.random.key_data(state.key), step=jnp.int32(0)))
    return filled.replace(key=state.key, step=jnp.int32(step))


def target(size: int = 3) -> TrainState:
    """Returns what a small state is restored as."""
    return make_parallel("jit", 1).shapes(lambda: small_state(0, size))


def save_steps(folder, steps, **options) -> None:
    """Saves small states at these steps, with an accuracy of 1 / step."""
    folder.parent.mkdir(exist_ok=True)
    with Checkpoints(folder, best_by="accuracy", **options) as checkpoints:
        for step in steps:
            checkpoints.save(small_state(step), {"accuracy": 1 / step})


def restored(folder, step: int) -> TrainState:
    """Returns a small state from its checkpoint, as NumPy arrays."""
    with Checkpoints(folder, best_by="accuracy") as checkpoints:
        return plain(checkpoints.restore(step, target()))


def plain(state: TrainState) -> TrainState:
    """Returns the state as NumPy arrays."""
    return jax.tree.map(np.asarray, state.replace(key=jax.random.key_data(state.key)))
