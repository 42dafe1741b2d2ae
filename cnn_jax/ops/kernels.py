"""Hand-designed kernels: all of them by name, and how one is applied to a picture. Every kernel can be had from here."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.ops.arguments import check_array
from cnn_jax.ops.blur_kernels import binomial, box, gaussian, identity, motion_blur, sharpen, unsharp_mask
from cnn_jax.ops.edge_kernels import (
    DIRECTIONS,
    difference_of_gaussians,
    emboss,
    gabor,
    kirsch,
    laplacian,
    laplacian_of_gaussian,
    prewitt,
    roberts,
    robinson,
    scharr,
    sobel,
)
from cnn_jax.ops.padding import Border, pad_space

# A heading, and under it name -> a function of keyword options only, which without any gives the kernel of that name.
FAMILIES: dict[str, dict[str, Callable[..., Array]]] = {
    "Smoothing": {"identity": identity, "box": box, "binomial": binomial, "gaussian": gaussian, "motion_blur": motion_blur},
    "Sharpening": {"sharpen_4": sharpen, "sharpen_8": partial(sharpen, neighbours=8), "unsharp_mask": unsharp_mask},
    "First derivative": {
        **{f"{f.__name__}_{axis}": partial(f, axis=axis) for f in (sobel, prewitt, scharr) for axis in ("x", "y")},
        **{f"roberts_{diagonal}": partial(roberts, diagonal=diagonal) for diagonal in ("down", "up")},
    },
    "Second derivative": {
        "laplacian_4": laplacian,
        "laplacian_8": partial(laplacian, neighbours=8),
        "laplacian_of_gaussian": laplacian_of_gaussian,
        "difference_of_gaussians": difference_of_gaussians,
    },
    "Gabor": {f"gabor_{degrees}": partial(gabor, theta=math.radians(degrees)) for degrees in (0, 45, 90, 135)},
    "Kirsch compass": {f"kirsch_{d}": partial(kirsch, direction=d) for d in DIRECTIONS},
    "Robinson compass": {f"robinson_{d}": partial(robinson, direction=d) for d in DIRECTIONS},
    "Emboss": {f"emboss_{d}": partial(emboss, direction=d) for d in DIRECTIONS},
}
# Every hand-designed kernel by name, whatever its family.
KERNELS: dict[str, Callable[..., Array]] = {name: kernel for family in FAMILIES.values() for name, kernel in family.items()}


def apply_kernel(image: jax.Array | np.ndarray, kernel: jax.Array | np.ndarray, *, border: Border = "zeros") -> Float[Array, "..."]:
    """Returns the picture correlated with the kernel, channel by channel, in the picture's size.

    y[i, j] = Σ_kl image[i + k − ⌊kh/2⌋, j + l − ⌊kw/2⌋] · kernel[k, l]. The element (⌊kh/2⌋, ⌊kw/2⌋) lies on the pixel: the middle of an
    odd size, and right of and below the middle of an even one, as in scipy.ndimage. True convolution is correlation with the
    kernel turned by 180°, `kernel[::-1, ::-1]`.

    Args:
      image: grey [h, w], colour [h, w, c], or a batch [b, h, w, c]; whole numbers are computed in float32, and nothing is cut off at
        0 or 255.
      kernel: [kh, kw].
      border: what lies outside: "zeros", "reflect", "replicate" or "circular", as in `pad_space`.

    Raises:
      ValueError: another rank, an unknown border, or one that the picture is too small for.

    >>> apply_kernel(jnp.array([[0.0, 0.0, 1.0, 1.0]]), jnp.array([[-1.0, 0.0, 1.0]]), border="replicate").tolist()
    [[0.0, 1.0, 1.0, 0.0]]
    """
    check_array("image", image)
    check_array("kernel", kernel)
    if image.ndim not in (2, 3, 4) or 0 in image.shape:
        raise ValueError(f"image must be [h, w], [h, w, c] or [b, h, w, c] and not empty, got shape {image.shape}")
    if kernel.ndim != 2 or 0 in kernel.shape:
        raise ValueError(f"kernel must be [kh, kw] and not empty, got shape {kernel.shape}")
    dtype = image.dtype if jnp.issubdtype(image.dtype, jnp.floating) else jnp.float32
    wide = jnp.asarray(image, jnp.promote_types(dtype, jnp.float32))
    batch = wide.reshape((1,) * (image.ndim < 4) + image.shape + (1,) * (image.ndim == 2))
    planes = jnp.moveaxis(batch, -1, 1).reshape(-1, *batch.shape[1:3], 1)
    planes = pad_space(planes, [(k // 2, (k - 1) // 2) for k in kernel.shape], border=border)
    taps = jnp.asarray(kernel, wide.dtype)[:, :, None, None]
    layout = ("NHWC", "HWIO", "NHWC")
    planes = lax.conv_general_dilated(planes, taps, (1, 1), "VALID", dimension_numbers=layout, precision="highest")
    return jnp.moveaxis(planes.reshape(batch.shape[0], -1, *batch.shape[1:3]), 1, -1).reshape(image.shape).astype(dtype)
