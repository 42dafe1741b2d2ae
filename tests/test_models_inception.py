"""GoogLeNet and Inception v3: auxiliary heads, window sizes, the paper's maps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.features import feature_names
from cnn_jax.models import googlenet, inception_v3
from tests.small_networks import SMALL
from tests.traced_models import filled, images, num_params, shapes


@pytest.mark.parametrize(("family", "num_heads"), [("googlenet", 2), ("inception_v3", 1)])
def test_auxiliary_heads_cost_nothing_in_evaluation(family, num_heads):
    """The program that evaluates is the same, operation by operation, and needs none of their parameters."""
    make, side, _ = SMALL[family]
    variables = shapes(make(num_outputs=3), (side, side, 3))
    assert variables.keys() == {"params", "batch_stats"}  # nothing is sown at initialisation
    lean = {collection: {k: v for k, v in tree.items() if "auxiliary" not in k} for collection, tree in variables.items()}
    assert len(variables["params"]) - len(lean["params"]) == num_heads
    x = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    models = (make(num_outputs=3, auxiliary=auxiliary) for auxiliary in (False, True))
    without, with_them = (str(jax.make_jaxpr(partial(model.apply, train=False))(lean, x)) for model in models)
    assert without == with_them


def test_the_auxiliary_loss_teaches_the_auxiliary_head_and_what_lies_below():
    unit = partial(googlenet.ConvUnit, dtype=jnp.float32, axis_name=None)
    model = googlenet.Auxiliary(3, 0.0, unit, jnp.float32, None)
    x = images(2, 5, 6, 3)
    variables = filled(shapes(model, x.shape[1:]))

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
    counts = [num_params(shapes(googlenet.GoogLeNet(num_outputs=3, large_window=size), (32, 32, 3))) for size in (3, 5)]
    assert counts[1] - counts[0] == 16 * pairs


def test_inception_v3_maps_have_the_papers_sizes():
    """Table 1 of the paper, at 299×299."""
    maps = feature_names(inception_v3.InceptionV3(num_outputs=3), (299, 299, 3))
    published = {
        "conv1a": (149, 32), "conv2a": (147, 32), "conv2b": (147, 64), "mixed5d": (35, 288),
        "mixed6e": (17, 768), "mixed7a": (8, 1280), "mixed7c": (8, 2048),
    }  # fmt: skip
    assert {name: (maps[name][0], maps[name][2]) for name in published} == published
