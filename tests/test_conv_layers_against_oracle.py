"""Conv, SeparableConv and ConvTranspose against the definition in loops: value, gradients by inputs and parameters, each type.

What SAME and CAUSAL mean is written out in numbers here.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.layers import Conv, ConvTranspose, SeparableConv
from tests.conv_cases import Case, added_up, correlate_terms, transposed_terms
from tests.layer_oracle import TOLERANCES, assert_layer_agrees

TYPES = pytest.mark.parametrize("dtype", TOLERANCES)


def named(value):
    """Of a case, its options: the words, and the names of the numbers."""
    return "-".join(v if isinstance(v, str) else k for k, v in value.items()) if isinstance(value, dict) else ""


def each(value, axes):
    return (value,) * axes if isinstance(value, int) else tuple(value)


def case_of(options, space, pads, c_in, features):
    """The configuration that a layer's options stand for, padding excepted."""
    axes = len(space)
    stride, dilation, spread = (each(options.get(name, 1), axes) for name in ("stride", "dilation", "input_dilation"))
    return Case(space, options["window"], stride, pads, dilation, spread, options.get("groups", 1), c_in, features)


def check(layer, oracle, shapes, x, dtype):
    """The layer, with random parameters of these shapes, against `oracle(params, x)`, and that it makes parameters of these shapes."""
    rng = np.random.default_rng(8)
    made = jax.eval_shape(layer.init, jax.random.key(0), jnp.array(x))["params"]
    assert jax.tree.map(lambda a: a.shape, made) == shapes
    params = jax.tree.map(lambda shape: rng.normal(size=shape), shapes, is_leaf=lambda s: isinstance(s, tuple))
    assert_layer_agrees(lambda p, x: (layer.apply({"params": p}, x), None), oracle, params, x, dtype=dtype)


CONV = [  # options, the inputs' space, what is added before and after
    ({"window": (3,), "padding": "CAUSAL", "dilation": 2, "border": "replicate"}, (4,), ((4, 0),)),
    ({"window": (3,), "padding": "CAUSAL", "stride": 2}, (5,), ((2, 0),)),
    ({"window": (3,), "padding": ((3, 1),), "border": "circular", "groups": 2}, (4,), ((3, 1),)),
    ({"window": (2,), "padding": 1, "input_dilation": 3, "use_bias": False}, (3,), ((1, 1),)),
    ({"window": (3, 2), "stride": 2, "border": "reflect", "groups": 2}, (4, 3), ((0, 1), (0, 1))),
    ({"window": (2, 3), "padding": "VALID", "input_dilation": (2, 1), "dilation": (1, 2)}, (2, 5), ((0, 0), (0, 0))),
    ({"window": (1, 3), "padding": (0, (2, 1)), "stride": (2, 1), "border": "replicate"}, (3, 3), ((0, 0), (2, 1))),
    ({"window": (2, 3, 1), "use_bias": False}, (2, 3, 2), ((0, 1), (1, 1), (0, 0))),
    ({"window": (2, 1, 2), "padding": ((1, 0), 0, (0, 2)), "border": "circular", "groups": 2}, (2, 1, 2), ((1, 0), (0, 0), (0, 2))),
]


@TYPES
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("options", "space", "pads"), CONV, ids=named)
def test_conv_equals_the_definition_with_all_its_options(options, space, pads, dtype):
    case = case_of(options, space, pads, 2, 4)
    definition = correlate_terms(case, options.get("border", "zeros"))

    def oracle(params, x):
        return added_up(definition, x, params["kernel"]) + params.get("bias", 0)

    shapes = {"kernel": (*case.window, 2 // case.groups, 4)} | ({"bias": (4,)} if options.get("use_bias", True) else {})
    x = np.random.default_rng(9).normal(size=(2, *space, 2))
    check(Conv(4, dtype=jnp.dtype(dtype), **options), oracle, shapes, x, dtype)


SEPARABLE = [
    ({"window": (3,), "padding": "CAUSAL", "dilation": 2, "multiplier": 2}, (4,), ((4, 0),)),
    ({"window": (3, 2), "stride": 2, "border": "reflect", "multiplier": 2}, (4, 3), ((0, 1), (0, 1))),
    ({"window": (3, 2), "padding": ((2, 0), 1), "border": "circular", "dilation": (1, 2)}, (3, 2), ((2, 0), (1, 1))),
    ({"window": (2, 1, 2), "use_bias": False}, (2, 2, 3), ((0, 1), (0, 0), (0, 1))),
]


@TYPES
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("options", "space", "pads"), SEPARABLE, ids=named)
def test_separable_conv_equals_the_definition_channel_by_channel_then_mixed(options, space, pads, dtype):
    maps = 2 * options.get("multiplier", 1)
    case = case_of(options, space, pads, 2, maps)._replace(groups=2)
    definition = correlate_terms(case, options.get("border", "zeros"))

    def oracle(params, x):
        seen = added_up(definition, x, params["depthwise"]["kernel"])
        mixed, mix = np.zeros((*seen.shape[:-1], 3)), params["pointwise"]["kernel"].reshape(maps, 3)
        for i, o in np.ndindex(maps, 3):
            mixed[..., o] += seen[..., i] * mix[i, o]
        return mixed + params["pointwise"].get("bias", 0)

    pointwise = {"kernel": (*(1 for _ in space), maps, 3)} | ({"bias": (3,)} if options.get("use_bias", True) else {})
    shapes = {"depthwise": {"kernel": (*case.window, 1, maps)}, "pointwise": pointwise}
    x = np.random.default_rng(9).normal(size=(2, *space, 2))
    check(SeparableConv(3, dtype=jnp.dtype(dtype), **options), oracle, shapes, x, dtype)


TRANSPOSED = [  # and here what is cut off before and after; fewer than none are added
    ({"window": (4,), "stride": 2}, (3,), ((1, 1),)),
    ({"window": (3,), "stride": 2, "groups": 2}, (3,), ((0, 1),)),
    ({"window": (2,), "stride": 3}, (2,), ((0, -1),)),
    ({"window": (3, 3), "stride": 2, "padding": 1, "output_padding": 1, "groups": 2}, (2, 3), ((1, 1), (1, 1))),
    ({"window": (3, 2), "padding": ((0, 2), (1, 0)), "dilation": (2, 1), "output_padding": (1, 0)}, (2, 3), ((0, 2), (1, 0))),
    ({"window": (2, 2, 2), "stride": 2, "groups": 2}, (1, 2, 2), ((0, 0),) * 3),
    ({"window": (2, 3, 1), "padding": "VALID", "stride": (2, 1, 2), "use_bias": False}, (2, 1, 2), ((0, 0),) * 3),
]


@TYPES
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("options", "space", "pads"), TRANSPOSED, ids=named)
def test_conv_transpose_spreads_each_input_over_the_output(options, space, pads, dtype):
    case = case_of(options, space, pads, 2, 4)
    definition = transposed_terms(case, each(options.get("output_padding", 0), len(space)))

    def oracle(params, x):
        return added_up(definition, x, params["kernel"]) + params.get("bias", 0)

    shapes = {"kernel": (*case.window, 2 // case.groups, 4)} | ({"bias": (4,)} if options.get("use_bias", True) else {})
    x = np.random.default_rng(9).normal(size=(2, *space, 2))
    check(ConvTranspose(4, dtype=jnp.dtype(dtype), **options), oracle, shapes, x, dtype)
