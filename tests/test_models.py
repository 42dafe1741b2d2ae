"""Every registered model: it builds, its parameters all learn, jit equals eager; published sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.inspection import layers
from cnn_jax.layers import BatchNorm
from cnn_jax.registry import MODELS

TORCHVISION = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032, "resnet101": 44_549_160, "resnet152": 60_192_808}
SMALL = ["lenet5", "lenet5_modern", "resnet8", "resnet20", "resnet18"]  # for real; the others differ in numbers only


def num_params(model, shape):
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False))
    return sum(p.size for p in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("name", TORCHVISION)
def test_resnet_has_torchvisions_parameter_count(name):
    model = MODELS[name](num_outputs=1000)
    assert num_params(model, (224, 224, 3)) == TORCHVISION[name]
    assert sum(layer.num_params for layer in layers(model, (224, 224, 3))) == TORCHVISION[name]


def test_resnet50_costs_what_is_published():
    """4.09 G multiply-adds at 224×224: the usual figure for the variant that strides in the 3×3."""
    assert sum(layer.macs for layer in layers(MODELS["resnet50"](num_outputs=1000), (224, 224, 3))) == pytest.approx(4.09e9, rel=2e-3)


def test_lenet5_has_the_papers_60000_parameters():
    assert num_params(MODELS["lenet5"](num_outputs=10), (32, 32, 1)) == 60_000
    assert num_params(MODELS["lenet5_modern"](num_outputs=10), (28, 28, 1)) == 61_706


@pytest.mark.parametrize("name", MODELS)
def test_model_evaluates_to_float32_outputs_in_both_precisions(name):
    for dtype in (jnp.float32, jnp.bfloat16):
        model = MODELS[name](num_outputs=7, dtype=dtype)
        x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
        variables = jax.eval_shape(lambda x, model=model: model.init(jax.random.key(0), x, train=False), x)
        outputs = jax.eval_shape(lambda v, x, model=model: model.apply(v, x, train=False), variables, x)
        assert outputs.shape == (2, 7)
        assert outputs.dtype == jnp.float32
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns_and_jit_equals_eager(name):
    model = MODELS[name](num_outputs=5)
    x = jnp.array(np.random.default_rng(0).normal(size=(4, 32, 32, 3)), jnp.float32)
    variables = model.init(jax.random.key(1), x[:1], train=False)

    def loss(params):
        outputs, updates = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.square(outputs - 1).mean(), (outputs, updates)

    gradients, (outputs, updates) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path
    np.testing.assert_allclose(loss(variables["params"])[1][0], outputs, rtol=2e-4, atol=2e-4)
    before, after = (jax.tree.leaves(v.get("batch_stats", {})) for v in (variables, updates))
    assert len(before) == len(after)
    assert all(not np.array_equal(b, a) for b, a in zip(before, after, strict=True))


def test_zero_init_residual_makes_blocks_the_identity():
    model = MODELS["resnet8"](num_outputs=3, zero_init_residual=True)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)
    assert (variables["params"]["stage2_block1"]["bn2"]["scale"] == 0).all()
    assert (variables["params"]["stage2_block1"]["bn1"]["scale"] == 1).all()


def test_batch_norm_moves_its_statistics_as_torch_does():
    """new = 0.9 · old + 0.1 · batch, with the unbiased variance."""
    x = jnp.array(np.random.default_rng(1).normal(size=(6, 3)), jnp.float32) * 2 + 5
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), x, train=False)
    _, updates = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-5)
