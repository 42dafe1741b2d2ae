"""Convolution in one, two or three dimensions, channels last: correlation, true convolution, depthwise, separable, transposed.

Networks compute *correlation* and call it convolution; `convolve` is the operation of mathematics, with the kernel reversed.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.ops.arguments import check_array, check_whole
from cnn_jax.ops.correlation import correlation
from cnn_jax.ops.native_conv import SPATIAL, Geometry
from cnn_jax.ops.padding import Border, Padding, PerAxis, explicit_padding, pad_space, per_axis


def correlate(
    inputs: Float[Array, "b *space c_in"],
    kernel: Float[Array, "*window c_in_per_group c_out"],
    *,
    stride: PerAxis = 1,
    padding: Padding = "VALID",
    border: Border = "zeros",
    dilation: PerAxis = 1,
    input_dilation: PerAxis = 1,
    groups: int = 1,
) -> Float[Array, "b *positions c_out"]:
    """Returns the cross-correlation of `inputs` with a bank of kernels, what network papers call convolution.

    y[n, i, o] = Σ_k Σ_c x[n, i·stride + k·dilation − padding, c] · w[k, c, o], values outside the input being zero.
    The output has ⌈(size + pads − k_eff + 1) / stride⌉ positions, k_eff = (k − 1)·dilation + 1.

    Args:
      inputs: [b, *space, c_in] with one to three spatial axes.
      kernel: [*window, c_in // groups, c_out].
      stride: one number, or one for each spatial axis.
      padding: "VALID" (none), "SAME" (output ⌈size / stride⌉), "CAUSAL" (1-D: the past only), a number for both sides of each
        axis (torch's meaning), or one such number or (before, after) pair for each axis.
      border: the padding's values: "zeros", "reflect", "replicate" or "circular".
      dilation: spacing of the kernel's taps.
      input_dilation: spacing of the inputs, zeros between them ("fractional stride"); size becomes (size − 1)·input_dilation + 1.
      groups: the channels are split in so many groups that do not see each other.

    Raises:
      ValueError: ranks, channel counts or sizes do not fit; names the argument, its value and what would.

    Reference: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016.

    A 3×3 kernel sliding over a 4×4 image, stride 1, gives a 2×2 map:

    >>> import jax.numpy as jnp
    >>> image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> correlate(image, jnp.ones((3, 3, 1, 1)))[0, :, :, 0].tolist()
    [[45.0, 54.0], [81.0, 90.0]]
    """
    num_space = _check_channels(inputs, kernel, groups)
    stride = per_axis(stride, num_space, "stride")
    dilation = per_axis(dilation, num_space, "dilation")
    input_dilation = per_axis(input_dilation, num_space, "input_dilation")
    window = kernel.shape[:-2]
    sizes = tuple((n - 1) * d + 1 if n else 0 for n, d in zip(inputs.shape[1:-1], input_dilation, strict=True))
    pads = explicit_padding(padding, sizes, window, stride, dilation)
    for size, (before, after), k, d in zip(sizes, pads, window, dilation, strict=True):
        if (k - 1) * d + 1 > size + before + after:
            raise ValueError(
                f"window {window} with dilation {dilation} spans {(k - 1) * d + 1} positions, but the input has {size} and "
                f"padding={padding} adds {before + after}: a larger input, more padding or a smaller window is needed"
            )
    if border != "zeros":
        if max(input_dilation) > 1:
            raise ValueError(f"border={border!r} with input_dilation={input_dilation}: spread inputs have a border of zeros only")
        inputs, pads = pad_space(inputs, pads, border=border), [(0, 0)] * num_space
    return _conv(inputs, kernel, stride, pads, input_dilation, dilation, groups)


def convolve(
    inputs: Float[Array, "b *space c_in"], kernel: Float[Array, "*window c_in_per_group c_out"], **options
) -> Float[Array, "b *positions c_out"]:
    """Returns the true convolution: y[n, i, o] = Σ_k Σ_c x[n, i·stride − k·dilation + …, c] · w[k, c, o], kernels reversed in space.

    It is `correlate` with the kernel mirrored along each spatial axis, and takes the same options. Unlike correlation it
    is commutative and associative. The output at i lines up with the same window of the input as correlation's.

    Raises:
      ValueError: as `correlate`.

    >>> import jax.numpy as jnp
    >>> signal, kernel = jnp.array([1.0, 0.0, 0.0, 2.0]), jnp.array([1.0, 10.0])
    >>> [f(signal.reshape(1, 4, 1), kernel.reshape(2, 1, 1), padding=1)[0, :, 0].tolist() for f in (convolve, correlate)]
    [[1.0, 10.0, 0.0, 2.0, 20.0], [10.0, 1.0, 0.0, 20.0, 2.0]]
    """
    check_array("kernel", kernel)
    return correlate(inputs, lax.rev(kernel, tuple(range(kernel.ndim - 2))), **options)


def depthwise_correlate(
    inputs: Float[Array, "b *space c"], kernel: Float[Array, "*window c m"], **options
) -> Float[Array, "b *positions c*m"]:
    """Returns each channel correlated with kernels of its own: y[n, i, c·m + j] = Σ_k x[n, i + k, c] · w[k, c, j].

    Args:
      kernel: [*window, c, m]: m kernels (the multiplier) for each of the c channels.
      options: those of `correlate`, but `groups`.

    Raises:
      ValueError: the kernel has another rank, or is not for the inputs' channels; else as `correlate`.

    Reference: Howard et al., "MobileNets", 2017.

    >>> import jax.numpy as jnp
    >>> depthwise_correlate(jnp.ones((1, 3, 2)), jnp.array([[[1.0], [10.0]], [[2.0], [20.0]]])).tolist()
    [[[3.0, 30.0], [3.0, 30.0]]]
    """
    _num_space(inputs)
    check_array("kernel", kernel)
    if kernel.ndim != inputs.ndim:
        raise ValueError(f"kernel must be [*window, c, m] of rank {inputs.ndim}, got shape {kernel.shape}")
    *window, channels, multiplier = kernel.shape
    if inputs.shape[-1] != channels:
        raise ValueError(f"kernel {kernel.shape} holds kernels for {channels} channels, inputs {inputs.shape} have {inputs.shape[-1]}")
    return correlate(inputs, kernel.reshape(*window, 1, channels * multiplier), groups=channels, **options)


def separable_correlate(
    inputs: Float[Array, "b *space c_in"],
    depthwise_kernel: Float[Array, "*window c_in m"],
    pointwise_kernel: Float[Array, "c_in*m c_out"],
    **options,
) -> Float[Array, "b *positions c_out"]:
    """Returns a depthwise correlation followed by a 1×1 one that mixes the channels.

    Args:
      depthwise_kernel: [*window, c_in, m].
      pointwise_kernel: [c_in · m, c_out].
      options: of the depthwise part, as in `correlate`.

    Raises:
      ValueError: as `depthwise_correlate` and `correlate`.

    Reference: Chollet, "Xception", 2016.

    >>> import jax.numpy as jnp
    >>> separable_correlate(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 1)), jnp.ones((2, 5))).shape
    (1, 2, 2, 5)
    """
    maps = depthwise_correlate(inputs, depthwise_kernel, **options)
    check_array("pointwise_kernel", pointwise_kernel)
    if pointwise_kernel.ndim != 2 or pointwise_kernel.shape[0] != maps.shape[-1]:
        raise ValueError(f"pointwise_kernel must be [{maps.shape[-1]}, c_out], a row for each map, got shape {pointwise_kernel.shape}")
    return correlate(maps, pointwise_kernel.reshape((1,) * (inputs.ndim - 2) + pointwise_kernel.shape))


def transposed_correlate(
    inputs: Float[Array, "b *space c_in"],
    kernel: Float[Array, "*window c_in_per_group c_out"],
    *,
    stride: PerAxis = 1,
    padding: Padding = "VALID",
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Float[Array, "b *positions c_out"]:
    """Returns the transpose of strided correlation: each input spreads its kernel over the output ("deconvolution").

    y[n, j, o] = Σ x[n, i, c] · w[k, c, o] over all i, k with i·stride + k·dilation − padding = j. It is the gradient of
    `correlate` with respect to its inputs, for the kernel with its two channel axes swapped; torch's ConvTranspose.
    The output has (size − 1)·stride + k_eff − pads + output_padding positions.

    Args:
      inputs: [b, *space, c_in].
      kernel: [*window, c_in // groups, c_out].
      padding: what is cut off the output: "VALID" (nothing), "SAME" (so that the output has size · stride positions), or numbers
        as in `correlate`.
      output_padding: positions added at the end of each axis, fewer than stride or dilation: several input sizes of a strided
        correlation share one output size, and this says which is meant.

    Raises:
      ValueError: as `correlate`; or the output padding is ambiguous, or nothing is left of the output.

    Reference: that of `correlate`, chapter 4.

    >>> import jax.numpy as jnp
    >>> transposed_correlate(jnp.array([1.0, 2.0]).reshape(1, 2, 1), jnp.ones((3, 1, 1)), stride=2)[0, :, 0].tolist()
    [1.0, 1.0, 3.0, 2.0, 2.0]
    """
    num_space = _check_channels(inputs, kernel, groups)
    window, sizes = kernel.shape[:-2], inputs.shape[1:-1]
    stride, dilation = per_axis(stride, num_space, "stride"), per_axis(dilation, num_space, "dilation")
    extra = per_axis(output_padding, num_space, "output_padding", least=0)
    cut = transposed_padding(padding, sizes, window, stride, dilation)
    check_transposed(sizes, window, stride, dilation, extra, cut)
    rows = zip(window, dilation, extra, cut, strict=True)
    pads = [((k - 1) * d - before, (k - 1) * d - after + e) for k, d, e, (before, after) in rows]
    return _conv(inputs, lax.rev(kernel, tuple(range(num_space))), (1,) * num_space, pads, stride, dilation, groups)


def transposed_padding(padding: Padding, sizes, window, stride, dilation) -> list[tuple[int, int]]:
    """Returns what `transposed_correlate` cuts off each end of each axis.

    Args:
      padding: as in `transposed_correlate`.
      sizes, window, stride, dilation: one number for each axis.

    Raises:
      ValueError: padding is an unknown word; else as `explicit_padding`.

    >>> transposed_padding("SAME", (4,), (3,), (2,), (1,))
    [(0, 1)]
    """
    if not isinstance(padding, str):
        return explicit_padding(padding, sizes, window, stride, dilation)
    if padding.upper() not in ("VALID", "SAME"):
        raise ValueError(f"padding={padding!r} is unknown: VALID, SAME, a number, or numbers or pairs for each axis")
    if padding.upper() == "VALID":
        return [(0, 0)] * len(sizes)
    surplus = [(k - 1) * d + 1 - s for k, s, d in zip(window, stride, dilation, strict=True)]
    # A kernel narrower than its stride leaves gaps: nothing is cut, the missing positions are added after the last.
    return [(p // 2, p - p // 2) if p > 0 else (0, p) for p in surplus]


def check_transposed(sizes, window, stride, dilation, output_padding, cut) -> None:
    """Raises ValueError where a transposed convolution's output padding is ambiguous, or its padding leaves no output.

    Args:
      sizes, window, stride, dilation, output_padding: one number for each axis.
      cut: (before, after) for each axis, as from `transposed_padding`.

    >>> check_transposed((4,), (3,), (2,), (1,), (2,), ((1, 1),))
    Traceback (most recent call last):
    ValueError: output_padding=(2,) must be smaller than the stride (2,) or the dilation (1,)
    """
    if 0 in sizes:
        raise ValueError(f"inputs of the sizes {tuple(sizes)} are empty: each must be at least 1")
    for n, k, s, d, e, (before, after) in zip(sizes, window, stride, dilation, output_padding, cut, strict=True):
        if e and e >= max(s, d):
            raise ValueError(f"output_padding={output_padding} must be smaller than the stride {stride} or the dilation {dilation}")
        if (n - 1) * s + (k - 1) * d + 1 - before - after + e < 1:
            raise ValueError(f"padding={cut} cuts off the whole output: {n} inputs, window {window}, stride {stride}")


def _conv(inputs, kernel, stride, pads, input_dilation, dilation, groups: int) -> Array:
    space, window = inputs.shape[1:-1], kernel.shape[:-2]
    pads = tuple((int(before), int(after)) for before, after in pads)
    return correlation(inputs, kernel, Geometry(space, window, stride, pads, input_dilation, dilation, groups))


def _check_channels(inputs: Array, kernel: Array, groups: int) -> int:
    """The number of spatial axes; ValueError where inputs, kernel and groups do not fit."""
    num_space = _num_space(inputs)
    check_array("kernel", kernel)
    if kernel.ndim != num_space + 2:
        raise ValueError(f"kernel must be [*window, c_in/groups, c_out] of rank {num_space + 2}, got shape {kernel.shape}")
    per_axis(kernel.shape[:-2], num_space, "window")
    # A float would do until lax sees it, and would then stay in jax's cache for the right call too.
    check_whole("groups", groups)
    if jnp.result_type(inputs) != jnp.result_type(kernel):  # as jax takes them: NumPy's doubles are float32 there
        raise ValueError(f"inputs are {inputs.dtype} and the kernel is {kernel.dtype}: convert one to the other's type")
    if inputs.shape[-1] != kernel.shape[-2] * groups or kernel.shape[-1] % groups:
        raise ValueError(
            f"{inputs.shape[-1]} input channels do not fit a kernel {kernel.shape} in groups={groups}: "
            f"c_in must be kernel.shape[-2] * groups, and groups must divide c_out"
        )
    return num_space


def _num_space(inputs: Array) -> int:
    check_array("inputs", inputs)
    if inputs.ndim - 2 not in SPATIAL:
        raise ValueError(f"inputs must be [b, *space, c] with 1 to 3 spatial axes, got shape {inputs.shape}")
    return inputs.ndim - 2
