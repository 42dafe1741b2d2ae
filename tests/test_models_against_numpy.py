"""Blocks and networks of the classic families against slow NumPy, written from the papers' figures."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.layers import BatchNorm, Conv
from cnn_jax.models.alexnet import AlexNet, AlexNet2012, local_response
from cnn_jax.models.all_cnn import AllCNN
from cnn_jax.models.plain import no_shortcut
from cnn_jax.models.preactivation import PreActivationBlock, PreActivationBottleneck
from cnn_jax.models.resnet import BasicBlock, Bottleneck, ResNet, projection, resnet50d, squeeze_excitation
from cnn_jax.models.stems import blur
from cnn_jax.models.vgg import VGG


def conv(x, kernel, stride=1, pad=0, groups=1):
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    kh, kw, c, features = kernel.shape
    rows, columns = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    y = np.zeros((x.shape[0], rows, columns, features))
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * stride : i * stride + kh, j * stride : j * stride + kw]
            for g in range(groups):
                out = slice(g * features // groups, (g + 1) * features // groups)
                y[:, i, j, out] = np.einsum("bhwc,hwco->bo", window[..., g * c : (g + 1) * c], kernel[..., out])
    return y


def pooled(x, window, stride, pad=0):
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=-np.inf)
    rows, columns = ((n - window) // stride + 1 for n in x.shape[1:3])
    y = np.zeros((len(x), rows, columns, x.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            y[:, i, j] = x[:, i * stride : i * stride + window, j * stride : j * stride + window].max((1, 2))
    return y


def binned(x, size):
    """Means of `size` bins on each side; torch's borders ⌊i·n/size⌋ and ⌈(i+1)·n/size⌉."""
    h, w = x.shape[1:3]
    bins = [[(i * n // size, math.ceil((i + 1) * n / size)) for i in range(size)] for n in (h, w)]
    return np.stack([np.stack([x[:, a:b, c:d].mean((1, 2)) for c, d in bins[1]], 1) for a, b in bins[0]], 1)


def blurred(x):
    taps = np.array([1, 2, 1]) / 4
    kernel = np.einsum("i,j,co->ijco", taps, taps, np.eye(x.shape[-1]))
    return conv(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect"), kernel, stride=2)


def halved(x):
    """Means of 2×2 windows, of what there is of them at an odd end."""
    places = [[x[:, i : i + 2, j : j + 2].mean((1, 2)) for j in range(0, x.shape[2], 2)] for i in range(0, x.shape[1], 2)]
    return np.stack([np.stack(row, 1) for row in places], 1)


def relu(x):
    return np.maximum(x, 0)


class Weights:
    """Random variables of a module, and its layers in NumPy by name."""

    def __init__(self, module, x):
        rng = np.random.default_rng(5)
        variables = jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=False))

        def draw(path, leaf):
            name = path[-1].key
            if name in ("var", "scale"):
                return jnp.array(rng.uniform(0.5, 2, leaf.shape), jnp.float32)
            return jnp.array(rng.normal(size=leaf.shape) / max(math.prod(leaf.shape[:-1]), 1) ** 0.5, jnp.float32)

        self.variables = jax.tree_util.tree_map_with_path(draw, variables)
        self.params = jax.tree.map(lambda p: np.asarray(p, np.float64), self.variables["params"])
        self.stats = jax.tree.map(lambda p: np.asarray(p, np.float64), self.variables.get("batch_stats", {}))

    def conv(self, name, x, *args):
        return conv(x, self.params[name]["kernel"], *args) + self.params[name].get("bias", 0)

    def bn(self, name, x):
        p, s = self.params[name], self.stats[name]
        return (x - s["mean"]) / np.sqrt(s["var"] + 1e-5) * p["scale"] + p["bias"]

    def dense(self, name, x):
        return x @ self.params[name]["kernel"] + self.params[name]["bias"]


make_conv = partial(Conv, use_bias=False)


def agrees(module, x, oracle):
    weights = Weights(module, x)
    outputs = jax.jit(partial(module.apply, train=False))(weights.variables, x)
    expected = oracle(weights, np.asarray(x, np.float64))
    assert outputs.shape == expected.shape
    np.testing.assert_allclose(outputs, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())


def image(*shape):
    return jnp.array(np.random.default_rng(3).normal(size=shape), jnp.float32)


def test_basic_blocks_equal_the_papers_figure():
    def oracle(w, x, stride=2, residual=True):
        y = relu(w.bn("bn1", w.conv("conv1", x, stride, 1)))
        y = w.bn("bn2", w.conv("conv2", y, 1, 1))
        return relu((w.bn("shortcut_bn", w.conv("shortcut_conv", x, 2)) if residual and stride == 2 else x if residual else 0) + y)

    block = partial(BasicBlock, conv=make_conv, norm=BatchNorm)
    agrees(block(5, 2), image(2, 7, 6, 3), oracle)
    agrees(block(3, 1), image(2, 5, 4, 3), partial(oracle, stride=1))
    agrees(block(5, 2, shortcut=no_shortcut), image(2, 7, 6, 3), partial(oracle, residual=False))
    agrees(block(3, 1, shortcut=no_shortcut), image(2, 5, 4, 3), partial(oracle, stride=1, residual=False))


@pytest.mark.parametrize("stride_in", ["3x3", "1x1"])
def test_bottleneck_strides_where_it_says_and_has_groups(stride_in):
    def oracle(w, x):
        first, second = (2, 1) if stride_in == "1x1" else (1, 2)
        y = relu(w.bn("bn1", w.conv("conv1", x, first)))
        y = relu(w.bn("bn2", w.conv("conv2", y, second, 1, 3)))
        y = w.bn("bn3", w.conv("conv3", y))
        return relu(w.bn("shortcut_bn", w.conv("shortcut_conv", x, 2)) + y)

    block = Bottleneck(4, 2, make_conv, BatchNorm, groups=3, group_width=32, stride_in=stride_in)
    agrees(block, image(2, 7, 6, 5), oracle)
    assert Weights(block, image(1, 4, 4, 5)).params["conv2"]["kernel"].shape == (3, 3, 2, 6)


def test_squeeze_and_excitation_scales_the_branch_before_the_sum():
    def oracle(w, x):
        y = w.bn("bn2", w.conv("conv2", relu(w.bn("bn1", w.conv("conv1", x, 1, 1))), 1, 1))
        se = w.params["se"]
        hidden = relu(y.mean((1, 2)) @ se["reduce"]["kernel"][0, 0] + se["reduce"]["bias"])
        gate = 1 / (1 + np.exp(-(hidden @ se["expand"]["kernel"][0, 0] + se["expand"]["bias"])))
        return relu(x + y * gate[:, None, None])

    block = BasicBlock(33, 1, make_conv, BatchNorm, recalibrate=squeeze_excitation)
    agrees(block, image(2, 4, 3, 33), oracle)
    assert Weights(block, image(1, 4, 4, 33)).params["se"]["reduce"]["kernel"].shape == (1, 1, 33, 2)


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_net_d_averages_on_its_shortcut(size):
    def oracle(w, x):
        y = relu(w.bn("bn1", w.conv("conv1", x)))
        y = relu(w.bn("bn2", w.conv("conv2", y, 2, 1)))
        return relu(w.bn("shortcut_bn", w.conv("shortcut_conv", halved(x))) + w.bn("bn3", w.conv("conv3", y)))

    block = resnet50d.keywords["block"]
    agrees(block(2, 2, conv=make_conv, norm=BatchNorm), image(2, *size, 3), oracle)


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_antialiased_blocks_blur_before_they_drop_positions(size):
    def shortcut(w, x):
        return w.bn("shortcut_bn", w.conv("shortcut_conv", blurred(x)))

    def bottleneck(w, x):
        y = relu(w.bn("bn2", w.conv("conv2", relu(w.bn("bn1", w.conv("conv1", x))), 1, 1)))
        return relu(shortcut(w, x) + w.bn("bn3", w.conv("conv3", blurred(y))))

    def basic(w, x):
        y = blurred(relu(w.bn("bn1", w.conv("conv1", x, 1, 1))))
        return relu(shortcut(w, x) + w.bn("bn2", w.conv("conv2", y, 1, 1)))

    options = {"conv": make_conv, "norm": BatchNorm, "subsample": blur, "shortcut": partial(projection, pool=blur)}
    agrees(Bottleneck(2, 2, **options), image(2, *size, 3), bottleneck)
    agrees(BasicBlock(4, 2, **options), image(2, *size, 3), basic)


def test_preactivation_blocks_equal_the_papers_figure():
    def oracle(w, x, stride, shared):
        y = relu(w.bn("bn1", x))
        shortcut = w.conv("shortcut_conv", y, stride) if "shortcut_conv" in w.params else y if shared else x
        if "conv3" not in w.params:
            return shortcut + w.conv("conv2", relu(w.bn("bn2", w.conv("conv1", y, stride, 1))), 1, 1)
        y = w.conv("conv2", relu(w.bn("bn2", w.conv("conv1", y))), stride, 1)
        return shortcut + w.conv("conv3", relu(w.bn("bn3", y)))

    for block, features, stride, shared in (
        (PreActivationBlock, 5, 2, False), (PreActivationBlock, 4, 1, False), (PreActivationBlock, 4, 1, True),
        (PreActivationBottleneck, 2, 2, False), (PreActivationBottleneck, 1, 1, False), (PreActivationBottleneck, 2, 1, True),
    ):  # fmt: skip
        module = block(features, stride, make_conv, BatchNorm, shared=shared)
        agrees(module, image(2, 7, 6, 4), partial(oracle, stride=stride, shared=shared))


@pytest.mark.parametrize(("stem", "oracle"), [
    ("imagenet", lambda w, x: pooled(relu(w.bn("stem_bn", w.conv("stem_conv", x, 2, 3))), 3, 2, 1)),
    ("antialiased", lambda w, x: blurred(pooled(relu(w.bn("stem_bn", w.conv("stem_conv", x, 2, 3))), 3, 1, 1))),
    ("small", lambda w, x: relu(w.bn("stem_bn", w.conv("stem_conv", x, 1, 1)))),
])  # fmt: skip
def test_stems_and_head(stem, oracle):
    agrees(ResNet(3, (1,), BasicBlock, stem=stem, width=4), image(2, 17, 14, 3), one_block(oracle, lambda y: y.mean((1, 2))))


@pytest.mark.parametrize(("pooling", "oracle"), [
    ("max", lambda y: y.max((1, 2))),
    ("average_max", lambda y: (y.mean((1, 2)) + y.max((1, 2))) / 2),
    ("flatten", lambda y: np.stack([np.concatenate([place for row in one for place in row]) for one in y])),
])  # fmt: skip
def test_poolings(pooling, oracle):
    net = one_block(lambda w, x: relu(w.bn("stem_bn", w.conv("stem_conv", x, 1, 1))), oracle)
    agrees(ResNet(3, (1,), BasicBlock, stem="small", width=4, pooling=pooling), image(2, 5, 4, 3), net)


def one_block(stem, pooling):
    """A residual net of one block."""

    def net(w, x):
        x = stem(w, x)
        inner = Weights.__new__(Weights)
        inner.params, inner.stats = w.params["stage1_block1"], w.stats["stage1_block1"]
        y = relu(inner.bn("bn1", inner.conv("conv1", x, 1, 1)))
        return w.dense("head", pooling(relu(x + inner.bn("bn2", inner.conv("conv2", y, 1, 1)))))

    return net


def test_alexnets_equal_numpy():
    def one_tower(w, x):
        x = pooled(relu(w.conv("conv1", x, 4, 2)), 3, 2)
        x = pooled(relu(w.conv("conv2", x, 1, 2)), 3, 2)
        return classified(w, relu(w.conv("conv5", relu(w.conv("conv4", relu(w.conv("conv3", x, 1, 1)), 1, 1)), 1, 1)))

    def two_towers(w, x):
        x = pooled(responded(relu(w.conv("conv1", x, 4, 2))), 3, 2)
        x = pooled(responded(relu(w.conv("conv2", x, 1, 2, 2))), 3, 2)
        return classified(w, relu(w.conv("conv5", relu(w.conv("conv4", relu(w.conv("conv3", x, 1, 1)), 1, 1, 2)), 1, 1, 2)))

    def classified(w, x):
        x = binned(pooled(x, 3, 2), 6).reshape(len(x), -1)
        return w.dense("head", relu(w.dense("dense2", relu(w.dense("dense1", x)))))

    x = image(1, 67, 100, 2)
    agrees(AlexNet(3, hidden=7), x, one_tower)
    agrees(AlexNet2012(3, hidden=7), x, two_towers)


def responded(x):
    y = np.zeros_like(x)
    for i in range(x.shape[-1]):
        y[..., i] = x[..., i] / (2 + 1e-4 * (x[..., max(0, i - 2) : i + 3] ** 2).sum(-1)) ** 0.75
    return y


def test_local_response_equals_the_papers_formula():
    x = 100 * image(2, 3, 2, 9)
    np.testing.assert_allclose(local_response(x), responded(np.asarray(x, np.float64)), rtol=1e-5)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_vgg_equals_numpy(batch_norm):
    def oracle(w, x):
        for stage, num_convs in ((1, 1), (2, 2)):
            for i in range(num_convs):
                x = w.conv(f"stage{stage}_conv{i + 1}", x, 1, 1)
                x = relu(w.bn(f"stage{stage}_bn{i + 1}", x) if batch_norm else x)
            x = pooled(x, 2, 2)
        x = relu(w.dense("dense1", binned(x, 3).reshape(len(x), -1)))
        return w.dense("head", relu(w.dense("dense2", x)))

    agrees(VGG(3, (1, 2), batch_norm=batch_norm, width=4, grid=3, hidden=5), image(2, 16, 11, 3), oracle)


@pytest.mark.parametrize("rectified", [True, False])
def test_all_cnn_equals_numpy(rectified):
    def oracle(w, x):
        for i in range(1, 9):
            x = relu(w.conv(f"conv{i}", x, 2 if i in (3, 6) else 1, 0 if i >= 7 else 1))
        x = w.conv("head", x)
        return (relu(x) if rectified else x).mean((1, 2))

    agrees(AllCNN(4, width=3, rectified_head=rectified), image(2, 13, 10, 3), oracle)
