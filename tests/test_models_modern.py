"""The networks from Inception to ConvNeXt: torchvision's counts and outputs, precision, least images, refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.features import feature_names
from cnn_jax.layers import BatchNorm, Conv, Dropout, Head, LayerNorm, StochasticDepth
from cnn_jax.models import convnext, densenet, efficientnet, googlenet, inception_v3, mobilenet
from tests.small_networks import SMALL
from tests.traced_models import called, filled, images, num_params, outputs_and_shapes, shapes

# Parameters at 1000 classes, torchvision's. The sizes of the registry are counted in test_models.py; here what options make of them.
COUNTS = {
    partial(googlenet.GoogLeNet, auxiliary=True): 13_004_888,
    partial(inception_v3.InceptionV3, auxiliary=True): 27_161_264,
    partial(mobilenet.MobileNetV2, width=0.35): 1_677_128,
    partial(mobilenet.MobileNetV2, width=0.5): 1_968_680,
    partial(mobilenet.MobileNetV2, width=1.4): 6_108_776,
}
# Of the normalisation, as torchvision's; too small to show in outputs.
EPSILON = {"googlenet": 1e-3, "inception_v3": 1e-3, "mobilenet": 1e-5, "efficientnet": 1e-5, "densenet": 1e-5, "convnext": 1e-6}


@pytest.mark.parametrize("make", COUNTS, ids=lambda make: make.func.__name__)
def test_parameter_counts(make):
    assert num_params(shapes(make(num_outputs=1000), (75, 75, 3))) == COUNTS[make]


# What torchvision 0.28 computes in float64 from `filled` variables (gradients were compared too, in the same way, when this was written).
# The Inceptions in training mode, their auxiliary logits beside the others; the rest in evaluation.
TORCHVISION_OUTPUTS = {
    "googlenet": [[0.0946, -1.0161, -1.1066], [0.4800, 0.2572, -0.2272]],
    "inception_v3": [[-0.3575, 0.5038, -0.2618], [-0.2026, 0.4837, -0.0666]],
    "mobilenet": [[-3.5960, -2.7871, 1.7515], [-1.9420, -2.4867, 2.5176]],
    "efficientnet": [[32.2228, 12.8180, -13.0416], [1.3727, 39.3025, -35.0323]],
    "densenet": [[-2.4808, 14.9737, 8.8036], [-3.5966, 15.9598, 9.2137]],
    "convnext": [[-1.0079, -0.4434, 2.1503], [-1.0765, -1.2107, 2.1034]],
}
TORCHVISION_AUXILIARY = {
    "googlenet": {
        "auxiliary1": (0.3, [[2.2892, 0.9827, 0.2185], [1.9444, 0.7000, 1.1716]]),
        "auxiliary2": (0.3, [[-1.4434, -1.1876, -0.5804], [-0.7903, 2.2973, 1.4842]]),
    },
    "inception_v3": {"auxiliary": (0.4, [[-1.1412, 1.0012, 1.5193], [-0.8520, 0.3628, -0.5014]])},
}


@pytest.mark.parametrize("family", SMALL)
def test_outputs_are_torchvisions(family):
    make, side, _ = SMALL[family]
    model = make(num_outputs=3)
    x, variables = images(2, side, side + 8, 3), filled(shapes(model, (side, side, 3)))
    expected = TORCHVISION_AUXILIARY.get(family, {})
    apply = jax.jit(partial(model.apply, train=bool(expected), mutable=["batch_stats", "auxiliary"]))
    outputs, updates = apply(variables, x)
    np.testing.assert_allclose(outputs, TORCHVISION_OUTPUTS[family], atol=1e-3, rtol=1e-3)
    sown = updates.get("auxiliary", {})
    assert sown.keys() == expected.keys()
    for name, (weight, logits) in expected.items():
        ((got, got_weight),) = sown[name]["logits"]
        np.testing.assert_allclose(got, logits, atol=1e-3, rtol=1e-3)
        assert got_weight == pytest.approx(weight)


@pytest.mark.parametrize("family", SMALL)
def test_without_a_head_the_features_come_out(family):
    make, side, features = SMALL[family]
    outputs, variables = outputs_and_shapes(make(num_outputs=0), (side, side, 3))
    assert (outputs.shape, outputs.dtype) == ((2, features), jnp.float32)
    assert not {"head", "auxiliary", "auxiliary1", "auxiliary2"} & set(variables["params"])


@pytest.mark.parametrize("family", SMALL)
def test_every_layer_has_its_precision_epsilon_and_device_axis(family):
    make, side, _ = SMALL[family]
    model = make(num_outputs=3, dtype=jnp.bfloat16, axis_name="devices")
    found = called(model, (side, side, 3), (BatchNorm, Conv, Dropout, Head, LayerNorm, StochasticDepth), train=True)
    for module, output in found:
        assert output.dtype == (jnp.float32 if isinstance(module, Head) else jnp.bfloat16), module.path
        assert getattr(module, "axis_name", "devices") == "devices", module.path
        assert getattr(module, "epsilon", EPSILON[family]) == EPSILON[family], module.path
    assert {type(module) for module, _ in found} >= {Conv, Head, StochasticDepth if family == "convnext" else BatchNorm}


def test_stochastic_depth_grows_linearly():
    def rates(make):
        return [module.rate for module, _ in called(make(num_outputs=3), (64, 64, 3), StochasticDepth, train=True)]

    residual = [2, 4, 6, 7, 9, 10, 12, 13, 14]  # B0's blocks with a shortcut, of 0 to 15
    np.testing.assert_allclose(rates(efficientnet.efficientnet_b0), [0.2 * i / 16 for i in residual])
    np.testing.assert_allclose(rates(convnext.convnext_tiny), np.linspace(0, 0.1, 18))
    assert set(rates(mobilenet.MobileNetV2)) == {0.0}


@pytest.mark.parametrize("family", ["mobilenet", "efficientnet", "densenet"])
def test_the_small_stem_keeps_the_resolution(family):
    make, _, _ = SMALL[family]
    by_stem = [feature_names(make(num_outputs=3, stem=stem), (32, 32, 3))["stem_conv"][0] for stem in ("imagenet", "small")]
    assert by_stem == [16, 32]


@pytest.mark.parametrize(
    ("make", "least"),
    [
        (googlenet.GoogLeNet, 15),
        (inception_v3.InceptionV3, 75),
        (mobilenet.MobileNetV2, 1),
        (efficientnet.efficientnet_b0, 1),
        (densenet.densenet121, 29),
        (densenet.densenet100, 4),
        (convnext.convnext_tiny, 32),
        (partial(convnext.convnext_tiny, patch=1), 8),
    ],
)
def test_least_image_side(make, least):
    model = make(num_outputs=3)
    assert outputs_and_shapes(model, (least, least, 3))[0].shape == (2, 3)
    if least > 1:
        with pytest.raises(ValueError, match=f"images of {least - 1}×{least - 1} are too small for .* at least {least}\n"):
            shapes(model, (least - 1, least - 1, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(googlenet.GoogLeNet, large_window=4), "large_window=4 must be odd and positive"),
        (partial(mobilenet.MobileNetV2, width=0.0), "width=0.0 must be positive"),
        (partial(mobilenet.MobileNetV2, width=float("nan")), "width=nan must be positive"),
        (partial(efficientnet.efficientnet_b0, depth=-1.0), "width=1.0 and depth=-1.0 must be positive"),
        (partial(mobilenet.MobileNetV2, stem="tiny"), "stem='tiny' must be one of imagenet, small"),
        (partial(efficientnet.efficientnet_b0, stem="tiny"), "stem='tiny' must be one of imagenet, small"),
        (partial(densenet.densenet121, stem="tiny"), "stem='tiny' must be one of imagenet, small"),
        (partial(densenet.densenet121, growth=0), "growth=0, width=64, bottleneck=4 and each of block_sizes=.* must be at least 1"),
        (partial(densenet.densenet121, block_sizes=()), r"block_sizes=\(\) must be at least 1"),
        (partial(convnext.convnext_tiny, widths=(8, 8)), r"widths=\(8, 8\) must have one number for each stage of stage_sizes="),
        (partial(convnext.convnext_tiny, patch=0), "patch=0, each of widths=.* must be at least 1"),
        (partial(convnext.convnext_tiny, stochastic_depth=1.5), r"rate=1\.0\d+ must be in \[0, 1\]"),
        (partial(mobilenet.MobileNetV2, dropout=-0.1), "rate=-0.1 must be in"),
    ],
)
def test_impossible_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        shapes(make(num_outputs=3), (64, 64, 3))
