"""Kernels of our own for a CPU that neither XLA nor its oneDNN has: built on request (`make extension`), and never needed.

`cpu_conv`, `window_maximum` and `window_sum` call them where they are loaded. Their source is in `cpp/`.
"""

import ctypes
import hashlib
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnn_jax import private_folder
from cnn_jax.ops.native_conv import Geometry

SOURCE = Path(__file__).parent / "cpp" / "extension.cc"  # what is compiled; it includes its neighbours
SWITCH = "CNN_JAX_EXTENSION"  # an environment variable: 0 leaves the library unused
# The library's functions.
NAMES = (
    "correlation",
    "kernel_gradient",
    "depthwise_correlation",
    "depthwise_kernel_gradient",
    "max_pool",
    "max_pool_gradient",
    "sum_pool",
)

_loaded: list[ctypes.CDLL] = []


def library() -> Path:
    """Returns where the library for this source, jaxlib and processor is, or would be.

    >>> library().suffix
    '.so'
    """
    files = sorted(SOURCE.parent.glob("*.*"))
    source = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    return private_folder.home() / "extension" / f"{private_folder.machine()}-{source}.so"


def load(path: Path | None = None) -> str:
    """Returns in words what came of loading the library, `library()` unless told; "not built" where there is none.

    >>> import tempfile
    >>> load(Path(tempfile.mkdtemp(), "none.so")) in ("not built", f"not used: {SWITCH}=0")
    True
    """
    path = library() if path is None else path
    if os.environ.get(SWITCH) == "0":
        return f"not used: {SWITCH}=0"
    if _loaded:
        return "loaded"
    if not path.exists():
        return "not built"
    try:
        private_folder.private_folder(path.parent)
        found = ctypes.CDLL(str(path))
        for name in NAMES:
            jax.ffi.register_ffi_target(f"cnn_jax_{name}", jax.ffi.pycapsule(getattr(found, f"cnn_jax_{name}")), platform="cpu")
    except (OSError, AttributeError) as error:
        return f"not used: {path}: {getattr(error, 'strerror', None) or error}"
    _loaded.append(found)
    return "loaded"


def takes(*arrays: Array) -> bool:
    """Returns whether the library is loaded and computes with such arrays.

    >>> takes(jnp.ones(2, jnp.bfloat16))
    False
    """
    return bool(_loaded) and all(a.dtype == jnp.float32 for a in arrays)


def correlation(
    inputs: Float[Array, "b *space c_in"], kernel: Float[Array, "*window c_in_per_group c_out"], geometry: Geometry
) -> Float[Array, "b *positions c_out"]:
    """Returns the correlation of inputs with a bank of kernels.

    Inputs are spread only where the stride is 1 and no groups are asked for; groups have 2, 4, … inputs and as many outputs.

    >>> geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,))
    >>> if takes(jnp.ones(1)):  # only where it was built
    ...     y = correlation(jnp.arange(3.0).reshape(1, 3, 1), jnp.ones((2, 1, 1)), geometry)
    """
    return _call("correlation", (len(inputs), *geometry.positions, kernel.shape[-1]), geometry, inputs, kernel, mirrored=False)


def input_gradient(
    cotangent: Float[Array, "b *positions c_out"], kernel: Float[Array, "*window c_in c_out"], geometry: Geometry
) -> Float[Array, "b *space c_in"]:
    """Returns the transpose of correlation with respect to its inputs: the correlation with the mirrored kernel, which is not written out.

    Args:
      geometry: of that correlation, whose inputs are the cotangent.

    >>> geometry = Geometry((2,), (2,), (1,), ((1, 1),), (1,), (1,))
    >>> if takes(jnp.ones(1)):  # only where it was built
    ...     x = input_gradient(jnp.ones((1, 2, 1)), jnp.ones((2, 1, 1)), geometry)
    """
    return _call("correlation", (len(cotangent), *geometry.positions, kernel.shape[-2]), geometry, cotangent, kernel, mirrored=True)


def kernel_gradient(
    inputs: Float[Array, "b *space c_in"], cotangent: Float[Array, "b *positions c_out"], geometry: Geometry
) -> Float[Array, "*window c_in_per_group c_out"]:
    """Returns the transpose of correlation with respect to its kernel. No padding may be negative, no inputs spread.

    >>> geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,), 1)
    >>> if takes(jnp.ones(1)):  # only where it was built
    ...     w = kernel_gradient(jnp.arange(3.0).reshape(1, 3, 1), jnp.ones((1, 2, 1)), geometry)
    """
    shape = (*geometry.window, inputs.shape[-1] // geometry.groups, cotangent.shape[-1])
    return _call("kernel_gradient", shape, geometry, inputs, cotangent)


def depthwise_correlation(
    inputs: Float[Array, "b *space c"], kernel: Float[Array, "*window 1 c"], geometry: Geometry
) -> Float[Array, "b *positions c"]:
    """Returns the correlation of each channel with a kernel of its own.

    >>> geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,), 4)
    >>> if takes(jnp.ones(1)):  # only where it was built
    ...     y = depthwise_correlation(jnp.ones((1, 3, 4)), jnp.ones((2, 1, 4)), geometry)
    """
    return _call("depthwise_correlation", (len(inputs), *geometry.positions, inputs.shape[-1]), geometry, inputs, kernel)


def depthwise_kernel_gradient(
    inputs: Float[Array, "b *space c"], cotangent: Float[Array, "b *positions c"], geometry: Geometry
) -> Float[Array, "*window 1 c"]:
    """Returns the transpose of `depthwise_correlation` with respect to its kernel. No inputs may be spread.

    >>> geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,), 4)
    >>> if takes(jnp.ones(1)):  # only where it was built
    ...     w = depthwise_kernel_gradient(jnp.ones((1, 3, 4)), jnp.ones((1, 2, 4)), geometry)
    """
    return _call("depthwise_kernel_gradient", (*geometry.window, 1, inputs.shape[-1]), geometry, inputs, cotangent)


def max_pool(inputs: Float[Array, "b *space c"], geometry: Geometry) -> Float[Array, "b *positions c"]:
    """Returns the maximum of each window. Padding never wins; NaN is handed on.

    >>> geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,))
    >>> if takes(jnp.ones(1)):  # only where it was built
    ...     y = max_pool(jnp.arange(3.0).reshape(1, 3, 1), geometry)
    """
    return _call("max_pool", (len(inputs), *geometry.positions, inputs.shape[-1]), geometry, inputs)


def max_pool_gradient(
    inputs: Float[Array, "b *space c"], cotangent: Float[Array, "b *positions c"], geometry: Geometry
) -> Float[Array, "b *space c"]:
    """Returns zeros, and each window's cotangent added where the first tap that sees its maximum looks.

    >>> geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,))
    >>> if takes(jnp.ones(1)):  # only where it was built
    ...     x = max_pool_gradient(jnp.arange(3.0).reshape(1, 3, 1), jnp.ones((1, 2, 1)), geometry)
    """
    return _call("max_pool_gradient", inputs.shape, geometry, inputs, cotangent)


def sum_pool(inputs: Float[Array, "b *space c"], geometry: Geometry, divisor: float = 1.0) -> Float[Array, "b *positions c"]:
    """Returns the sum of each window over a number. Padding counts as zeros.

    >>> geometry = Geometry((3,), (2,), (1,), ((0, 0),), (1,), (1,))
    >>> if takes(jnp.ones(1)):  # only where it was built
    ...     y = sum_pool(jnp.arange(3.0).reshape(1, 3, 1), geometry)
    """
    shape = (len(inputs), *geometry.positions, inputs.shape[-1])
    return _call("sum_pool", shape, geometry, inputs, divisor=np.float32(divisor))


def _call(name: str, shape: tuple[int, ...], geometry: Geometry, *arrays: Array, **options: bool | np.float32) -> Array:
    numbers = {
        "window": geometry.window,
        "stride": geometry.stride,
        "before": [before for before, _ in geometry.pads],
        "dilation": geometry.dilation,
        "apart": geometry.input_dilation,
    }
    attributes = {key: np.array(value, np.int64) for key, value in numbers.items()} | {"groups": np.int64(geometry.groups)}
    return jax.ffi.ffi_call(f"cnn_jax_{name}", jax.ShapeDtypeStruct(shape, arrays[0].dtype))(*arrays, **attributes, **options)
