"""How much each input position really matters to one output: the effective receptive field, from gradients, and its picture."""

from functools import reduce
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cnn_jax.features import apply_with_features, feature_names
from cnn_jax.types import PyTree

_ENERGY = 0.95  # of the squared gradient: where the effective field is said to end


def last_feature_map(model: nn.Module, input_shape: tuple[int, ...]) -> str:
    """Returns the name of the last layer whose output still has spatial axes.

    Args:
      input_shape: of one example, [*space, c].

    Raises:
      ValueError: there is none.

    >>> from cnn_jax.models.lenet import LeNet5Modern
    >>> last_feature_map(LeNet5Modern(num_outputs=10), (32, 32, 1))
    'conv2'
    """
    maps = [name for name, shape in feature_names(model, input_shape).items() if len(shape) == len(input_shape)]
    if not maps:
        raise ValueError(f"no layer of the model has an output with spatial axes for inputs of {input_shape}")
    return maps[-1]


def effective_field(model: nn.Module, variables: PyTree, images: jax.Array, layer: str, key: jax.Array) -> jax.Array:
    """Returns the root mean square of ∂(central output of `layer`) / ∂(input position), [*space].

    The central position's channels are mixed with random weights, drawn anew for each image; the mean is over images and
    input channels.

    Args:
      variables: of the model, `params` and perhaps `batch_stats`.
      images: [b, *space, c]; the field depends on them where the network is not linear.

    Raises:
      ValueError: the model has no such layer, as `features.apply_with_features`.

    Reference: Luo et al., "Understanding the effective receptive field in deep convolutional neural networks", 2016.

    >>> from cnn_jax.models.googlenet import ConvUnit
    >>> model, images = ConvUnit(features=4, window=(3, 3)), jnp.ones((1, 8, 8, 1))
    >>> field = effective_field(model, model.init(jax.random.key(0), images, train=False), images, "conv", jax.random.key(1))
    >>> field.shape, (field > 0).sum().item()  # 3 × 3
    ((8, 8), 9)
    """

    def centre(images):
        maps = apply_with_features(model, variables, images, [layer])[1][layer]
        middle = tuple(n // 2 for n in maps.shape[1:-1])
        return jnp.asarray(maps[(slice(None), *middle)], jnp.float32)

    outputs, pull = jax.vjp(centre, images)
    (gradient,) = pull(jax.random.normal(key, outputs.shape, outputs.dtype))
    return jnp.sqrt(jnp.square(gradient).mean(axis=(0, -1)))


def effective_size(field: np.ndarray, centre: tuple[float, ...]) -> int:
    """Returns the side of the smallest square around `centre` (interval, cube) that holds 95 % of the squared gradient [*space].

    >>> effective_size(np.pad(np.ones((3, 3)), 4), (5.0, 5.0)), effective_size(np.pad(np.ones(3), 4), (5.0,))
    (3, 3)
    """
    energy = np.square(np.asarray(field, np.float64))
    along = (abs(places - middle) for places, middle in zip(np.indices(field.shape), centre, strict=True))
    distance = reduce(np.maximum, along)
    order = np.argsort(distance, axis=None)
    held = np.cumsum(energy.ravel()[order])
    if held[-1] == 0:
        return 0
    return int(2 * np.ceil(distance.ravel()[order][np.searchsorted(held, _ENERGY * held[-1])] - 0.5) + 1)


def draw_fields(
    field: np.ndarray, theoretical: tuple[int, ...], centre: tuple[float, ...], path: Path, *, title: str, layer: str
) -> None:
    """Writes a PNG of both fields side by side: what one output may see, and what it does see.

    Of one axis it is a curve over the positions; of more than two, the slice of the last two through the centre.

    Args:
      field: the effective field [*space].
      theoretical: size of the theoretical field along each axis, in input positions.
      centre: of both, such as (row, column); the field may reach over the image's edge.
      layer: whose output is meant.
    """
    size = effective_size(field, centre)
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    figure.suptitle(title, fontsize=13, fontweight="bold")
    if field.ndim == 1:
        _draw_curve(figure, field, theoretical[0], centre[0], size)
        where = f"in positions of the input of {len(field)}"
    else:
        *others, h, w = field.shape
        through = tuple(int(np.clip(round(c), 0, n - 1)) for c, n in zip(centre, others, strict=False))
        beyond = _draw_squares(figure, field[through], theoretical[-2:], centre[-2:], size)
        where = f"in pixels of the {h} × {w} input (black frame){beyond}"
        where += f"; the slice at {' × '.join(map(str, through))} of {' × '.join(map(str, others))}" if others else ""
    figure.supxlabel(f"one output at the centre of {layer}, {where}", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _draw_curve(figure: Figure, field: np.ndarray, theoretical: int, centre: float, size: int) -> None:
    axes = figure.subplots()
    axes.axvspan(centre - theoretical / 2, centre + theoretical / 2, color="#3b6fb6", alpha=0.2, label=f"theoretical: {theoretical}")
    axes.plot(field / max(field.max(), 1e-30), color="#1b3a66", marker=".", label="gradient, relative to its largest")
    for i, edge in enumerate((centre - size / 2, centre + size / 2)):
        axes.axvline(edge, color="#222", linestyle="--", label=None if i else f"effective: 95 % of the squared gradient within {size}")
    axes.legend(fontsize=9, frameon=False)
    axes.spines[:].set_color("#bbb")


def _draw_squares(figure: Figure, field: np.ndarray, theoretical: tuple[int, int], centre: tuple[float, float], size: int) -> str:
    """Gives a remark where the theoretical field reaches over the image's edge."""
    h, w = field.shape
    top, left = centre[0] - theoretical[0] / 2, centre[1] - theoretical[1] / 2
    low = (min(-0.5, top), min(-0.5, left))
    high = (max(h - 0.5, centre[0] + theoretical[0] / 2), max(w - 0.5, centre[1] + theoretical[1] / 2))
    margin = 0.03 * max(high[0] - low[0], high[1] - low[1])
    may, does = figure.subplots(1, 2)
    for axes, caption in (
        (may, f"theoretical: {theoretical[0]} × {theoretical[1]}"),
        (does, f"effective: 95 % of the squared gradient within {size} × {size}"),
    ):
        axes.set(xlim=(low[1] - margin, high[1] + margin), ylim=(high[0] + margin, low[0] - margin), aspect="equal", facecolor="#e8e8ec")
        axes.set_title(caption, fontsize=11)
        axes.tick_params(labelsize=8, colors="#555")
        axes.spines[:].set_color("#bbb")
    may.add_patch(Rectangle((-0.5, -0.5), w, h, facecolor="white", edgecolor="none"))
    may.add_patch(Rectangle((left, top), theoretical[1], theoretical[0], facecolor="#3b6fb6", alpha=0.35, edgecolor="none"))
    may.plot(centre[1], centre[0], "+", color="#1b3a66", markersize=9)
    shown = does.imshow(field / max(field.max(), 1e-30), cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    corner = (centre[1] - size / 2, centre[0] - size / 2)
    does.add_patch(Rectangle(corner, size, size, fill=False, edgecolor="#7fe0ff", linewidth=1.3, linestyle="--"))
    for axes in (may, does):
        axes.add_patch(Rectangle((left, top), theoretical[1], theoretical[0], fill=False, edgecolor="#3b6fb6", linewidth=1.6))
        axes.add_patch(Rectangle((-0.5, -0.5), w, h, fill=False, edgecolor="#222", linewidth=1))
    figure.colorbar(shown, ax=does, shrink=0.8, label="gradient, relative to its largest").ax.tick_params(labelsize=8)
    return "; the blue square reaches over the image's edge, into padding" if low[0] < -0.5 or low[1] < -0.5 else ""
