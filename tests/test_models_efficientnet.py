"""MobileNetV2 and EfficientNet: widths, repeats, squeezes, first values, BatchNorm's constants."""

import jax
import pytest

from cnn_jax.features import feature_names
from cnn_jax.layers import BatchNorm, Conv
from cnn_jax.models import efficientnet, mobilenet
from tests.traced_models import called, shapes


def test_channels_are_rounded_to_multiples_of_eight():
    for tenths in range(1, 4000):
        channels = tenths / 10
        multiples = [m for m in range(8, 800, 8) if m >= 0.9 * channels]
        assert mobilenet.round_channels(channels) == min(multiples, key=lambda m: (abs(m - channels), -m)), channels


# Published layer tables (Keras applications): stem, features of the seven stages, last 1×1; blocks of the seven stages.
EFFICIENTNETS = {
    efficientnet.efficientnet_b0: ((32, 16, 24, 40, 80, 112, 192, 320, 1280), (1, 2, 2, 3, 3, 4, 1)),
    efficientnet.efficientnet_b3: ((40, 24, 32, 48, 96, 136, 232, 384, 1536), (2, 3, 3, 5, 5, 6, 2)),
}


@pytest.mark.parametrize("make", EFFICIENTNETS, ids=("b0", "b3"))
def test_efficientnet_widths_and_repeats(make):
    widths, repeats = EFFICIENTNETS[make]
    maps = feature_names(make(num_outputs=3), (64, 64, 3))
    names = ["stem_conv", *(f"stage{i + 1}_block1" for i in range(7)), "last_conv"]
    assert tuple(maps[name][-1] for name in names) == widths
    assert [maps[name][0] for name in names] == [32, 32, 16, 8, 4, 4, 2, 2, 2]
    assert tuple(sum(name.startswith(f"stage{i + 1}_") and "/" not in name for name in maps) for i in range(7)) == repeats


def test_efficientnet_squeezes_to_a_quarter_of_the_blocks_input():
    params = shapes(efficientnet.efficientnet_b0(num_outputs=3), (32, 32, 3))["params"]
    assert params["stage1_block1"]["squeeze"]["reduce"]["kernel"].shape == (1, 1, 32, 8)
    assert params["stage2_block1"]["squeeze"]["reduce"]["kernel"].shape == (1, 1, 96, 4)
    assert params["stage7_block1"]["squeeze"]["expand"]["kernel"].shape == (1, 1, 48, 1152)
    assert "expand_conv" not in params["stage1_block1"]


def test_large_efficientnets_have_the_authors_batch_norm():
    for make, expected in ((efficientnet.efficientnet_b4, (0.9, 1e-5)), (efficientnet.efficientnet_b5, (0.99, 1e-3))):
        norms = called(make(num_outputs=3, width=0.3, depth=0.3), (32, 32, 3), BatchNorm, train=True)
        assert {(module.momentum, module.epsilon) for module, _ in norms} == {expected}


def test_depthwise_kernels_start_with_their_own_fan():
    """√(2 / 9) for a 3×3, however many channels there are."""
    kernel = mobilenet.depthwise_init(jax.random.key(0), (3, 3, 1, 384))
    assert kernel.std() == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    convs = [module for module, _ in called(mobilenet.MobileNetV2(num_outputs=3), (32, 32, 3), Conv, train=True)]
    assert [conv.groups > 1 for conv in convs] == [conv.kernel_init is mobilenet.depthwise_init for conv in convs]
    assert sum(conv.groups > 1 for conv in convs) == 17
