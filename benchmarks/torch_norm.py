"""Cases of normalisation, distances and fully connected layers."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import torch_layout as layout
from benchmarks.agreement import case
from cnn_jax.layers import BatchNorm, Dense, GroupNorm, Head, InstanceNorm, LayerNorm, RMSNorm
from cnn_jax.ops import distance, norm

SPACES = ((7,), (5, 6), (3, 4, 5))
RMS_EPSILON = 2**-23


def _inputs(draw, space, channels=6, batch=4):
    """Channels of unequal means and deviations."""
    return draw.normal(size=(batch, *space, channels)) * np.linspace(0.5, 3, channels) + np.linspace(-2, 1, channels)


def _affine(draw, channels=6):
    return draw.normal(size=channels) + 1, draw.normal(size=channels)


def batch_moments(draw):
    """torch.var_mean over all axes but the channels'; the shift is any."""
    theirs = lambda x, shift: torch.stack(torch.var_mean(x, tuple(range(x.ndim - 1)), correction=0)[::-1])
    for space in ((), *SPACES):
        x = _inputs(draw, space)
        yield case(lambda x, shift: jnp.stack(norm.batch_moments(x, shift)), theirs, x, draw.normal(size=6), fixed=(1,))


def normalise(draw):
    """F.batch_norm in evaluation. torch has no gradient by the statistics."""
    theirs = lambda x, mean, var, scale, bias: layout.last(F.batch_norm(layout.first(x), mean, var, scale, bias, eps=1e-3))
    for space in ((), *SPACES):
        arrays = _inputs(draw, space), draw.normal(size=6), draw.random(size=6) + 0.5, *_affine(draw)
        yield case(partial(norm.normalise, epsilon=1e-3), theirs, *arrays, fixed=(1, 2))


def group_norm(draw):
    """F.group_norm, with one group, some, and one a channel."""
    for space in ((), *SPACES):
        for groups in (1, 2, 3) if not space else (1, 2, 3, 6):
            theirs = lambda x, w=None, b=None, g=groups: layout.last(F.group_norm(layout.first(x), g, w, b))
            yield case(partial(norm.group_norm, groups=groups), theirs, _inputs(draw, space), *_affine(draw))
        yield case(partial(norm.group_norm, groups=2), lambda x: layout.last(F.group_norm(layout.first(x), 2)), _inputs(draw, space))


def layer_norm(draw):
    """F.layer_norm over the channels."""
    for shape in ((6,), (5, 6), (4, 5, 6), (2, 3, 4, 6)):
        yield case(norm.layer_norm, lambda x, w, b: F.layer_norm(x, (6,), w, b), draw.normal(size=shape) * 2 + 1, *_affine(draw))
        yield case(partial(norm.layer_norm, epsilon=0.1), lambda x: F.layer_norm(x, (6,), eps=0.1), draw.normal(size=shape))


def instance_norm(draw):
    """F.instance_norm."""
    for space in SPACES:
        theirs = lambda x, w=None, b=None: layout.last(F.instance_norm(layout.first(x), weight=w, bias=b))
        yield case(norm.instance_norm, theirs, _inputs(draw, space), *_affine(draw))
        yield case(norm.instance_norm, theirs, _inputs(draw, space))


def rms_norm(draw):
    """F.rms_norm; its default ε is the step at 1 of the inputs' type, ours that of float32."""
    for shape in ((6,), (5, 6), (2, 3, 4, 6)):
        x, (scale, _) = draw.normal(size=shape), _affine(draw)
        yield case(norm.rms_norm, lambda x, w: F.rms_norm(x, (6,), w, eps=RMS_EPSILON), x, scale)
        yield case(partial(norm.rms_norm, epsilon=0.1), lambda x: F.rms_norm(x, (6,), eps=0.1), x)
        yield case(norm.rms_norm, lambda x: F.rms_norm(x, (6,)), x, variant="default ε")


def standardise_weights(draw):
    """torch.var_mean over all axes but the outputs'."""

    def theirs(w):
        var, mean = torch.var_mean(w, tuple(range(w.ndim - 1)), correction=0, keepdim=True)
        return (w - mean) * (var + 1e-6).rsqrt()

    for window in ((3,), (3, 2), (2, 3, 2)):
        yield case(norm.standardise_weights, theirs, draw.normal(size=(*window, 4, 5)) + 0.5)


def _batch_norm(x, scale, bias, mean, var, *, train=True, **options):
    return BatchNorm(**options).apply(
        {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": mean, "var": var}}, x, train, mutable=["batch_stats"]
    )


def _torch_batch_norm(x, scale, bias, mean, var, *, train=True, **options):
    module = getattr(nn, f"BatchNorm{max(x.ndim - 2, 1)}d")(x.shape[-1], **options).train(train)
    statistics = {"running_mean": mean, "running_var": var, "num_batches_tracked": torch.tensor(0)}
    return layout.run(module, x, weight=scale, bias=bias, **statistics)


def batch_norm(draw):
    """nn.BatchNorm1d, 2d and 3d: outputs in training and evaluation, and the statistics after three steps of training."""
    for space in ((), *SPACES):
        state = np.linspace(-2, 1, 6) + draw.normal(size=6) * 0.2, draw.random(size=6) + 0.5
        for epsilon in (1e-5, 1e-3):
            for train in (True, False):
                ours = lambda *a, e=epsilon, t=train: _batch_norm(*a, train=t, epsilon=e)[0]
                theirs = partial(_torch_batch_norm, train=train, eps=epsilon)
                yield case(ours, theirs, _inputs(draw, space), *_affine(draw), *state, fixed=(3, 4))
        # Ours is the share that stays, torch's the share that is new.
        for kept in (0.9, 0.3):
            arrays = [_inputs(draw, space) for _ in range(3)]

            def ours(mean, var, *batches, kept=kept):
                scale, bias = jnp.ones_like(mean), jnp.zeros_like(mean)
                for x in batches:
                    state = _batch_norm(x, scale, bias, mean, var, momentum=kept)[1]["batch_stats"]
                    mean, var = state["mean"], state["var"]
                return jnp.stack([mean, var])

            def theirs(mean, var, *batches, kept=kept):
                for x in batches:  # torch changes the two in place
                    _torch_batch_norm(x, torch.ones_like(mean), torch.zeros_like(mean), mean, var, momentum=1 - kept)
                return torch.stack([mean, var])

            yield case(ours, theirs, *state, *arrays, gradient=False, variant="running statistics after 3 steps")
    fresh = np.zeros(6), np.ones(6)
    for mean, variant in ((10, "first step, inputs of mean 10"), (100, "first step, inputs of mean 100")):
        arrays = _inputs(draw, (8, 9)) + mean, *_affine(draw), *fresh
        yield case(lambda *a: _batch_norm(*a)[0], _torch_batch_norm, *arrays, fixed=(3, 4), variant=variant)


def _norm_layer(layer, theirs, draw, parameters=("scale", "bias"), spaces=SPACES):
    for space in spaces:
        values = _affine(draw)[: len(parameters)]
        ours = lambda x, *p: layer.apply({"params": dict(zip(parameters, p, strict=True))}, x)
        yield case(ours, theirs(len(space)), _inputs(draw, space), *values)


def group_norm_layer(draw):
    """nn.GroupNorm."""
    yield from _norm_layer(GroupNorm(3), lambda n: lambda x, w, b: layout.run(nn.GroupNorm(3, 6), x, weight=w, bias=b), draw)


def layer_norm_layer(draw):
    """nn.LayerNorm over the channels; our default ε is 1e-6, torch's 1e-5."""
    call = lambda x, w, b: torch.func.functional_call(nn.LayerNorm(6, eps=1e-6), {"weight": w, "bias": b}, (x,))
    yield from _norm_layer(LayerNorm(), lambda n: call, draw, spaces=((), *SPACES))


def instance_norm_layer(draw):
    """nn.InstanceNorm1d, 2d and 3d with and without parameters; torch's default is without."""
    module = lambda n, affine: getattr(nn, f"InstanceNorm{n}d")(6, affine=affine)
    yield from _norm_layer(InstanceNorm(), lambda n: lambda x, w, b: layout.run(module(n, True), x, weight=w, bias=b), draw)
    yield from _norm_layer(InstanceNorm(affine=False), lambda n: lambda x: layout.run(module(n, False), x), draw, parameters=())


def rms_norm_layer(draw):
    """nn.RMSNorm."""
    call = lambda x, w: torch.func.functional_call(nn.RMSNorm(6, eps=RMS_EPSILON), {"weight": w}, (x,))
    yield from _norm_layer(RMSNorm(), lambda n: call, draw, parameters=("scale",), spaces=((), *SPACES))


def _dense(layer, draw):
    theirs = lambda x, w, b: torch.func.functional_call(nn.Linear(6, 4), {"weight": w.T, "bias": b}, (x,))
    for shape in ((3, 6), (2, 5, 6)):
        ours = lambda x, w, b: layer(4, dtype=x.dtype).apply({"params": {"kernel": w, "bias": b}}, x)
        yield case(ours, theirs, draw.normal(size=shape), draw.normal(size=(6, 4)), draw.normal(size=4))


def dense(draw):
    """nn.Linear."""
    yield from _dense(Dense, draw)


def head(draw):
    """nn.Linear; the result is float32 whatever the type of the inputs."""
    for item in _dense(Head, draw):
        if item.arrays[0].ndim == 2:
            yield item


def squared_distances(draw):
    """The square of torch.cdist."""
    for m, n, e in ((4, 5, 3), (7, 2, 16)):
        theirs = lambda x, y: torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** 2
        yield case(distance.squared_distances, theirs, draw.normal(size=(m, e)), draw.normal(size=(n, e)))


def euclidean_distances(draw):
    """torch.cdist, also with points that coincide."""
    theirs = lambda x, y: torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    for m, n, e in ((4, 5, 3), (7, 2, 16)):
        x, y = draw.normal(size=(m, e)), draw.normal(size=(n, e))
        yield case(distance.euclidean_distances, theirs, x, y)
    yield case(distance.euclidean_distances, theirs, np.round(x), np.round(x), variant="points that coincide")


def lp_distances(draw):
    """torch.cdist with another p."""
    for p in (1.0, 1.5, 3.0):
        theirs = partial(torch.cdist, p=p)
        yield case(partial(distance.lp_distances, p=p), theirs, draw.normal(size=(4, 3)), draw.normal(size=(5, 3)))


def cosine_similarities(draw):
    """F.cosine_similarity of every pair."""
    theirs = lambda x, y: F.cosine_similarity(x[:, None], y[None], dim=-1)
    yield case(distance.cosine_similarities, theirs, draw.normal(size=(4, 3)), draw.normal(size=(5, 3)))


def dot_products(draw):
    """torch.matmul."""
    yield case(distance.dot_products, lambda x, y: x @ y.T, draw.normal(size=(4, 3)), draw.normal(size=(5, 3)))


def unit_length(draw):
    """F.normalize, also of a zero vector."""
    for shape in ((4, 5), (2, 3, 6)):
        x = draw.normal(size=shape)
        yield case(distance.unit_length, partial(F.normalize, dim=-1), x)
        x[0] = 0
        yield case(distance.unit_length, partial(F.normalize, dim=-1), x, variant="a zero vector")


CASES = {
    "ops.norm.batch_moments": batch_moments,
    "ops.norm.normalise": normalise,
    "ops.norm.group_norm": group_norm,
    "ops.norm.layer_norm": layer_norm,
    "ops.norm.instance_norm": instance_norm,
    "ops.norm.rms_norm": rms_norm,
    "ops.norm.standardise_weights": standardise_weights,
    "layers.norm.BatchNorm": batch_norm,
    "layers.norm.GroupNorm": group_norm_layer,
    "layers.norm.LayerNorm": layer_norm_layer,
    "layers.norm.InstanceNorm": instance_norm_layer,
    "layers.norm.RMSNorm": rms_norm_layer,
    "layers.dense.Dense": dense,
    "layers.dense.Head": head,
    "ops.distance.lp_distances": lp_distances,
    "ops.distance.cosine_similarities": cosine_similarities,
    "ops.distance.dot_products": dot_products,
    "ops.distance.squared_distances": squared_distances,
    "ops.distance.euclidean_distances": euclidean_distances,
    "ops.distance.unit_length": unit_length,
}
