"""ConvNeXt: the exact GELU, layer scale, the depthwise window."""

from functools import partial

import jax
import numpy as np

from cnn_jax.models import convnext
from tests.traced_models import images


def test_convnext_starts_near_the_identity():
    x = images(2, 9, 10, 3)
    program = str(jax.make_jaxpr(partial(convnext.ConvNeXtBlock(1.0, 0.0).init_with_output, train=False))(jax.random.key(0), x))
    assert "erfc" in program  # the exact GELU; its approximation by a hyperbolic tangent is too near to show in outputs
    assert "tanh" not in program
    for layer_scale, near in ((1e-6, True), (1.0, False)):
        outputs, variables = jax.jit(partial(convnext.ConvNeXtBlock(layer_scale, 0.0).init_with_output, train=False))(jax.random.key(0), x)
        assert variables["params"]["depthwise"]["kernel"].shape == (7, 7, 1, 3)
        moved = np.abs(outputs - x).max()
        assert moved > 0
        assert (moved < 1e-5) == near
