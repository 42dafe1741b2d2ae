"""The kernels of oneDNN that jaxlib carries for x86: convolution and matrix product, without anything to build or install.

XLA's CPU compiler has calls of oneDNN that it does not place by itself (in these versions). `jax.ffi` can place them. Their configuration
is XLA's own and may change between versions, and a wrong one ends the process: so only versions that the suite has passed with are asked,
others compute by plain operations.

Reference: https://github.com/uxlfoundation/oneDNN.
"""

import functools
import json
import os
import platform
import sys

import jax
import jaxlib
from jaxtyping import Array, Float

from cnn_jax.ops.native_conv import Geometry

VERSIONS = ("0.10.2", "0.12.0.1")  # of jaxlib, with which tests/test_correlation.py has passed
SWITCH = "CNN_JAX_ONEDNN"  # an environment variable: 0 turns the calls off, 1 tries them with other versions


@functools.cache
def is_available() -> bool:
    """Returns whether this jaxlib's oneDNN is known to work as it is called here.

    >>> is_available() in (True, False)
    True
    """
    asked = os.environ.get(SWITCH, "")
    return asked != "0" and sys.platform == "linux" and platform.machine() == "x86_64" and (asked == "1" or jaxlib.__version__ in VERSIONS)


def correlation(
    inputs: Float[Array, "b *space c_in"], kernel: Float[Array, "*window c_in_per_group c_out"], geometry: Geometry
) -> Float[Array, "b *positions c_out"]:
    """Returns the correlation, in float32. No padding may be negative, and no inputs spread.

    >>> if is_available():
    ...     geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,))
    ...     y = correlation(jax.numpy.arange(3.0).reshape(1, 3, 1), jax.numpy.ones((2, 1, 1)), geometry)
    """
    n = len(geometry.window)
    images = {"data": {"batch_dim": 0, "feature_dim": n + 1, "spatial_dims": list(range(1, n + 1))}}
    filters = {"filter": {"input_feature_dim": n, "output_feature_dim": n + 1, "spatial_dims": list(range(n))}}
    before, after = zip(*geometry.pads, strict=True)
    window = {"pad_left": before, "pad_right": after, "strides": geometry.stride, "window_dilations": geometry.dilation}
    config = {"dims": n + 2, "feature_groups": geometry.groups, "input": images, "kernel": filters, "output": images, "window": window}
    shape = (len(inputs), *geometry.positions, kernel.shape[-1])
    return _call("__onednn$convolution", shape, {"onednn_conv_config": config}, inputs, kernel)


def product(
    a: Float[Array, "..."], b: Float[Array, "..."], *, transpose_a: bool = False, transpose_b: bool = False
) -> Float[Array, "*batch m n"]:
    """Returns the matrix product a·b, or with aᵀ or bᵀ in their places, in float32.

    >>> if is_available():
    ...     y = product(jax.numpy.ones((3, 2)), jax.numpy.ones((3, 5)), transpose_a=True)
    """
    shape = (*a.shape[:-2], a.shape[-1 if transpose_a else -2], b.shape[-2 if transpose_b else -1])
    config = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    return _call("__onednn$matmul", shape, {"onednn_matmul_config": config}, a, b)


def _call(name: str, shape: tuple[int, ...], config: dict, *arguments: Array) -> Array:
    output = jax.ShapeDtypeStruct(shape, arguments[0].dtype)
    return jax.ffi.ffi_call(name, output, custom_call_api_version=2, legacy_backend_config=json.dumps(config))(*arguments)
