"""AlexNet, VGG, All-CNN, residual nets and plain ones: every parameter learns, precision, dropout, least images, refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.layers import Conv, Dropout
from cnn_jax.models import plain, preactivation, resnet, vgg
from cnn_jax.models.alexnet import AlexNet, AlexNet2012
from cnn_jax.models.all_cnn import AllCNN
from cnn_jax.models.plain import PlainNet
from cnn_jax.models.preactivation import PreActivationBlock, PreActivationBottleneck, PreActivationResNet
from cnn_jax.models.resnet import BasicBlock, Bottleneck, ResNet
from cnn_jax.models.vgg import VGG
from tests.traced_models import called, filled, images, shapes

VARIANTS = {
    "resnext": (ResNet(3, (1, 1), partial(Bottleneck, groups=4, group_width=16), width=16), 24),
    "se": (ResNet(3, (1, 1), partial(BasicBlock, recalibrate=resnet.squeeze_excitation), width=64, stem="small"), 6),
    "net_d": (ResNet(3, (1, 1), resnet.resnet50d.keywords["block"], stem="deep", width=8), 30),
    "antialiased": (ResNet(3, (1, 1), resnet.resnet50_antialiased.keywords["block"], stem="antialiased", width=8), 24),
    "preactivation": (PreActivationResNet(3, (1, 1), PreActivationBottleneck, width=8), 24),
    "wide": (PreActivationResNet(3, (2, 1), PreActivationBlock, stem="small", stem_width=4, width=8, dropout=0.3, stochastic_depth=0.2), 9),
    "flat": (PreActivationResNet(3, (2, 1), PreActivationBlock, stem="small", width=8, pooling="flatten"), 9),
}
OTHERS = {
    "alexnet": (AlexNet(3, hidden=16), 64), "alexnet2012": (AlexNet2012(3, hidden=16), 64), "all_cnn": (AllCNN(3, width=12), 12),
    "vgg": (VGG(3, (1, 2), width=4, grid=2, hidden=16), 9), "vgg_bn": (VGG(3, (1, 2), True, width=4, grid=2, hidden=16), 9),
    "plain": (PlainNet(3, (1, 2), stem="small", width=8), 9),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_learns_with_dropout_and_all(name):
    model, size = VARIANTS[name]
    x = images(4, size, size + 3, 3)
    variables = filled(shapes(model, x.shape[1:]))

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


def test_vgg_doubles_its_width_three_times_and_all_cnn_averages_over_6x6():
    widths = [m.features for m, _ in called(vgg.vgg16(num_outputs=2), (32, 32, 3), Conv)]
    assert widths == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert called(AllCNN(10), (32, 32, 3), Conv)[-1][1].shape == (2, 6, 6, 10)


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
    (ResNet(2, (1,), BasicBlock, pooling="avg"), "pooling='avg' must be one of average, max"),
    (PreActivationResNet(2, (1,), PreActivationBlock, pooling="avg"), "pooling='avg' must be one of average, max"),
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
