"""Residual nets: what sets each variant apart, stems, groups, strides, first values, shortcuts, stochastic depth."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen.initializers import ones, zeros

from cnn_jax.layers import BatchNorm, Conv, StochasticDepth
from cnn_jax.models import resnet
from cnn_jax.models.plain import PlainNet
from cnn_jax.models.preactivation import PreActivationBlock, PreActivationBottleneck, PreActivationResNet
from cnn_jax.models.resnet import BasicBlock, Bottleneck, ResNet
from cnn_jax.registry import MODELS
from tests.traced_models import called, filled, images, shapes

make_conv = partial(Conv, use_bias=False)


def test_deep_stem_is_three_small_convolutions():
    model = resnet.resnet50d(num_outputs=10, stage_sizes=(1,))
    params = shapes(model, (64, 64, 3))["params"]
    assert [params[f"stem_conv{i}"]["kernel"].shape for i in (1, 2, 3)] == [(3, 3, 3, 32), (3, 3, 32, 32), (3, 3, 32, 64)]
    strides = [m.stride for m, _ in called(model, (64, 64, 3), Conv) if m.name.startswith("stem")]
    assert strides == [2, 1, 1]


def test_resnext_has_groups_and_wide_nets_have_width():
    def kernels(name):
        block = shapes(MODELS[name](num_outputs=2, stage_sizes=(1, 1)), (64, 64, 3))["params"]["stage2_block1"]
        return [block[f"conv{i}"]["kernel"].shape for i in (1, 2, 3)]

    assert kernels("resnext50_32x4d") == [(1, 1, 256, 256), (3, 3, 8, 256), (1, 1, 256, 512)]
    assert kernels("resnext101_64x4d") == [(1, 1, 256, 512), (3, 3, 8, 512), (1, 1, 512, 512)]
    assert kernels("wide_resnet50_2") == [(1, 1, 256, 256), (3, 3, 256, 256), (1, 1, 256, 512)]


@pytest.mark.parametrize(("stride_in", "field"), [("3x3", 427), ("1x1", 483)])
def test_resnet50s_receptive_field_depends_on_the_convolution_that_strides(stride_in, field):
    size, jump = 1, 1
    for module, _ in called(resnet.resnet50(num_outputs=2, stride_in=stride_in), (64, 64, 3), Conv):
        if module.name != "shortcut_conv":
            size, jump = size + (module.window[0] - 1) * jump, jump * module.stride
        if module.name == "stem_conv":  # and the max pool after it
            size, jump = size + 2 * jump, jump * 2
    assert (size, jump) == (field, 32)


def test_zero_init_residual_makes_every_block_the_identity():
    x = jnp.abs(images(2, 6, 6, 8))
    quick = {"conv": partial(make_conv, kernel_init=ones), "norm": BatchNorm, "last_scale_init": zeros}
    for block in (BasicBlock(8, 1, **quick), Bottleneck(2, 1, **quick)):
        outputs, _ = jax.jit(partial(block.init_with_output, train=True))(jax.random.key(0), x)
        np.testing.assert_array_equal(outputs, x)
    for zero in (True, False):
        norms = called(resnet.resnet50d(num_outputs=2, stage_sizes=(2, 1), zero_init_residual=zero), (64, 64, 3), BatchNorm)
        assert {m.name for m, _ in norms if m.scale_init is zeros} == ({"bn3"} if zero else set())
        assert sum(m.scale_init is zeros for m, _ in norms) == (3 if zero else 0)


@pytest.mark.parametrize(("block", "last"), [(PreActivationBlock(8, 1, make_conv, BatchNorm), "conv2"),
                                             (PreActivationBottleneck(2, 1, make_conv, BatchNorm), "conv3")])  # fmt: skip
def test_nothing_stands_on_a_preactivation_nets_shortcut(block, last):
    x = images(2, 6, 6, 8)  # of both signs
    variables = filled(shapes(block, x.shape[1:]))
    variables["params"][last]["kernel"] = jnp.zeros_like(variables["params"][last]["kernel"])
    outputs, _ = jax.jit(partial(block.apply, train=True, mutable=["batch_stats"]))(variables, x)
    np.testing.assert_array_equal(outputs, x)


def test_only_the_first_preactivation_block_activates_before_the_split():
    net = PreActivationResNet(3, (2, 1), PreActivationBlock, stem="small", width=4)
    assert [m.shared for m, _ in called(net, (8, 8, 3), PreActivationBlock)] == [True, False, False]
    assert all(m.use_bias is False for m, _ in called(net, (8, 8, 3), Conv))


def test_a_plain_net_is_the_residual_net_without_its_shortcuts():
    x = images(2, 8, 8, 3)
    options = {"stage_sizes": (1, 1), "stem": "small", "width": 4}
    models = ResNet(3, block=BasicBlock, **options), PlainNet(3, **options)
    residual, own = jax.jit(lambda key: [model.init(key, x, train=False) for model in models])(jax.random.key(7))
    without = {c: {n: {k: v for k, v in b.items() if not k.startswith("shortcut")} for n, b in t.items()} for c, t in residual.items()}
    assert jax.tree.structure(own) == jax.tree.structure(without)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(without), strict=True))


def test_antialiased_nets_move_less_when_the_image_moves():
    """Zhang 2019: a shift by one pixel changes the features less, for nets of the same weights and images without the finest detail."""
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(16, 49, 49, 3))
    for _ in range(2):
        smooth = sum(np.roll(smooth, (i, j), (1, 2)) for i in range(5) for j in range(5)) / 5
    here, moved = (jnp.array(smooth[:, 8:40, 8 + i : 40 + i] / smooth.std(), jnp.float32) for i in (0, 1))
    changes = []
    for name in ("resnet18", "resnet18_antialiased"):
        model = MODELS[name](stage_sizes=(1, 1), width=16, num_outputs=0)
        variables, apply = filled(shapes(model, here.shape[1:])), jax.jit(partial(model.apply, train=False))
        before, after = (apply(variables, x) for x in (here, moved))
        changes.append(jnp.linalg.norm(after - before) / jnp.linalg.norm(before - before.mean(0)[None]))
    assert changes[1] < 0.8 * changes[0], changes


@pytest.mark.parametrize("model", [
    ResNet(3, (1, 2), BasicBlock, stem="small", width=4, stochastic_depth=0.6),
    PreActivationResNet(3, (1, 2), PreActivationBlock, stem="small", width=4, stochastic_depth=0.6),
])  # fmt: skip
def test_stochastic_depth_rises_linearly_and_drops_whole_branches(model):
    assert [m.rate for m, _ in called(model, (8, 8, 3), StochasticDepth)] == pytest.approx([0.2, 0.4, 0.6])
    x = images(4, 8, 8, 3)
    variables = filled(shapes(model, x.shape[1:]))
    assert called(model, (8, 8, 3))  # evaluation asks for no key

    @jax.jit
    def trained(key):
        return model.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": key})[0]

    assert not np.allclose(trained(jax.random.key(1)), trained(jax.random.key(2)))
