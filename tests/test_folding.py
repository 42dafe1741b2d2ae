"""Networks with their BatchNorm folded give the outputs they gave before, in every family that has any."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.anatomy import anatomy
from cnn_jax.features import apply_with_features, feature_names
from cnn_jax.folding import Folded, fold_batch_norm
from cnn_jax.layers import BatchNorm, Conv, Embedder, Head, Scorer, Siamese
from cnn_jax.models import densenet, googlenet, inception_v3, mobilenet, plain, preactivation, resnet, vgg
from cnn_jax.registry import MODELS
from tests.folded_models import fold_and_compare, lively, norms
from tests.model_sizes import FAMILIES, SIDE
from tests.small_networks import SMALL
from tests.traced_models import images, shapes


class Row(nn.Module):
    """Blocks in a row and a head: a network in small."""

    blocks: tuple[nn.Module, ...]

    @nn.compact
    def __call__(self, x, train: bool):
        for block in self.blocks:
            x = block(x, train)
        return Head(5, name="head")(x.mean((1, 2)))


_TWO = {"num_outputs": 5, "stage_sizes": (1, 1)}
_grouped = partial(resnet.Bottleneck, groups=4, group_width=16, recalibrate=resnet.squeeze_excitation)
_mixed = partial(inception_v3.Mixed, unit=googlenet.ConvUnit)
_forked, _halving = (((3, (1, 1)),), ((4, (1, 1)), (5, (1, 3), (3, 1)))), (((3, (1, 1)), (4, (3, 3))),)
_inverted = partial(mobilenet.InvertedResidual, conv=partial(Conv, use_bias=False), norm=BatchNorm)
_squeezed = partial(_inverted, activation="silu", window=5, squeeze=2)
# Networks, or blocks of theirs; the side of their images; the norms that are left.
NETWORKS = {
    "ResNet basic": (resnet.resnet8(**_TWO, width=8), 8, []),
    "ResNet with groups and SE": (resnet.ResNet(**_TWO, block=_grouped, width=16), 16, []),
    "ResNet D": (resnet.resnet50d(**_TWO, width=8), 16, []),
    "ResNet antialiased": (resnet.resnet18_antialiased(**_TWO, width=8), 16, []),
    # Of the norms at a block's beginning only that behind a bare stem follows a convolution.
    "PreActivationResNet": (preactivation.preresnet20(**_TWO, width=8), 8, ["last_bn", "stage2_block1/bn1"]),
    "PreActivationResNet bottlenecks": (
        preactivation.preresnet50(**_TWO, width=8), 16, ["last_bn", "stage1_block1/bn1", "stage2_block1/bn1"],
    ),
    "PlainNet": (plain.plain20(**_TWO, width=8), 8, []),
    "VGG": (vgg.vgg11_bn(num_outputs=5, width=8, hidden=16, grid=1), 32, []),
    "GoogLeNet": (Row((googlenet.Inception((4, 3, 5, 2, 4, 3), 3, googlenet.ConvUnit),)), 6, []),
    "InceptionV3": (Row((_mixed(3, _forked), _mixed(0, _halving))), 6, []),
    "MobileNetV2": (Row((_inverted(3, 1, 2), _inverted(4, 2, 1))), 6, []),
    "EfficientNet": (Row((_squeezed(3, 1, 2), _squeezed(4, 2, 1))), 6, []),
    "DenseNet": (
        densenet.densenet121(num_outputs=5, block_sizes=(1, 2), growth=4, width=6), 16,
        ["block1_layer1/bn1", "block2_layer1/bn1", "block2_layer2/bn1", "last_bn", "transition1/bn"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_gives_the_same_outputs(name):
    model, side, left = NETWORKS[name]
    folded, fewer = fold_and_compare(model, (side, side, 3), images(3, side, side + 4, 3))
    assert norms(fewer) == left
    assert len(folded.pairs) == len(norms(shapes(model, (side, side, 3)))) - len(left)


# The norms of the auxiliary heads do not run at inference.
WHOLE = {
    "googlenet": (15, ["auxiliary1/unit/bn", "auxiliary2/unit/bn"]),
    "inception_v3": (75, ["auxiliary/unit1/bn", "auxiliary/unit2/bn"]),
    "mobilenet": (8, []),
    "efficientnet": (8, []),
}


@pytest.mark.parametrize("family", ["inception_v3", "efficientnet"])
def test_of_deep_nets_of_convolutions_and_norms_nothing_is_left(family):
    side, left = WHOLE[family]
    model = SMALL[family][0](num_outputs=5)
    folded = jax.eval_shape(lambda v: fold_batch_norm(model, v, (side, side, 3))[1], shapes(model, (side, side, 3)))
    assert norms(folded) == left


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Error writing persistent compilation cache")  # calls of oneDNN cannot be written
@pytest.mark.parametrize("family", WHOLE)
def test_deep_nets_give_the_same_outputs(family):
    side, left = WHOLE[family]
    _, fewer = fold_and_compare(SMALL[family][0](num_outputs=5), (side, side, 3), images(3, side, side + 4, 3))
    assert norms(fewer) == left


def test_every_family_with_batch_norm_is_among_these():
    for family in {*FAMILIES} - {name.split()[0] for name in NETWORKS}:
        name = FAMILIES[family][0]
        side = SIDE.get(name, 32)
        assert "batch_stats" not in shapes(MODELS[name](num_outputs=5), (side, side, 3)), name


@pytest.mark.parametrize("wrap", [Embedder, Scorer, Siamese])
def test_wrapped_networks_are_folded_and_folded_ones_are_wrapped(wrap):
    network, x = resnet.resnet8(num_outputs=1 if wrap is Scorer else 5, stage_sizes=(1,), width=4), images(3, 8, 8, 4)
    folded, fewer = fold_and_compare(wrap(network), (8, 8, 4), x)
    assert norms(fewer) == []
    assert folded.pairs[0] == ("network/stem_conv", "network/stem_bn")
    pairs = tuple((layer.removeprefix("network/"), norm.removeprefix("network/")) for layer, norm in folded.pairs)
    within = wrap(Folded(network, pairs))
    both = jax.jit(lambda v, x: [model.apply(v, x, train=False) for model in (folded, within)])
    np.testing.assert_array_equal(*both(fewer, x))


def test_a_folded_network_within_another_is_not_folded_again():
    network, shape = preactivation.preresnet20(**_TWO, width=4), (8, 8, 3)
    fewer = jax.eval_shape(lambda v: fold_batch_norm(network, v, shape)[1], shapes(network, shape))
    folded, _ = fold_batch_norm(network, lively(network, shape), shape)
    again, still = fold_and_compare(Embedder(folded), shape, images(3, *shape))
    assert again.pairs == ()
    assert norms(still) == [f"network/{path}" for path in norms(fewer)]


def test_in_bfloat16_outputs_are_equal_to_its_rounding():
    model = Row((_inverted(8, 1, 3, conv=partial(Conv, use_bias=False, dtype=jnp.bfloat16)),))
    folded, _ = fold_and_compare(model, (6, 6, 3), images(3, 6, 6, 3), rtol=2e-2)
    assert len(folded.pairs) == 3


def test_the_norms_are_gone_and_all_else_keeps_its_name():
    model, shape = resnet.resnet8(**_TWO, width=8), (8, 8, 3)
    variables, x = lively(model, shape), images(2, *shape)
    names = ["stem_bn", "stage2_block1/bn2", "stage2_block1"]

    def run(variables, x):
        folded, fewer = fold_batch_norm(model, variables, shape)
        program = str(jax.make_jaxpr(partial(folded.apply, train=False))(fewer, x))
        assert [program.count(f" {name}") for name in ("correlation[", "rsqrt ", "sub ", "mul ")] == [6, 0, 0, 0]
        assert feature_names(folded, shape) == feature_names(model, shape)
        before, after = ({layer.path: layer for layer in anatomy(m, shape)} for m in (model, folded))
        assert [*after] == [path for path in before if "bn" not in path]
        assert after["stem_conv"].num_params == before["stem_conv"].num_params + 8
        return [apply_with_features(m, v, x, names)[1] for m, v in ((model, variables), (folded, fewer))]

    before, after = jax.jit(run)(variables, x)
    for name in names:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-5, atol=1e-5 * np.abs(before[name]).max())


def test_what_cannot_be_folded_is_refused_with_a_way_out():
    model, shape = resnet.resnet8(num_outputs=5, width=4), (8, 8, 3)
    variables = lively(model, shape)
    with pytest.raises(ValueError, match=r"model=.* must be a Linen module"):
        fold_batch_norm(resnet.resnet8, variables, shape)
    with pytest.raises(ValueError, match=r"variables must be \{\"params\""):
        fold_batch_norm(model, variables["params"], shape)
    for without in ({"params": variables["params"]}, {**variables, "batch_stats": {}}):
        with pytest.raises(ValueError, match=r'must have "batch_stats".*without BatchNorm has nothing to fold: use it as it is'):
            fold_batch_norm(model, without, shape)
    with pytest.raises(ValueError, match="input_shape=8 must be a whole number of at least 1 for each spatial axis"):
        fold_batch_norm(model, variables, 8)
    folded, fewer = fold_batch_norm(model, variables, shape)
    with pytest.raises(ValueError, match="model is folded already: give the network"):
        fold_batch_norm(folded, {**fewer, "batch_stats": variables["batch_stats"]}, shape)
    with pytest.raises(ValueError, match="train=True is not for a folded network"):
        folded.apply(fewer, images(2, *shape), train=True)
