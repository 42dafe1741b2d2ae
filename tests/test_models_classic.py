"""AlexNet, VGG, All-CNN, residual nets and plain ones: published sizes and costs, what sets each variant apart."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen.initializers import ones, zeros

from cnn_jax.layers import BatchNorm, Conv, Dropout, StochasticDepth
from cnn_jax.models import alexnet, all_cnn, plain, preactivation, resnet, vgg
from cnn_jax.models.alexnet import AlexNet, AlexNet2012
from cnn_jax.models.all_cnn import AllCNN
from cnn_jax.models.plain import PlainNet
from cnn_jax.models.preactivation import PreActivationBlock, PreActivationBottleneck, PreActivationResNet
from cnn_jax.models.resnet import BasicBlock, Bottleneck, ResNet
from cnn_jax.models.vgg import VGG

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Parameters; multiply-adds where they are published. Sources: torchvision's table of weights; timm (seresnet, resnet50d, resnet101d,
# and resnetv2_* for preresnet50 to 152); pytorchcv's CIFAR-10 table for the thin nets; the papers. None: counted here only.
IMAGENET = {
    "AlexNet": (61_100_840, 0.714e9), "AlexNet2012": (60_965_224, 0.724e9),
    "vgg11": (132_863_336, 7.609e9), "vgg11_bn": (132_868_840, 7.609e9), "vgg13": (133_047_848, 11.308e9),
    "vgg13_bn": (133_053_736, 11.308e9), "vgg16": (138_357_544, 15.47e9), "vgg16_bn": (138_365_992, 15.47e9),
    "vgg19": (143_667_240, 19.632e9), "vgg19_bn": (143_678_248, 19.632e9),
    "resnet18": (11_689_512, 1.814e9), "resnet34": (21_797_672, 3.664e9), "resnet50": (25_557_032, 4.089e9),
    "resnet101": (44_549_160, 7.801e9), "resnet152": (60_192_808, 11.514e9),
    "resnext50_32x4d": (25_028_904, 4.23e9), "resnext101_32x8d": (88_791_336, 16.414e9), "resnext101_64x4d": (83_455_272, 15.46e9),
    "wide_resnet50_2": (68_883_240, 11.398e9), "wide_resnet101_2": (126_886_696, 22.753e9),
    "seresnet18": (11_778_592, None), "seresnet50": (28_088_024, 4.11e9),
    "resnet50d": (25_576_264, 4.35e9), "resnet101d": (44_568_392, 8.08e9),
    "resnet18_antialiased": (11_689_512, None), "resnet50_antialiased": (25_557_032, None),
    "preresnet18": (11_687_720, None), "preresnet34": (21_795_880, None), "preresnet50": (25_549_352, 4.09e9),
    "preresnet101": (44_541_480, None), "preresnet152": (60_185_128, None), "preresnet200": (64_666_152, None),
    "plain18": (11_515_688, 1.8e9), "plain34": (21_623_848, 3.6e9),
}  # fmt: skip
CIFAR = {
    "AllCNN": (1_369_738, None),
    "resnet20": (272_474, 41.29e6), "resnet56": (855_770, 127.06e6), "resnet110": (1_730_714, 255.7e6),
    "preresnet20": (272_282, 41.27e6), "preresnet56": (855_578, 127.03e6), "preresnet110": (1_730_522, 255.68e6),
    "preresnet164": (1_703_258, 255.08e6),
    "wrn_16_4": (2_748_890, None), "wrn_16_8": (10_961_370, None), "wrn_28_10": (36_479_194, 5_246.98e6),
    "wrn_40_2": (2_243_546, None), "wrn_40_4": (8_949_210, None),
    "plain20": (269_722, None), "plain56": (853_018, None),
}  # fmt: skip
PUBLISHED = {name: (*v, (224, 224, 3), 1000) for name, v in IMAGENET.items()} | {name: (*v, (32, 32, 3), 10) for name, v in CIFAR.items()}
HOMES = (alexnet, all_cnn, plain, preactivation, resnet, vgg)


def named(name):
    return next(getattr(home, name) for home in HOMES if hasattr(home, name))


make_conv = partial(Conv, use_bias=False)


def image(*shape):
    return jnp.array(np.random.default_rng(3).normal(size=shape), jnp.float32)


def drawn(model, x):
    """First values as He's, but drawn by NumPy, which compiles nothing."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        constant = {"var": 1, "scale": 1, "mean": 0, "bias": 0}.get(path[-1].key)
        spread = (2 / max(math.prod(leaf.shape[:-1]), 1)) ** 0.5
        return jnp.array(rng.normal(size=leaf.shape) * spread if constant is None else np.full(leaf.shape, constant), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False)))


def shapes(model, shape):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False))


def called(model, shape, kind=nn.Module, **options):
    """The modules of `kind` in the order of their calls, each with its output's shape and type."""
    found = []

    def record(next_fun, args, kwargs, context):
        result = next_fun(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(context.module, kind):
            found.append((context.module, result))
        return result

    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    with nn.intercept_methods(record):
        jax.eval_shape(lambda: model.init(keys, jnp.zeros((2, *shape)), **{"train": False} | options))
    return found


def count_macs(jaxpr):
    """Multiply-adds of the convolutions and products in a program, from the shapes of its operations alone."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out_features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            total += math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // out_features
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += math.prod(equation.outvars[0].aval.shape) * math.prod(equation.invars[0].aval.shape[i] for i in contracted)
        total += sum(count_macs(v.jaxpr) for v in equation.params.values() if hasattr(v, "jaxpr"))
    return total


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_cost_are_those_published(name):
    num_params, macs, shape, classes = PUBLISHED[name]
    model = named(name)(num_outputs=classes)
    start = partial(model.init_with_output, jax.random.key(0), train=False)
    program, (_, variables) = jax.make_jaxpr(start, return_shape=True)(jnp.zeros((1, *shape)))
    assert sum(p.size for p in jax.tree.leaves(variables["params"])) == num_params
    if macs is not None:  # some sources count BatchNorm and pooling too, and the papers round
        assert count_macs(program.jaxpr) == pytest.approx(macs, rel=0.03)


def test_deep_stem_is_three_small_convolutions():
    params = shapes(resnet.resnet50d(num_outputs=10), (64, 64, 3))["params"]
    assert [params[f"stem_conv{i}"]["kernel"].shape for i in (1, 2, 3)] == [(3, 3, 3, 32), (3, 3, 32, 32), (3, 3, 32, 64)]
    strides = [m.stride for m, _ in called(resnet.resnet50d(num_outputs=10), (64, 64, 3), Conv) if m.name.startswith("stem")]
    assert strides == [2, 1, 1]


def test_vgg_doubles_its_width_three_times_and_all_cnn_averages_over_6x6():
    widths = [m.features for m, _ in called(vgg.vgg16(num_outputs=2), (32, 32, 3), Conv)]
    assert widths == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert called(AllCNN(10), (32, 32, 3), Conv)[-1][1].shape == (2, 6, 6, 10)


def test_resnext_has_groups_and_wide_nets_have_width():
    def kernels(name):
        block = shapes(named(name)(num_outputs=2), (64, 64, 3))["params"]["stage2_block1"]
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
    x = jnp.abs(image(2, 6, 6, 8))
    quick = {"conv": partial(make_conv, kernel_init=ones), "norm": BatchNorm, "last_scale_init": zeros}
    for block in (BasicBlock(8, 1, **quick), Bottleneck(2, 1, **quick)):
        outputs, _ = jax.jit(partial(block.init_with_output, train=True))(jax.random.key(0), x)
        np.testing.assert_array_equal(outputs, x)
    for zero in (True, False):
        norms = called(resnet.resnet50d(num_outputs=2, zero_init_residual=zero), (64, 64, 3), BatchNorm)
        assert {m.name for m, _ in norms if m.scale_init is zeros} == ({"bn3"} if zero else set())
        assert sum(m.scale_init is zeros for m, _ in norms) == (16 if zero else 0)


@pytest.mark.parametrize(("block", "last"), [(PreActivationBlock(8, 1, make_conv, BatchNorm), "conv2"),
                                             (PreActivationBottleneck(2, 1, make_conv, BatchNorm), "conv3")])  # fmt: skip
def test_nothing_stands_on_a_preactivation_nets_shortcut(block, last):
    x = image(2, 6, 6, 8)  # of both signs
    variables = drawn(block, x)
    variables["params"][last]["kernel"] = jnp.zeros_like(variables["params"][last]["kernel"])
    outputs, _ = block.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(outputs, x)


def test_only_the_first_preactivation_block_activates_before_the_split():
    net = PreActivationResNet(3, (2, 1), PreActivationBlock, stem="small", width=4)
    assert [m.shared for m, _ in called(net, (8, 8, 3), PreActivationBlock)] == [True, False, False]
    assert all(m.use_bias is False for m, _ in called(net, (8, 8, 3), Conv))


def test_a_plain_net_is_the_residual_net_without_its_shortcuts():
    x = image(2, 8, 8, 3)
    options = {"stage_sizes": (1, 1), "stem": "small", "width": 4}
    residual, own = (m.init(jax.random.key(7), x, train=False) for m in (ResNet(3, block=BasicBlock, **options), PlainNet(3, **options)))
    without = {c: {n: {k: v for k, v in b.items() if not k.startswith("shortcut")} for n, b in t.items()} for c, t in residual.items()}
    assert jax.tree.structure(own) == jax.tree.structure(without)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(without), strict=True))


def test_antialiased_nets_move_less_when_the_image_moves():
    """Zhang 2019: a shift by one pixel changes the features less, for nets of the same weights and images without the finest detail."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(16, 49, 49, 3))
    for _ in range(2):
        images = sum(np.roll(images, (i, j), (1, 2)) for i in range(5) for j in range(5)) / 5
    here, moved = (jnp.array(images[:, 8:40, 8 + i : 40 + i] / images.std(), jnp.float32) for i in (0, 1))
    changes = []
    for name in ("resnet18", "resnet18_antialiased"):
        model = named(name)(stage_sizes=(1, 1), width=16, num_outputs=0)
        variables = drawn(model, here)
        before, after = (jax.jit(partial(model.apply, train=False))(variables, x) for x in (here, moved))
        changes.append(jnp.linalg.norm(after - before) / jnp.linalg.norm(before - before.mean(0)[None]))
    assert changes[1] < 0.8 * changes[0], changes


@pytest.mark.parametrize("model", [
    ResNet(3, (1, 2), BasicBlock, stem="small", width=4, stochastic_depth=0.6),
    PreActivationResNet(3, (1, 2), PreActivationBlock, stem="small", width=4, stochastic_depth=0.6),
])  # fmt: skip
def test_stochastic_depth_rises_linearly_and_drops_whole_branches(model):
    assert [m.rate for m, _ in called(model, (8, 8, 3), StochasticDepth)] == pytest.approx([0.2, 0.4, 0.6])
    x = image(4, 8, 8, 3)
    variables = drawn(model, x)
    assert called(model, (8, 8, 3))  # evaluation asks for no key

    @jax.jit
    def trained(key):
        return model.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": key})[0]

    assert not np.allclose(trained(jax.random.key(1)), trained(jax.random.key(2)))


def test_dropout_stands_where_the_papers_put_it():
    def rates(model, size):
        return {m.name: m.rate for m, _ in called(model, (size, size, 3), Dropout, train=True)}

    assert rates(AllCNN(10), 32) == {"dropout0": 0.2, "dropout3": 0.5, "dropout6": 0.5}
    assert rates(AlexNet(10), 64) == rates(VGG(10, (1, 1), hidden=4), 64) == {"dropout1": 0.5, "dropout2": 0.5}
    for net, before in ((AlexNet(10, hidden=4), 9216), (AlexNet2012(10, hidden=4), 4)):
        assert called(net, (64, 64, 3), Dropout)[0][1].shape == (2, before)
    wide = PreActivationResNet(10, (1,), PreActivationBlock, stem="small", width=4, dropout=0.3)
    assert [m.name for m, _ in called(wide, (8, 8, 3))][1:7] == ["bn1", "conv1", "bn2", "dropout", "conv2", "drop"]
    assert rates(wide, 8) == {"dropout": 0.3}


VARIANTS = {
    "resnext": (ResNet(3, (1, 1), partial(Bottleneck, groups=4, group_width=16), width=16), 24),
    "se": (ResNet(3, (1, 1), partial(BasicBlock, recalibrate=resnet.squeeze_excitation), width=64, stem="small"), 6),
    "net_d": (ResNet(3, (1, 1), resnet.resnet50d.keywords["block"], stem="deep", width=8), 30),
    "antialiased": (ResNet(3, (1, 1), resnet.resnet50_antialiased.keywords["block"], stem="antialiased", width=8), 24),
    "preactivation": (PreActivationResNet(3, (1, 1), PreActivationBottleneck, width=8), 24),
    "wide": (PreActivationResNet(3, (2, 1), PreActivationBlock, stem="small", stem_width=4, width=8, dropout=0.3, stochastic_depth=0.2), 9),
}
OTHERS = {
    "alexnet": (AlexNet(3, hidden=16), 64), "alexnet2012": (AlexNet2012(3, hidden=16), 64), "all_cnn": (AllCNN(3, width=12), 12),
    "vgg": (VGG(3, (1, 2), width=4, grid=2, hidden=16), 9), "vgg_bn": (VGG(3, (1, 2), True, width=4, grid=2, hidden=16), 9),
    "plain": (PlainNet(3, (1, 2), stem="small", width=8), 9),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_learns_with_dropout_and_all(name):
    model, size = VARIANTS[name]
    x = image(4, size, size + 3, 3)
    variables = drawn(model, x)

    @jax.jit
    @jax.grad
    def gradient(params):
        keys = {"dropout": jax.random.key(2)}
        outputs, _ = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"], rngs=keys)
        return jnp.square(outputs - jnp.arange(3.0)[None]).mean()

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(variables["params"])):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 1e-6, path


@pytest.mark.parametrize("name", VARIANTS | OTHERS)
def test_bfloat16_is_used_throughout_and_the_features_are_what_the_head_reads(name):
    model, size = (VARIANTS | OTHERS)[name]
    whole = called(model.clone(dtype=jnp.bfloat16), (size, size, 3))
    *inner, (_, logits) = [(m, y) for m, y in whole if m.name != "head"]
    assert (logits.shape, logits.dtype) == ((2, 3), jnp.float32)
    assert all(y.dtype == jnp.bfloat16 for _, y in inner)
    *_, (_, features) = called(model.clone(num_outputs=0), (size, size, 3))
    params = shapes(model, (size, size, 3))["params"]
    assert features.shape == (2, params["head"]["kernel"].shape[-2])
    assert features.dtype == jnp.float32
    assert "head" not in shapes(model.clone(num_outputs=0), (size, size, 3))["params"]


@pytest.mark.parametrize(("model", "least"), [
    (AlexNet(2, hidden=4), 63), (AlexNet2012(2, hidden=4), 63), (VGG(2, (1, 1, 1), hidden=4), 8), (vgg.vgg16(num_outputs=2), 32),
    (AllCNN(2), 9), (resnet.resnet18(num_outputs=2), 1), (resnet.resnet50d(num_outputs=2), 1),
    (resnet.resnet50_antialiased(num_outputs=2), 1), (preactivation.preresnet50(num_outputs=2), 1), (plain.plain20(num_outputs=2), 1),
])  # fmt: skip
def test_images_of_the_least_size_do_and_smaller_ones_are_refused_by_name(model, least):
    assert called(model, (least, least, 1))[-1][1].shape == (2, 2)
    if least > 1:
        with pytest.raises(ValueError, match=f"each side must be at least {least}"):
            shapes(model, (least - 1, least + 9, 1))


@pytest.mark.parametrize(("model", "message"), [
    (ResNet(2, (1,), BasicBlock, width=0), "width=0"),
    (ResNet(2, (1, 0), BasicBlock), r"stage_sizes=\(1, 0\)"),
    (ResNet(2, (1,), BasicBlock, stem="none"), "stem='none' must be one of imagenet"),
    (ResNet(2, (1,), BasicBlock, stem="deep", width=1), "width=1 must be at least 2"),
    (ResNet(2, (1,), BasicBlock, stride_in="1x1"), "stride_in='1x1'"),
    (ResNet(2, (1,), Bottleneck, stride_in="7x7"), "stride_in='7x7'"),
    (ResNet(2, (1,), BasicBlock, stochastic_depth=1.0), "stochastic_depth=1.0"),
    (resnet.resnext50_32x4d(num_outputs=2, width=8), "width=8 .* at least 16"),
    (PreActivationResNet(2, (1,), PreActivationBlock, stem_width=0), "stem_width=0"),
    (PreActivationResNet(2, (1,), PreActivationBlock, stem="deep"), "stem='deep'"),
    (PreActivationResNet(2, (1,), PreActivationBlock, stochastic_depth=-0.1), "stochastic_depth=-0.1"),
    (PreActivationResNet(2, (1,), PreActivationBlock, dropout=1.5), "rate=1.5"),
    (PlainNet(2, ()), "stage_sizes"),
    (VGG(2, (1, 0)), r"stage_sizes=\(1, 0\)"), (VGG(2, (1,), hidden=0), "hidden=0"), (VGG(2, (1,), dropout=-1.0), "rate=-1"),
    (AlexNet(2, hidden=0), "hidden=0"), (AlexNet2012(2, hidden=0), "hidden=0"), (AllCNN(2, width=0), "width=0"),
])  # fmt: skip
def test_options_out_of_range_are_named(model, message):
    with pytest.raises(ValueError, match=message):
        shapes(model, (64, 64, 3))
