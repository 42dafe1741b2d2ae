"""Networks made to fit other inputs: their outputs are those of the original."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.features import adapt_stem
from cnn_jax.models.lenet import LeNet5Modern
from cnn_jax.models.resnet import resnet8


def initialised(model, shape):
    return jax.jit(partial(model.init, train=False))(jax.random.key(0), jnp.zeros((1, *shape)))


def shapes_of(model, shape):
    return jax.eval_shape(partial(initialised, model, shape))


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize(("model", "size"), [(resnet8(num_outputs=10), 8), (LeNet5Modern(num_outputs=10), 28)])
def test_an_adapted_network_answers_grey_as_the_original_answers_it_in_colour(model, size, channels):
    old = initialised(model, (size, size, 3))
    new = adapt_stem(old, shapes_of(model, (size, size, channels)))
    grey = jax.random.normal(jax.random.key(1), (2, size, size, 1))
    answer = jax.jit(partial(model.apply, train=False))
    before, after = (answer(v, jnp.tile(grey, (1, 1, 1, c))) for v, c in ((old, 3), (new, channels)))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
    changed = [a.shape != b.shape for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)]
    assert sum(changed) == 1


def test_networks_that_differ_in_more_than_their_inputs_are_not_adapted():
    old = initialised(resnet8(num_outputs=10), (8, 8, 3))
    for other, first in (
        (resnet8(num_outputs=10, width=8), r"batch_stats/stage1_block1/bn1/mean is \(16,\) and \(8,\)"),
        (resnet8(num_outputs=0), "only one of them has params/head/bias"),
    ):
        with pytest.raises(ValueError, match=f"differ beyond their first convolution: {first}"):
            adapt_stem(old, shapes_of(other, (8, 8, 1)))
