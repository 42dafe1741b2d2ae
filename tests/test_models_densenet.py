"""DenseNet: growth, transitions, and layers recomputed in the backward pass."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.features import feature_names
from cnn_jax.models import densenet
from tests.traced_models import filled, images, shapes


def test_densenet_grows_by_its_rate_and_halves_between_blocks():
    maps = feature_names(densenet.densenet121(num_outputs=3), (224, 224, 3))
    assert [maps[f"block1_layer{j + 1}"] for j in range(6)] == [(56, 56, 64 + 32 * (j + 1)) for j in range(6)]
    ends = ("block1_layer6", "transition1", "block2_layer12", "transition2", "block3_layer24", "transition3", "block4_layer16")
    assert [maps[name][-1] for name in ends] == [256, 128, 512, 256, 1024, 512, 1024]
    assert [maps[name][0] for name in ends] == [56, 28, 28, 14, 14, 7, 7]


def test_recomputing_changes_nothing_and_a_dense_layer_hands_its_input_on():
    results = []
    for recompute in (False, True):
        model = densenet.DenseNet(num_outputs=3, block_sizes=(2,), growth=4, width=6, stem="small", recompute=recompute)
        variables = filled(shapes(model, (8, 8, 3)))

        def loss(params, model=model, variables=variables):
            options = {"train": True, "mutable": ["batch_stats", "intermediates"], "capture_intermediates": not model.recompute}
            outputs, updates = model.apply({**variables, "params": params}, images(2, 8, 9, 3), **options)
            return jnp.square(outputs).mean(), updates

        assert ("remat" in str(jax.make_jaxpr(loss)(variables["params"]))) == recompute
        (value, updates), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
        results.append((value, updates["batch_stats"], gradients))
        if not recompute:
            stem, last = (updates["intermediates"][name]["__call__"][0] for name in ("stem_conv", "block1_layer2"))
            np.testing.assert_array_equal(last[..., : stem.shape[-1]], stem)
            assert last.shape[-1] == 6 + 2 * 4
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), *results)
