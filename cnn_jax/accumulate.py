"""Gradients of a batch in several micro-batches, for batches that do not fit into memory at once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def accumulated(gradients: Callable, num: int) -> Callable:
    """Returns the gradients of a batch as the mean over `num` micro-batches, one after the other; memory of one.

    Micro-batch j holds the examples j, j + num, …: so each keeps its share of every device, and moves nothing between them.

    Args:
      gradients: (params, carried, batch, key) -> (gradients of the mean loss, (carried, measures)), of which "loss" counts examples.

    >>> from cnn_jax.metrics.mean import Mean
    >>> loss = lambda params, carried, batch, key: ((params * batch["x"]).mean(), (carried + 1, {"loss": Mean.of(batch["x"])}))
    >>> gradients, (carried, _) = accumulated(jax.grad(loss, has_aux=True), 2)(2.0, 0, {"x": jnp.arange(4.0)}, jax.random.key(0))
    >>> gradients.item(), carried.item()
    (1.5, 2)
    """
    if num == 1:
        return gradients

    def split(x):
        return jnp.moveaxis(x.reshape(-1, num, *x.shape[1:]), 1, 0)

    def summed(params, carried, batch, key):
        def one(carry, micro):
            carried, total, count = carry
            micro_batch, micro_key = micro
            grads, (carried, measures) = gradients(params, carried, micro_batch, micro_key)
            weight = measures["loss"].count
            return (carried, jax.tree.map(lambda t, g: t + weight * g, total, grads), count + weight), measures

        start = (carried, jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32))
        micros = (jax.tree.map(split, dict(batch)), jax.random.split(key, num))
        (carried, total, count), measures = lax.scan(one, start, micros)
        grads = jax.tree.map(lambda t: t / jnp.maximum(count, 1), total)
        return grads, (carried, jax.tree.map(lambda m: m.sum(0), measures))

    return summed
