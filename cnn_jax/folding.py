"""Batch normalisation folded into the layer before it: at inference both are linear, and one does the work of both.

    folded, fewer = fold_batch_norm(model, variables, (224, 224, 3))
    outputs = folded.apply(fewer, images, train=False)

What follows what is read off the traced program, so that no network has to say it.
"""

from collections import Counter, defaultdict
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from flax.core import DenyList
from flax.linen.initializers import zeros
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Jaxpr, Literal, Var

from cnn_jax.features import check_model, check_variables
from cnn_jax.layers import BatchNorm, Conv, ConvTranspose, Dense, Head
from cnn_jax.ops.arguments import check_each_axis
from cnn_jax.types import PyTree

_Path = tuple[str, ...]  # of a module

# Layers linear in a kernel whose last axis is the output's channels. Not their subclasses: StandardisedConv changes its kernel before use.
_LINEAR = (Conv, ConvTranspose, Dense, Head)
_MARK = "fold_batch_norm "


class Folded(nn.Module):
    """A network at inference, without the BatchNorm layers that `fold_batch_norm` has folded into the layers before them.

    It is called as the network is, and its variables are the network's without those of the folded norms and with a bias wherever one
    was folded; `init` gives that very tree. On the way it differs in one thing: a layer's output is what the norm made of it.

    Attributes:
      unfolded: the network, called as unfolded(x, train).
      pairs: paths of a layer and of the norm folded into it, as `fold_batch_norm` finds them.

    Raises:
      ValueError: it is called with train=True.

    >>> from cnn_jax.models.googlenet import ConvUnit
    >>> folded = Folded(ConvUnit(features=2, window=(1, 1)), pairs=(("conv", "bn"),))
    >>> jax.tree.map(jnp.shape, folded.init(jax.random.key(0), jnp.ones((1, 4, 4, 3)), train=False))
    {'params': {'conv': {'bias': (2,), 'kernel': (1, 1, 3, 2)}}}
    """

    unfolded: nn.Module
    pairs: tuple[tuple[str, str], ...]

    @nn.nowrap  # the network takes this module's place: its layers and their variables keep their paths
    def __call__(self, x, train: bool):
        if train:
            raise ValueError("train=True is not for a folded network, which has no batch statistics: train the one that was folded")
        layers, norms = ({pair[i] for pair in self.pairs} for i in (0, 1))
        depth = len(self.path)

        def fold(call, args, options, context):
            module, path = context.module, "/".join(context.module.path[depth:])
            if context.method_name == "__call__" and type(module) is BatchNorm and path in norms:
                return _norm_arguments(*args, **options)[0]
            y = call(*args, **options)
            if context.method_name == "__call__" and type(module) in _LINEAR and path in layers and not getattr(module, "use_bias", True):
                bias = module.param("bias", zeros, (module.features,), jnp.float32)
                y = y + jnp.asarray(bias, y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
            return y

        with nn.intercept_methods(fold):
            return self.unfolded.unbind()[0].clone(parent=self.scope)(x, train)


def fold_batch_norm(model: nn.Module, variables: PyTree, input_shape: tuple[int, ...]) -> tuple[Folded, PyTree]:
    """Returns (folded model, its variables), with the outputs of `model` at inference and fewer operations.

    For each channel, with gain = scale / √(var + ε),

      (x·W + b − mean) · gain + shift = x·(W·gain) + ((b − mean) · gain + shift).

    A BatchNorm is folded where it normalises, by running statistics, exactly what a `Conv`, `ConvTranspose`, `Dense` or `Head` gives, and
    nothing else reads that. All others stay as they are: those behind a sum, a pooling or an activation; those of a convolution whose
    kernel is standardised before use, or read elsewhere too; those within `nn.scan`, `nn.vmap`, `nn.remat` or `nn.jit`. Of a layer that
    is called several times the norm is folded if it is the same each time.

    Outputs are equal but for rounding, which grows with |mean| / √var: the mean is no longer taken off before the gain.

    Args:
      variables: of the model, trained: "params" and "batch_stats". They are not changed; traced ones will do.
      input_shape: of one example, [*space, c], by which it is found out what follows what. The folded model takes any size for which
        the network calls the same layers.

    Raises:
      ValueError: the model is no Linen module, is folded already, or does not take inputs of that shape; there is no "batch_stats".

    Reference: Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", 2018, § 3.2.

    >>> from cnn_jax.models.googlenet import ConvUnit
    >>> model, images = ConvUnit(features=2, window=(1, 1)), jnp.array([1.0, -2.0, 3.0]).reshape(1, 1, 1, 3)
    >>> variables = model.init(jax.random.key(0), images, train=False)
    >>> folded, fewer = fold_batch_norm(model, variables, (1, 1, 3))
    >>> folded.pairs, list(variables), list(fewer)
    ((('conv', 'bn'),), ['params', 'batch_stats'], ['params'])
    >>> bool(jnp.allclose(folded.apply(fewer, images, train=False), model.apply(variables, images, train=False)))
    True
    """
    check_model(model)
    if isinstance(model, Folded):
        raise ValueError("model is folded already: give the network, and the variables, that it was folded from")
    check_variables("variables", variables)
    check_each_axis("input_shape", input_shape)
    if not variables.get("batch_stats"):
        raise ValueError(
            f'variables must have "batch_stats", those that model.init or training gives, got {list(variables)}; '
            "a model without BatchNorm has nothing to fold: use it as it is"
        )
    pairs = _pairs(*_trace(model, variables, input_shape))
    flat = traverse_util.flatten_dict(variables)
    for layer, norm, epsilon in pairs:
        kernel, bias = (flat.get(("params", *layer, name)) for name in ("kernel", "bias"))
        scale, shift = (flat.pop(("params", *norm, name)) for name in ("scale", "bias"))
        mean, var = (flat.pop(("batch_stats", *norm, name)) for name in ("mean", "var"))
        gain = scale * lax.rsqrt(var + epsilon)
        flat[("params", *layer, "kernel")] = kernel * gain.reshape((1,) * (kernel.ndim - 1) + (-1,))
        flat[("params", *layer, "bias")] = ((0 if bias is None else bias) - mean) * gain + shift
    named = tuple(("/".join(layer), "/".join(norm)) for layer, norm, _ in pairs)
    return Folded(model, named), traverse_util.unflatten_dict(flat)


class _Call(NamedTuple):
    """A linear layer, or a norm, as it was called.

    Attributes:
      shape: of its output.
      epsilon: of a norm; None for a linear layer.
      source: of a norm, the number of the linear layer's call that gave exactly its input; None where none did.
    """

    path: _Path
    shape: tuple[int, ...]
    epsilon: float | None = None
    source: int | None = None


def _norm_arguments(x, train: bool, where=None) -> tuple[jax.Array, bool]:
    """The inputs and `train` of a BatchNorm's call, given by position or by name; `where` is for the batch's statistics."""
    del where
    return x, train


def _trace(model: nn.Module, variables: PyTree, input_shape: tuple[int, ...]) -> tuple[Jaxpr, dict[_Path, Var], list[_Call]]:
    """The program as it would be without the norms that may go; its variable for each parameter; the calls, whose outputs it marks."""
    calls: list[_Call] = []

    def forward(variables, images):
        outputs: dict[int, jax.Array] = {}  # of the linear layers: what is the same object is the same array

        def marked(x, call: _Call):
            calls.append(call)
            return checkpoint_name(x, f"{_MARK}{len(calls) - 1}")

        def mark(call, args, options, context):
            module = context.module
            if context.method_name != "__call__":
                return call(*args, **options)
            if type(module) is BatchNorm and module.has_variable("batch_stats", "mean"):  # one that is folded already has none
                x, train = _norm_arguments(*args, **options)
                source = next((i for i, y in outputs.items() if y is x), None) if module.frozen or not train else None
                y = call(*args, **options) if source is None else x
                return marked(y, _Call(module.path, x.shape, module.epsilon, source))
            y = call(*args, **options)
            if type(module) in _LINEAR and module.has_variable("params", "kernel"):  # a head without outputs has none
                y = marked(y, _Call(module.path, y.shape))
                outputs[len(calls) - 1] = y
            return y

        with nn.intercept_methods(mark):
            return model.apply(variables, images, train=False, mutable=DenyList("params"))  # what is sown counts as read

    images = jax.ShapeDtypeStruct((2, *input_shape), jnp.float32)  # two: of one, a part such as x[:1] would be the same object
    jaxpr = jax.make_jaxpr(forward)(variables, images).jaxpr
    given, _ = jax.tree.unflatten(jax.tree.structure((variables, images)), jaxpr.invars)
    return jaxpr, traverse_util.flatten_dict(given["params"]), calls


def _pairs(jaxpr: Jaxpr, params: dict[_Path, Var], calls: list[_Call]) -> list[tuple[_Path, _Path, float]]:
    """The paths of each layer and of the norm that can be folded into it, and the norm's ε."""
    read = [*(eqn.invars for eqn in jaxpr.eqns), jaxpr.outvars]
    uses = Counter(atom for atoms in read for atom in atoms if not isinstance(atom, Literal))
    marks = {eqn.params["name"]: eqn.outvars[0] for eqn in jaxpr.eqns if eqn.primitive.name == "name"}

    def output(i: int) -> Var | None:
        """A call's output in the program; None within a loop or the like, or where it is one of many, mapped over."""
        found = marks.get(f"{_MARK}{i}")
        return found if found is not None and found.aval.shape == calls[i].shape else None

    joined: dict[int, int] = {}  # calls of a layer, and of the norm that alone reads its output, and the other way round
    for i, call in enumerate(calls):
        if call.source is not None and output(i) is not None and uses[output(call.source)] == 1:
            joined |= {i: call.source, call.source: i}
    partners: dict[_Path, set[_Path | None]] = defaultdict(set)
    for i, call in enumerate(calls):
        partners[call.path].add(calls[joined[i]].path if i in joined else None)
    times = Counter(call.path for call in calls)

    def are_read(path: _Path, num: int) -> bool:
        """Whether each parameter of the layer is read so often, and by no one else then."""
        return all(uses[var] == num for place, var in params.items() if place[:-1] == path)

    found = {call.path: calls[joined[i]] for i, call in enumerate(calls) if i in joined and call.epsilon is None}
    return [
        (path, norm.path, norm.epsilon)
        for path, norm in found.items()
        if partners[path] == {norm.path} and partners[norm.path] == {path} and are_read(path, times[path]) and are_read(norm.path, 0)
    ]
