"""What a network is made of, read off a trace: shapes, modules called; variables and images for it by NumPy. Nothing is compiled."""

import zlib
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def outputs_and_shapes(model, shape):
    """Shapes of the outputs in evaluation, of two images [h, w, c], and of the variables at initialisation."""
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    return jax.eval_shape(partial(model.init_with_output, train=False), jax.random.key(0), x)


def shapes(model, shape):
    return outputs_and_shapes(model, shape)[1]


def num_params(variables) -> int:
    return sum(p.size for p in jax.tree.leaves(variables["params"]))


def called(model, shape, kinds=nn.Module, *, train=False):
    """(module, output's shape and type) of every module of these kinds, in the order of their outputs."""
    found = []

    def note(next_fun, args, kwargs, context):
        result = next_fun(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(context.module, kinds):
            found.append((context.module, result))
        return result

    keys = {"params": jax.random.key(0)} | ({"dropout": jax.random.key(1)} if train else {})
    with nn.intercept_methods(note):
        jax.eval_shape(partial(model.init, train=train), keys, jax.ShapeDtypeStruct((2, *shape), jnp.float32))
    return found


def filled(shapes):
    """Variables of these shapes, decided by their paths alone: lively enough that a wrong connection shows."""

    def fill(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        draws = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(leaf.shape)
        if name.endswith("kernel"):
            return jnp.array(draws * np.sqrt(3 / np.prod(leaf.shape[:-1])), jnp.float32)
        return jnp.array(1 + 0.1 * np.tanh(draws) if name.endswith(("scale", "var")) else 0.1 * draws, jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def images(*shape):
    return jnp.array(np.random.RandomState(7).standard_normal(shape), jnp.float32)
