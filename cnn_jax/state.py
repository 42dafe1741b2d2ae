"""The state of a training run: arrays only. All that is in it is saved, all that is saved is in it."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from cnn_jax.losses.binding import init_loss
from cnn_jax.losses.memory import Memory, init_memory
from cnn_jax.types import LossFn, PyTree


class TrainState(flax.struct.PyTreeNode):
    """All that one update hands to the next.

    Attributes:
      step: completed updates, int32. With `key` it is the whole clock: step keys come from `fold_in(key, step)`.
      params: learned arrays, float32; those of a loss that has weights under "loss".
      batch_stats: BatchNorm's running statistics, float32; {} for a model without.
      opt_state: the optimizer's.
      ema: {"params", "batch_stats"} averaged over updates; {} when no average is kept.
      key: the run's random key.
      skipped: updates in a row that were left out since their loss or gradient was not finite, int32.
      memory: embeddings of earlier batches; None where the loss compares with none.
    """

    step: jax.Array
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    ema: PyTree
    key: jax.Array
    skipped: jax.Array
    memory: Memory | None = None

    @property
    def eval_variables(self) -> PyTree:
        """The variables that evaluation uses: the average where one is kept."""
        return self.ema or {"params": self.params, "batch_stats": self.batch_stats}


def init_state(
    model: nn.Module,
    tx: optax.GradientTransformation,
    input_shape: tuple[int, ...],
    seed: int,
    *,
    with_ema: bool,
    loss_fn: LossFn | None = None,
    memory_size: int = 0,
) -> TrainState:
    """Returns the state before the first update; a pure function of its arguments.

    Args:
      input_shape: of one example, [*space, c].
      seed: of the first parameters and of the run's key.
      with_ema: whether an average of parameters and statistics is kept.
      loss_fn: a module, where the loss has weights of its own.
      memory_size: embeddings of earlier batches that are kept; 0 for no memory.

    >>> from cnn_jax.layers import BatchNorm
    >>> state = init_state(BatchNorm(), optax.sgd(0.1), (8, 8, 3), seed=0, with_ema=False)
    >>> state.step.item(), state.params["scale"].tolist()
    (0, [1.0, 1.0, 1.0])
    """
    init_key, run_key = jax.random.split(jax.random.key(seed))
    outputs, variables = model.init_with_output(init_key, jnp.zeros((1, *input_shape)), train=False)
    params = {**variables["params"], **init_loss(loss_fn, jax.random.fold_in(init_key, 0), outputs)}
    batch_stats = variables.get("batch_stats", {})
    ema = {"params": params, "batch_stats": batch_stats} if with_ema else {}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=tx.init(params),
        ema=jax.tree.map(jnp.copy, ema),  # a donated state must not hold one buffer twice
        key=run_key,
        skipped=jnp.zeros((), jnp.int32),
        memory=init_memory(memory_size, outputs.shape[-1], outputs.dtype) if memory_size else None,
    )
