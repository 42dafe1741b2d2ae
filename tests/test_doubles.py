"""NumPy's doubles, where jax has not been told to keep them: taken as float32, as jax takes them, without its warning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import layers
from cnn_jax.losses.regression import mean_squared_error
from cnn_jax.ops import activations, augment, conv, norm, pool
from cnn_jax.ops.max_pool import max_pool

KEY = jax.random.key(0)
DOUBLES = np.random.default_rng(0).uniform(size=(2, 8, 8, 4))
VECTOR, WEIGHTS = np.ones(4), np.random.default_rng(1).normal(size=(3, 3, 4, 4))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "call",
    [
        lambda x, v, w: layers.BatchNorm().init_with_output(KEY, x, train=True)[0],
        lambda x, v, w: layers.Conv(4, (3, 3)).init_with_output(KEY, x)[0],
        lambda x, v, w: norm.normalise(x, v, v, v, v),
        lambda x, v, w: norm.batch_moments(x, v)[1],
        lambda x, v, w: norm.group_norm(x, v, v, groups=2),
        lambda x, v, w: norm.standardise_weights(w),
        lambda x, v, w: conv.convolve(x, w),
        lambda x, v, w: pool.average_pool(x, 3, padding=1),
        lambda x, v, w: max_pool(x, 3, padding=1),
        lambda x, v, w: activations.silu(x),
        lambda x, v, w: mean_squared_error(x[0, 0], x[1, 0]),
        lambda x, v, w: augment.adjust_contrast(x[..., :3], 0.5),
    ],
)
def test_numpys_doubles_are_what_jax_takes_them_for(call):  # a warning would be an error
    expected = call(*(jnp.asarray(a) for a in (DOUBLES, VECTOR, WEIGHTS)))
    found = call(DOUBLES, VECTOR, WEIGHTS)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
