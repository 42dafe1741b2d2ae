"""A loss together with what it keeps between updates: learned weights, and a memory of earlier batches.

A loss with weights is a Linen module; its weights lie under "loss" beside the network's. A step binds it to them, and has a plain loss.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.losses.memory import Memory

WEIGHTS = "loss"
"""The key of the loss' weights among the parameters."""


def init_loss(loss_fn: Callable[..., Any] | None, key: jax.Array, outputs: jax.Array) -> dict[str, Any]:
    """Returns {"loss": weights} of a loss that has some, {} of a function or of none.

    Args:
      outputs: of the network [b, e], for any examples.

    >>> from cnn_jax.losses.angular_margin import CosFace
    >>> jax.tree.map(jnp.shape, init_loss(CosFace(3), jax.random.key(0), jnp.ones((1, 2))))
    {'loss': {'vectors': (3, 2)}}
    """
    if not isinstance(loss_fn, nn.Module):
        return {}
    return {WEIGHTS: loss_fn.init(key, outputs, jnp.zeros(len(outputs), jnp.int32))["params"]}


def bound(loss_fn: Callable[..., Any], params: Mapping[str, Any], memory: Memory | None = None) -> Callable[..., Any]:
    """Returns the loss as a function (outputs, targets, where=), with its weights and with the memory for references.

    Args:
      params: of the network and, under "loss", of a loss with weights.

    >>> from cnn_jax.losses.angular_margin import NormalisedSoftmax
    >>> loss = bound(NormalisedSoftmax(2, temperature=1.0), {"loss": {"vectors": jnp.ones((2, 3))}})
    >>> loss(jnp.ones((1, 3)), jnp.array([1])).item() == jnp.log(2.0).item()
    True
    """
    if isinstance(loss_fn, nn.Module):
        loss_fn = partial(loss_fn.apply, {"params": params[WEIGHTS]})
    return partial(loss_fn, references=memory.references) if memory is not None else loss_fn
