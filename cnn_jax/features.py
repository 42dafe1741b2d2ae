"""What a network computes on the way: the output of any layer by name; and networks made to fit other inputs or heads."""

import reprlib
from collections.abc import Mapping, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.errors import nearest
from cnn_jax.ops.arguments import check_array, check_each_axis, check_flag, check_whole, is_several
from cnn_jax.types import PyTree


def apply_with_features(
    model: nn.Module, variables: PyTree, x: jax.Array, names: Sequence[str], *, train: bool = False
) -> tuple[PyTree, dict[str, jax.Array]]:
    """Returns (outputs, {name: features}): the model's outputs and, from the same pass, those of the named modules.

    It is as pure as `model.apply`: it can be compiled, differentiated and mapped. Where a module is called more than once its
    last output is returned. With `train=True` BatchNorm uses the batch's statistics; nothing is updated, and dropout is not
    drawn, so the model must have none.

    Args:
      names: paths of modules, such as "stage2_block1" or "stage2_block1/conv1"; `feature_names` lists them.

    Raises:
      ValueError: the model has no module of that name; offers the nearest.

    >>> from cnn_jax.models.resnet import resnet8
    >>> model, images = resnet8(num_outputs=10), jnp.zeros((2, 8, 8, 1))
    >>> variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    >>> outputs, features = jax.eval_shape(partial(apply_with_features, model, names=["stage2_block1"]), variables, images)
    >>> outputs.shape, features["stage2_block1"].shape
    ((2, 10), (2, 4, 4, 32))
    """
    check_model(model)
    check_variables("variables", variables)
    check_flag("train", train)
    if not is_several(names) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"names={names!r} must be a list of layers' names; feature_names lists all")
    found: dict[str, jax.Array] = {}
    seen: list[str] = []

    def keep(next_fun, args, kwargs, context):
        result = next_fun(*args, **kwargs)
        path = "/".join(context.module.path)
        if context.method_name == "__call__" and path and isinstance(result, jax.Array):
            seen.append(path)
            if path in names:
                found[path] = result
        return result

    with nn.intercept_methods(keep):
        if train:
            outputs, _ = model.apply(variables, x, train=True, mutable=["batch_stats", "auxiliary"])
        else:
            outputs = model.apply(variables, x, train=False)
    for name in names:
        if name not in found:
            close = nearest(name, dict.fromkeys(seen))
            raise ValueError(f"the model has no layer {name!r}{f', but {close}' if close else ''}; feature_names lists all")
    return outputs, {name: found[name] for name in names}


def feature_names(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Returns {name: output shape for one example} of every layer that `apply_with_features` knows, in the order of their outputs.

    Args:
      input_shape: of one example, [*space, c].

    Raises:
      ValueError: the model is no Linen module, or `input_shape` no whole numbers of at least 1.

    >>> from cnn_jax.models.lenet import LeNet5
    >>> feature_names(LeNet5(num_outputs=10), (32, 32, 1))["c5"]
    (1, 1, 120)
    """
    check_model(model)
    check_each_axis("input_shape", input_shape)
    shapes: dict[str, tuple[int, ...]] = {}

    def note(next_fun, args, kwargs, context):
        result = next_fun(*args, **kwargs)
        if context.method_name == "__call__" and context.module.path and isinstance(result, jax.Array):
            shapes["/".join(context.module.path)] = result.shape[1:]
        return result

    with nn.intercept_methods(note):
        x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
        jax.eval_shape(partial(model.init, train=False), jax.random.key(0), x)
    return shapes


def replace_head(variables: PyTree, fresh: PyTree) -> PyTree:
    """Returns `variables` with the head of `fresh`, and its auxiliary heads: a network trained on one task, made ready for another.

    Args:
      variables: of the trained network.
      fresh: of the same network initialised with another `num_outputs`; with 0 the head is left out.

    Raises:
      ValueError: the networks differ in more than their heads; names the first difference.

    >>> from cnn_jax.models.resnet import resnet8
    >>> inits = (partial(resnet8(num_outputs=n).init, train=False) for n in (10, 3))
    >>> old, new = (jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 8, 8, 1))) for init in inits)
    >>> replace_head(old, new)["params"]["head"]["bias"].shape
    (3,)
    """
    check_variables("variables", variables)
    check_variables("fresh", fresh)
    ours, theirs = (_shapes({name: _split(tree)[0] for name, tree in v.items()}) for v in (variables, fresh))
    for path in [*ours, *(p for p in theirs if p not in ours)]:
        if ours.get(path) != theirs.get(path):
            here, there = ours.get(path, "missing"), theirs.get(path, "missing")
            raise ValueError(f"the networks differ beyond their heads: {path} is {here} and {there}")
    return {name: {**_split(tree)[0], **_split(fresh[name])[1]} for name, tree in variables.items()}


def adapt_inputs(kernel: jax.Array, channels: int) -> jax.Array:
    """Returns a first convolution's kernel for another number of input channels, of the same response to grey.

    Fewer channels: each takes the sum of the old ones c, c + new, …; more: the old ones in turn, divided by how often each comes. So
    pictures whose channels are copies of one grey channel give exactly what they gave before.

    Args:
      kernel: [*window, c_in, features].
      channels: of the new inputs, at least 1.

    Raises:
      ValueError: channels is below 1.

    Reference: timm's `adapt_input_conv`, which keeps that response only where one number divides the other.

    >>> adapt_inputs(jnp.ones((3, 3, 3, 8)), 1).shape
    (3, 3, 1, 8)
    """
    check_array("kernel", kernel)
    check_whole("channels", channels)
    if kernel.ndim < 2:
        raise ValueError(f"kernel must be [*window, c_in, features], got shape {kernel.shape}")
    old = kernel.shape[-2]
    if channels <= old:
        return jnp.stack([kernel[..., c::channels, :].sum(-2) for c in range(channels)], axis=-2)
    return jnp.stack([kernel[..., c % old, :] / len(range(c % old, channels, old)) for c in range(channels)], axis=-2)


def adapt_stem(variables: PyTree, fresh: PyTree) -> PyTree:
    """Returns `variables` for images of as many channels as `fresh` is for: the first convolution adapted by `adapt_inputs`.

    Which it is, the shapes tell: the kernels that differ in their input channels only. Networks that begin in several branches have
    more than one, and all are adapted.

    Args:
      variables: of the trained network.
      fresh: of the same network initialised on images with another number of channels; its shapes, by `jax.eval_shape`, will do.

    Raises:
      ValueError: the networks differ in more than such kernels; names the first difference.

    >>> from cnn_jax.models.resnet import resnet8
    >>> init = partial(resnet8(num_outputs=10).init, train=False)
    >>> old, fresh = (jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 8, 8, c))) for c in (3, 1))
    >>> jax.eval_shape(adapt_stem, old, fresh)["params"]["stem_conv"]["kernel"].shape
    (3, 3, 1, 16)
    """
    check_variables("variables", variables)
    check_variables("fresh", fresh)
    ours, theirs = _shapes(variables), _shapes(fresh)
    if alone := sorted({*ours} ^ {*theirs}):
        raise ValueError(f"the networks differ beyond their first convolution: only one of them has {alone[0]}")

    def adapted(path, leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        old, new = leaf.shape, theirs[name]
        if old == new:
            return leaf
        is_window = name.rpartition("/")[2].startswith("kernel") and len(old) > 2
        if not is_window or old[:-2] + old[-1:] != new[:-2] + new[-1:]:
            raise ValueError(f"the networks differ beyond their first convolution: {name} is {old} and {new}")
        return adapt_inputs(leaf, new[-2])

    return jax.tree_util.tree_map_with_path(adapted, variables)


def check_model(model: nn.Module) -> None:
    """Raises ValueError unless it is a Linen module; what makes one, such as the class, is none.

    >>> check_model(nn.Dense)
    Traceback (most recent call last):
    ValueError: model=<class 'flax....linear.Dense'> must be a Linen module, such as resnet8(num_outputs=10)
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model={reprlib.repr(model)} must be a Linen module, such as resnet8(num_outputs=10)")


def check_variables(name: str, variables: PyTree) -> None:
    """Raises ValueError unless they are a model's collections of variables, with "params" among them.

    >>> check_variables("variables", {"kernel": 0})
    Traceback (most recent call last):
    ValueError: variables must be {"params": …, …}, as from model.init, got ['kernel']
    """
    if not isinstance(variables, Mapping) or "params" not in variables:
        got = list(variables) if isinstance(variables, Mapping) else variables
        raise ValueError(f'{name} must be {{"params": …, …}}, as from model.init, got {reprlib.repr(got)}')


def _split(tree: PyTree) -> tuple[PyTree, PyTree]:
    """A collection's body and its heads, which depend on the number of classes."""
    heads = {name: part for name, part in tree.items() if name == "head" or name.startswith("auxiliary")}
    return {name: part for name, part in tree.items() if name not in heads}, heads


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
