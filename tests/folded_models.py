"""Models with variables that show whether folding is right, folded and compared with what they were."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from cnn_jax.folding import fold_batch_norm
from tests.traced_models import shapes


def lively(model, shape):
    """Variables far from those of initialisation, decided by their paths: scales of both signs, statistics that matter."""

    def fill(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        draws = rng.standard_normal(leaf.shape)
        if name.endswith("kernel"):
            draws *= np.sqrt(2 / np.prod(leaf.shape[:-1]))
        elif name.endswith("scale"):
            draws = rng.choice([-1, 1], leaf.shape) * rng.uniform(0.5, 1.5, leaf.shape)
        elif name.endswith("var"):
            draws = rng.uniform(0.3, 3.0, leaf.shape)
        return jnp.array(0.5 * draws if name.endswith(("bias", "mean")) else draws, jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes(model, shape))


def fold_and_compare(model, shape, x, *, rtol=1e-5):
    """The folded model and its variables, once outputs are found to be equal, and the variables those that the model asks for."""
    variables = lively(model, shape)
    models = []

    def run(variables, x):
        folded, fewer = fold_batch_norm(model, variables, shape)
        models.append(folded)
        return model.apply(variables, x, train=False), folded.apply(fewer, x, train=False), fewer

    before, after, fewer = jax.jit(run)(variables, x)
    assert after.dtype == before.dtype
    np.testing.assert_allclose(after, before, rtol=rtol, atol=rtol * np.abs(before).max())
    assert np.ptp(np.asarray(before, np.float32)) > 0.01, "outputs that do not vary show nothing"
    assert jax.tree.map(jnp.shape, fewer) == jax.tree.map(jnp.shape, shapes(models[0], shape))
    old, layers = traverse_util.flatten_dict(variables), {layer for layer, _ in models[0].pairs}
    for path, leaf in traverse_util.flatten_dict(fewer).items():
        assert "/".join(path[1:-1]) in layers or (leaf == old[path]).all(), f"{path} is left, but not as it was"
    return models[0], fewer


def norms(variables):
    """The paths of the norms that have statistics."""
    return sorted({"/".join(path[:-1]) for path in traverse_util.flatten_dict(variables.get("batch_stats", {}))})
