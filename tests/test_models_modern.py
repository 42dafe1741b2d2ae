"""The networks from Inception to ConvNeXt: torchvision's outputs, and what is special to each family."""

import zlib
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.features import feature_names
from cnn_jax.layers import BatchNorm, Conv, Dropout, Head, LayerNorm, StochasticDepth
from cnn_jax.models import convnext, densenet, efficientnet, googlenet, inception_v3, mobilenet

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Parameters at 1000 classes, torchvision's. The sizes of the registry are counted in test_models.py; here what options make of them.
COUNTS = {
    partial(googlenet.GoogLeNet, auxiliary=True): 13_004_888,
    partial(inception_v3.InceptionV3, auxiliary=True): 27_161_264,
    partial(mobilenet.MobileNetV2, width=0.35): 1_677_128,
    partial(mobilenet.MobileNetV2, width=0.5): 1_968_680,
    partial(mobilenet.MobileNetV2, width=1.4): 6_108_776,
}

# One small network of each family, the image side it is run at, and the features before its head.
FAMILIES = {
    "googlenet": (partial(googlenet.GoogLeNet, auxiliary=True, dropout=0.0, auxiliary_dropout=0.0), 40, 1024),
    "inception_v3": (partial(inception_v3.InceptionV3, auxiliary=True, dropout=0.0), 299, 2048),
    "mobilenet": (partial(mobilenet.MobileNetV2, width=0.35, dropout=0.0), 40, 1280),
    "efficientnet": (partial(efficientnet.efficientnet_b0, width=0.3, depth=0.6, dropout=0.0, stochastic_depth=0.0), 40, 384),
    "densenet": (partial(densenet.densenet121, block_sizes=(2, 3, 1), growth=8, width=12), 40, 27),
    "convnext": (partial(convnext.convnext_tiny, stage_sizes=(1, 2, 1), widths=(8, 12, 20), stochastic_depth=0.0), 40, 20),
}

# Of the normalisation, as torchvision's; too small to show in outputs.
EPSILON = {"googlenet": 1e-3, "inception_v3": 1e-3, "mobilenet": 1e-5, "efficientnet": 1e-5, "densenet": 1e-5, "convnext": 1e-6}


def shapes_of(model, side: int):
    return outputs_and_shapes(model, side)[1]


def outputs_and_shapes(model, side: int):
    """Shapes of the outputs in evaluation, and of the variables at initialisation."""
    x = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    return jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False), x)


def num_params(variables) -> int:
    return sum(p.size for p in jax.tree.leaves(variables["params"]))


def filled(shapes):
    """Variables of these shapes, decided by their paths alone: lively enough that a wrong connection shows."""

    def fill(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        draws = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(leaf.shape)
        if name.endswith("kernel"):
            return jnp.array(draws * np.sqrt(3 / np.prod(leaf.shape[:-1])), jnp.float32)
        return jnp.array(1 + 0.1 * np.tanh(draws) if name.endswith(("scale", "var")) else 0.1 * draws, jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def images(height: int, width: int):
    return jnp.array(np.random.RandomState(7).standard_normal((2, height, width, 3)), jnp.float32)


def modules_called(model, side: int, kinds):
    """(module, output) of every module of these kinds, in the order of their outputs, in training."""
    found = []

    def note(next_fun, args, kwargs, context):
        result = next_fun(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(context.module, kinds):
            found.append((context.module, result))
        return result

    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    with nn.intercept_methods(note):
        jax.eval_shape(lambda: model.init(keys, jnp.zeros((2, side, side, 3)), train=True))
    return found


# Published numbers.


@pytest.mark.parametrize("make", COUNTS, ids=lambda make: make.func.__name__)
def test_parameter_counts(make):
    assert num_params(shapes_of(make(num_outputs=1000), 75)) == COUNTS[make]


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


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_are_torchvisions(family):
    make, side, _ = FAMILIES[family]
    model = make(num_outputs=3)
    x, variables = images(side, side + 8), filled(shapes_of(model, side))
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


# What holds for all of them.


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_head_the_features_come_out(family):
    make, side, features = FAMILIES[family]
    outputs, variables = outputs_and_shapes(make(num_outputs=0), side)
    assert (outputs.shape, outputs.dtype) == ((2, features), jnp.float32)
    assert not {"head", "auxiliary", "auxiliary1", "auxiliary2"} & set(variables["params"])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_has_its_precision_epsilon_and_device_axis(family):
    make, side, _ = FAMILIES[family]
    model = make(num_outputs=3, dtype=jnp.bfloat16, axis_name="devices")
    called = modules_called(model, side, (BatchNorm, Conv, Dropout, Head, LayerNorm, StochasticDepth))
    for module, output in called:
        assert output.dtype == (jnp.float32 if isinstance(module, Head) else jnp.bfloat16), module.path
        assert getattr(module, "axis_name", "devices") == "devices", module.path
        assert getattr(module, "epsilon", EPSILON[family]) == EPSILON[family], module.path
    assert {type(module) for module, _ in called} >= {Conv, Head, StochasticDepth if family == "convnext" else BatchNorm}


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
    assert outputs_and_shapes(model, least)[0].shape == (2, 3)
    if least > 1:
        with pytest.raises(ValueError, match=f"images of {least - 1}×{least - 1} are too small for .* at least {least}\n"):
            shapes_of(model, least - 1)


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
        shapes_of(make(num_outputs=3), 64)


@pytest.mark.parametrize("family", ["mobilenet", "efficientnet", "densenet"])
def test_the_small_stem_keeps_the_resolution(family):
    make, _, _ = FAMILIES[family]
    by_stem = [feature_names(make(num_outputs=3, stem=stem), (32, 32, 3))["stem_conv"][0] for stem in ("imagenet", "small")]
    assert by_stem == [16, 32]


# GoogLeNet and Inception v3.


@pytest.mark.parametrize("family", ["googlenet", "inception_v3"])
def test_auxiliary_heads_cost_nothing_in_evaluation(family):
    """The program that evaluates is the same, operation by operation, and needs none of their parameters."""
    make, side, _ = FAMILIES[family]
    variables = shapes_of(make(num_outputs=3), side)
    assert variables.keys() == {"params", "batch_stats"}  # nothing is sown at initialisation
    lean = {collection: {k: v for k, v in tree.items() if "auxiliary" not in k} for collection, tree in variables.items()}
    assert len(variables["params"]) - len(lean["params"]) == len(TORCHVISION_AUXILIARY[family])
    x = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    models = (make(num_outputs=3, auxiliary=auxiliary) for auxiliary in (False, True))
    without, with_them = (str(jax.make_jaxpr(partial(model.apply, train=False))(lean, x)) for model in models)
    assert without == with_them


def test_the_auxiliary_loss_teaches_the_auxiliary_head_and_what_lies_below():
    unit = partial(googlenet.ConvUnit, dtype=jnp.float32, axis_name=None)
    model = googlenet.Auxiliary(3, 0.0, unit, jnp.float32, None)
    x = images(5, 6)
    variables = model.init(jax.random.key(0), x, train=False)

    def loss(params, x):
        _, updates = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats", "auxiliary"])
        ((logits, weight),) = updates["auxiliary"]["logits"]
        return weight * jnp.square(logits - 1).mean()

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))(variables["params"], x)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path


@pytest.mark.parametrize("side", [3, 16, 17, 40])
def test_inception_v3_has_an_auxiliary_head_for_images_of_any_size(side):
    """75×75 images have maps of 3×3 there, 299×299 images 17×17."""
    head = inception_v3.Auxiliary(5, partial(googlenet.ConvUnit, dtype=jnp.float32, axis_name=None), jnp.float32)
    init = partial(head.init_with_output, train=True)
    logits, variables = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((2, side, side, 768), jnp.float32))
    assert logits.shape == (2, 5)
    assert variables["params"]["unit2"]["conv"]["kernel"].shape == (5, 5, 128, 768)


def test_googlenet_with_the_papers_large_window():
    """Each 5×5 has 25 weights a pair of channels where the 3×3 has 9."""
    pairs = sum(block[3] * block[4] for block in googlenet._BLOCKS.values())
    counts = [num_params(shapes_of(googlenet.GoogLeNet(num_outputs=3, large_window=size), 32)) for size in (3, 5)]
    assert counts[1] - counts[0] == 16 * pairs


def test_inception_v3_maps_have_the_papers_sizes():
    """Table 1 of the paper, at 299×299."""
    shapes = feature_names(inception_v3.InceptionV3(num_outputs=3), (299, 299, 3))
    published = {
        "conv1a": (149, 32), "conv2a": (147, 32), "conv2b": (147, 64), "mixed5d": (35, 288),
        "mixed6e": (17, 768), "mixed7a": (8, 1280), "mixed7c": (8, 2048),
    }  # fmt: skip
    assert {name: (shapes[name][0], shapes[name][2]) for name in published} == published


# MobileNetV2 and EfficientNet.


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
    shapes = feature_names(make(num_outputs=3), (64, 64, 3))
    names = ["stem_conv", *(f"stage{i + 1}_block1" for i in range(7)), "last_conv"]
    assert tuple(shapes[name][-1] for name in names) == widths
    assert [shapes[name][0] for name in names] == [32, 32, 16, 8, 4, 4, 2, 2, 2]
    assert tuple(sum(name.startswith(f"stage{i + 1}_") and "/" not in name for name in shapes) for i in range(7)) == repeats


def test_efficientnet_squeezes_to_a_quarter_of_the_blocks_input():
    params = shapes_of(efficientnet.efficientnet_b0(num_outputs=3), 32)["params"]
    assert params["stage1_block1"]["squeeze"]["reduce"]["kernel"].shape == (1, 1, 32, 8)
    assert params["stage2_block1"]["squeeze"]["reduce"]["kernel"].shape == (1, 1, 96, 4)
    assert params["stage7_block1"]["squeeze"]["expand"]["kernel"].shape == (1, 1, 48, 1152)
    assert "expand_conv" not in params["stage1_block1"]


def test_stochastic_depth_grows_linearly():
    def rates(make):
        return [module.rate for module, _ in modules_called(make(num_outputs=3), 64, StochasticDepth)]

    residual = [2, 4, 6, 7, 9, 10, 12, 13, 14]  # B0's blocks with a shortcut, of 0 to 15
    np.testing.assert_allclose(rates(efficientnet.efficientnet_b0), [0.2 * i / 16 for i in residual])
    np.testing.assert_allclose(rates(convnext.convnext_tiny), np.linspace(0, 0.1, 18))
    assert set(rates(mobilenet.MobileNetV2)) == {0.0}


def test_large_efficientnets_have_the_authors_batch_norm():
    for make, expected in ((efficientnet.efficientnet_b4, (0.9, 1e-5)), (efficientnet.efficientnet_b5, (0.99, 1e-3))):
        called = modules_called(make(num_outputs=3, width=0.3, depth=0.3), 32, BatchNorm)
        assert {(module.momentum, module.epsilon) for module, _ in called} == {expected}


def test_depthwise_kernels_start_with_their_own_fan():
    """√(2 / 9) for a 3×3, however many channels there are."""
    kernel = mobilenet.depthwise_init(jax.random.key(0), (3, 3, 1, 384))
    assert kernel.std() == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    convs = [module for module, _ in modules_called(mobilenet.MobileNetV2(num_outputs=3), 32, Conv)]
    assert [conv.groups > 1 for conv in convs] == [conv.kernel_init is mobilenet.depthwise_init for conv in convs]
    assert sum(conv.groups > 1 for conv in convs) == 17


# DenseNet.


def test_densenet_grows_by_its_rate_and_halves_between_blocks():
    shapes = feature_names(densenet.densenet121(num_outputs=3), (224, 224, 3))
    assert [shapes[f"block1_layer{j + 1}"] for j in range(6)] == [(56, 56, 64 + 32 * (j + 1)) for j in range(6)]
    ends = ("block1_layer6", "transition1", "block2_layer12", "transition2", "block3_layer24", "transition3", "block4_layer16")
    assert [shapes[name][-1] for name in ends] == [256, 128, 512, 256, 1024, 512, 1024]
    assert [shapes[name][0] for name in ends] == [56, 28, 28, 14, 14, 7, 7]


def test_recomputing_changes_nothing_and_a_dense_layer_hands_its_input_on():
    results = []
    for recompute in (False, True):
        model = densenet.DenseNet(num_outputs=3, block_sizes=(2,), growth=4, width=6, stem="small", recompute=recompute)
        variables = filled(shapes_of(model, 8))

        def loss(params, model=model, variables=variables):
            options = {"train": True, "mutable": ["batch_stats", "intermediates"], "capture_intermediates": not model.recompute}
            outputs, updates = model.apply({**variables, "params": params}, images(8, 9), **options)
            return jnp.square(outputs).mean(), updates

        assert ("remat" in str(jax.make_jaxpr(loss)(variables["params"]))) == recompute
        (value, updates), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
        results.append((value, updates["batch_stats"], gradients))
        if not recompute:
            stem, last = (updates["intermediates"][name]["__call__"][0] for name in ("stem_conv", "block1_layer2"))
            np.testing.assert_array_equal(last[..., : stem.shape[-1]], stem)
            assert last.shape[-1] == 6 + 2 * 4
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), *results)


# ConvNeXt.


def test_convnext_starts_near_the_identity():
    x = images(9, 10)
    program = str(jax.make_jaxpr(partial(convnext.ConvNeXtBlock(1.0, 0.0).init_with_output, train=False))(jax.random.key(0), x))
    assert "erfc" in program  # the exact GELU; its approximation by a hyperbolic tangent is too near to show in outputs
    assert "tanh" not in program
    for layer_scale, near in ((1e-6, True), (1.0, False)):
        outputs, variables = jax.jit(partial(convnext.ConvNeXtBlock(layer_scale, 0.0).init_with_output, train=False))(jax.random.key(0), x)
        assert variables["params"]["depthwise"]["kernel"].shape == (7, 7, 1, 3)
        moved = np.abs(outputs - x).max()
        assert moved > 0
        assert (moved < 1e-5) == near
