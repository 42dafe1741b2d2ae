"""The convolution layers: their parameters learn, their dtype is kept, standardised kernels are standardised."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.layers import Conv, ConvTranspose, SeparableConv, StandardisedConv


@pytest.mark.parametrize(
    ("layer", "space"),
    [
        (Conv(4, (3,), padding="CAUSAL", dilation=2), (6,)),
        (Conv(4, (3, 2), stride=2, groups=2, border="reflect"), (6, 5)),
        (Conv(4, (2, 3, 1), use_bias=False), (3, 4, 2)),
        (StandardisedConv(4, (3, 3)), (5, 6)),
        (SeparableConv(5, (3, 3), stride=2, multiplier=2), (6, 5)),
        (ConvTranspose(4, (4,), stride=2), (5,)),
        (ConvTranspose(4, (3, 3), stride=2, padding=1, output_padding=1, groups=2), (3, 4)),
        (ConvTranspose(2, (2, 2, 2), stride=2, groups=2), (2, 3, 2)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "x".join(map(str, v)),
)
def test_layers_learn_and_keep_their_dtype(layer, space):
    x = jnp.array(np.random.default_rng(6).normal(size=(2, *space, 4)), jnp.float32)

    @jax.jit
    def at_work(key, x):
        def loss(params):
            y = layer.apply({"params": params}, x)
            return jnp.square(y).sum(), y

        variables = layer.init(key, x)
        gradients, y = jax.grad(loss, has_aux=True)(variables["params"])
        return gradients, y, layer.clone(dtype=jnp.bfloat16).apply(variables, x)

    gradients, y, low = at_work(jax.random.key(0), x)
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in jax.tree.leaves(gradients))
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(low, np.float32), y, rtol=2e-2, atol=2e-2 * np.abs(y).max())


def test_standardised_kernels_have_mean_zero_and_variance_one():
    """An impulse in one input channel shows each output's kernel there, mirrored: together they are all the weights of that output."""
    layer = StandardisedConv(3, (3, 3), use_bias=False)
    x = jnp.zeros((2, 5, 5, 2)).at[0, 2, 2, 0].set(1.0).at[1, 2, 2, 1].set(1.0)
    y, variables = jax.jit(layer.init_with_output)(jax.random.key(1), x)
    kernel = np.asarray(y)[:, 3:0:-1, 3:0:-1]
    np.testing.assert_allclose(kernel.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(kernel.var((0, 1, 2)), 1, rtol=1e-4)
    learned = np.asarray(variables["params"]["kernel"])
    expected = (learned - learned.mean((0, 1, 2))) / learned.std((0, 1, 2))
    np.testing.assert_allclose(kernel.transpose(1, 2, 0, 3), expected, rtol=1e-4, atol=1e-4)
