"""The described networks in Flax: with Flax's own layers, as a reader of its guide would write them, or with ours."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from benchmarks import nets


class FlaxNet(nn.Module):
    """A described network; `ours` takes this project's layers in place of Flax's."""

    layers: tuple
    ours: bool = False

    @nn.compact
    def __call__(self, x, train: bool):
        return self.run(self.layers, x, train)

    def run(self, layers: tuple, x, train: bool):
        for layer in layers:
            x = self.one(layer, x, train)
        return x

    def one(self, layer: Any, x, train: bool):
        space = tuple(range(1, x.ndim - 1))
        match layer:
            case nets.Conv():
                return self.conv(layer, x)
            case nets.Norm():
                return self.norm(x, train)
            case nets.Relu(most):
                return nn.relu(x) if most is None else jnp.clip(x, 0, most)
            case nets.MaxPool(window, stride, padding):
                n = len(space)
                return nn.max_pool(x, (window,) * n, (stride,) * n, [(padding, padding)] * n)
            case nets.MeanOfAll():
                return x.mean(space)
            case nets.MaxOfAll():
                return x.max(space)
            case nets.Flatten():
                return x.reshape(len(x), -1)
            case nets.Dense(features):
                return nn.Dense(features)(x)
            case nets.Residual(branch, shortcut, relu):
                y = self.run(branch, x, train) + self.run(shortcut, x, train)
                return nn.relu(y) if relu else y
            case nets.Beside(branches):
                return jnp.concatenate([self.run(branch, x, train) for branch in branches], -1)
        raise ValueError(f"layer={layer!r} is not one of benchmarks/nets.py")

    def conv(self, layer: nets.Conv, x):
        groups, n = x.shape[-1] if layer.depthwise else 1, len(layer.window)
        padding = layer.window[0] // 2 if layer.padding is None else layer.padding
        if self.ours:
            from cnn_jax.layers import Conv

            return Conv(layer.features, layer.window, stride=layer.stride, padding=padding, groups=groups, use_bias=layer.bias)(x)
        options = {"padding": [(padding, padding)] * n, "feature_group_count": groups, "use_bias": layer.bias}
        return nn.Conv(layer.features, layer.window, (layer.stride,) * n, **options)(x)

    def norm(self, x, train: bool):
        if self.ours:
            from cnn_jax.layers import BatchNorm

            return BatchNorm()(x, train)
        return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
