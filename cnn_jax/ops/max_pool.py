"""The maximum over windows, with a gradient that is defined where values are equal, and fast."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Shaped

from cnn_jax.ops import extension
from cnn_jax.ops.apart import apart
from cnn_jax.ops.chosen_tap import better, choose, count_type, lowest, piece, spread_choice
from cnn_jax.ops.native_conv import Geometry
from cnn_jax.ops.padding import Padding, PerAxis
from cnn_jax.ops.window_maximum import largest, window_maximum
from cnn_jax.ops.windows import Walk, in_whole_strides, padded, sliding_windows, spread_at, tap_at

_MANY = 3  # channels, from which on the extension is faster than XLA, most of whose vectors are then empty


@jax.named_scope("max_pool")
def max_pool(
    inputs: Shaped[Array, "b *space c"],
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Shaped[Array, "b *places c"]:
    """Returns the maximum of each window, y[n, i, c] = max_k x[n, i·stride + k·dilation − padding, c].

    Padding never wins. NaN is handed on. Whole numbers are pooled as well. The gradient goes, all of it, to the first maximum of a window
    in row-major order, as torch's does; so it is the same on every run. Reverse mode, to any order, and vmap are supported;
    forward mode (`jax.jvp` of the network itself) is not.

    Args:
      inputs: with one to three spatial axes.
      window: one number, or one for each spatial axis.
      stride: the same; None stands for the window.
      padding: "VALID", "SAME", "CAUSAL" (1-D), a number for both sides of each axis, or one such number or (before, after) pair for each
        axis. Numbers may be at most half the window.
      dilation: spacing of the window's taps.
      ceil_mode: also a last window that is cut off by the border, unless it would start beyond the input (torch's rule).

    Raises:
      ValueError: the inputs' rank, or an argument is out of its range; no window fits; one would see padding only.

    Reference: Ranzato et al., "Unsupervised learning of invariant feature hierarchies", 2007.

    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """
    windows = sliding_windows(inputs, window, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)
    if windows.walk.few and extension.takes(inputs) and inputs.shape[-1] >= _MANY:
        window, stride, dilation = windows.walk
        geometry = Geometry(inputs.shape[1:-1], window, stride, tuple(windows.pads), (1,) * len(window), dilation)
        return window_maximum(jnp.asarray(inputs), geometry)
    pads = in_whole_strides(windows.pads, inputs.shape[1:-1], windows.walk) if windows.walk.few else windows.pads
    inputs = padded(inputs, pads, lowest(inputs.dtype))
    if windows.walk.few:
        return _maximum(inputs, windows.walk, False)
    # The maximum of rows' maxima; its first place is the first one in row-major order, too.
    for walk in windows.walk.by_axis():
        inputs = _maximum(inputs, walk, True)
    return inputs


def first_maximum(inputs: Shaped[Array, "*shape"], axis: int) -> Shaped[Array, "*reduced"]:
    """Returns the maximum along an axis, which stays, of size one; the gradient goes to the first one. NaN is handed on.

    >>> jax.grad(lambda x: first_maximum(x, 0).sum())(jnp.array([1.0, 2.0, 2.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    return _first_of_all(inputs, axis % inputs.ndim)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _first_of_all(inputs: jax.Array, axis: int) -> jax.Array:
    return inputs.max(axis, keepdims=True)


def _first_of_all_backward(axis: int, inputs: jax.Array, cotangent: jax.Array):
    places = lax.broadcasted_iota(jnp.int32, inputs.shape, axis)
    return (jnp.where(places == inputs.argmax(axis, keepdims=True).astype(jnp.int32), cotangent, 0),)


_first_of_all.defvjp(lambda inputs, axis: (_first_of_all(inputs, axis), inputs), _first_of_all_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _maximum(inputs: jax.Array, walk: Walk, looped: bool) -> jax.Array:
    """The maximum of each window; `looped` chooses how its gradient is computed, for walks along one axis only."""
    return largest(inputs, walk)


def _maximum_forward(inputs: jax.Array, walk: Walk, looped: bool):
    chosen = functools.partial(_choose_in_a_loop if looped else choose, walk=walk)
    # On a CPU, or what places the gradient would choose anew for each tap.
    maximum, choice = lax.platform_dependent(inputs, cpu=chosen if looped else apart(chosen), default=chosen)
    return maximum, (choice, inputs[:0])  # an empty array that knows the inputs' shape


def _maximum_backward(walk: Walk, looped: bool, residuals, cotangent: jax.Array):
    choice, empty = residuals
    return ((_spread_in_a_loop if looped else spread_choice)(choice, cotangent, walk, empty.shape[1:-1]),)


_maximum.defvjp(_maximum_forward, _maximum_backward)


# The maximum along one axis, in a loop: windows may be large, and XLA must not weave the work for two axes into one, in which what
# belongs to one axis is computed anew for each tap of the other.


def _choose_in_a_loop(inputs: jax.Array, walk: Walk) -> tuple[jax.Array, jax.Array]:
    axis = _only_axis(walk)
    first = tap_at(inputs, 0, walk, axis)
    best = first, jnp.zeros(first.shape, count_type(walk))
    return lax.fori_loop(1, max(walk.window), lambda tap, best: better(tap, tap_at(inputs, tap, walk, axis), best), best)


def _spread_in_a_loop(choice: jax.Array, values: jax.Array, walk: Walk, space: tuple[int, ...]) -> jax.Array:
    axis = _only_axis(walk)
    total = jnp.zeros((values.shape[0], *space, values.shape[-1]), values.dtype)

    def add(tap, total):
        return spread_at(total, piece(tap, choice, values), tap, walk, axis)

    return lax.fori_loop(0, max(walk.window), add, total)


def _only_axis(walk: Walk) -> int:
    """The array axis along which the walk goes; along the others it stands still."""
    return 1 + max(range(len(walk.window)), key=lambda i: walk.window[i] * walk.stride[i])
