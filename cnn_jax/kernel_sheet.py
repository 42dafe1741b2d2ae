"""A real picture through every hand-designed kernel, drawn as one sheet."""

import io
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageOps, UnidentifiedImageError

from cnn_jax.errors import UserError, nearest, unknown
from cnn_jax.ops.kernels import FAMILIES, apply_kernel
from cnn_jax.ops.padding import BORDERS, Border

# Photographs that ship inside scikit-image.
PICTURES = {
    "astronaut": "astronaut.png",
    "camera": "camera.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "rocket": "rocket.jpg",
}

_COLUMNS = 8
# The picture's sides as it is filtered: small enough that the work of a 3×3 kernel can be seen.
_PICTURE = (168, 144)
# In pixels of the sheet: one of the picture's is one of the sheet's, so nothing is blurred by drawing.
_GAP, _LABEL, _HEADING, _MARGIN = 12, 30, 46, 24
_INSET = 0.32  # of the picture's height
_INK, _FAINT = "#1f2328", "#656d76"
# ITU-R BT.709: how bright red, green and blue look.
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


class Tile(NamedTuple):
    """A kernel and its place on the sheet, counted in tiles; `heading` where its family begins."""

    name: str
    row: int
    column: int
    heading: str


def load_picture(name_or_path: str | Path) -> np.ndarray:
    """Returns a picture as floats in [0, 1], [h, w, 3].

    Args:
      name_or_path: one of `PICTURES`, or a file that Pillow can read (PNG, JPEG, …).

    Raises:
      UserError: it is neither.

    >>> load_picture("chelsea").shape
    (300, 451, 3)
    """
    source = files("skimage") / "data" / PICTURES[name_or_path] if name_or_path in PICTURES else Path(name_or_path).expanduser()
    bundled = f"Bundled pictures: {', '.join(PICTURES)}."
    if not source.is_file():
        close = nearest(str(name_or_path), PICTURES)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise UserError(f"There is no picture {str(name_or_path)!r}.{meant} {bundled} Anything else is the path of a PNG or JPEG file.")
    try:
        with source.open("rb") as file, Image.open(file) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"), np.float32) / 255
    except (UnidentifiedImageError, OSError) as e:
        raise UserError(f"{str(name_or_path)!r} cannot be read as a picture: {e}. {bundled}") from None


def draw_kernel_sheet(image: np.ndarray, path: str | Path, *, border: Border = "reflect") -> list[str]:
    """Writes one labelled PNG of the picture through all kernels, family by family; returns the kernels' names in order.

    Each tile shows the result and, in a corner, the kernel. The picture's middle is cut to the tile's shape and made as small. Kernels that
    sum to one act on the colours; the others act on the brightness, and their results are drawn around mid-grey.

    Args:
      image: floats in [0, 1], [h, w, 3].
      path: of the file to write, *.png; its folders are made.
      border: what the kernels see outside, as in `apply_kernel`.

    Raises:
      UserError: another suffix, a file that cannot be written, an unknown border.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() != ".png":
        raise UserError(f"--output={path} must be a PNG file: --output=FILE.png")
    if border not in BORDERS:
        raise unknown("border", str(border), BORDERS)
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"image must be [h, w, 3], got shape {image.shape}")
    image = _cut_and_made_small(image)
    tiles = _laid_out()
    width, height = _PICTURE
    step = height + _LABEL + _HEADING
    size = (2 * _MARGIN + _COLUMNS * width + (_COLUMNS - 1) * _GAP, _MARGIN + (tiles[-1].row + 1) * step + _HEADING)
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    kernels = {name: make() for family in FAMILIES.values() for name, make in family.items()}
    for tile in tiles:
        corner = (_MARGIN + tile.column * (width + _GAP), _MARGIN + tile.row * step + _HEADING)
        _draw_tile(figure, size, corner, tile, image, np.asarray(kernels[tile.name]), border)
    note = "In the corner the kernel: red is above zero, blue below. In grey pictures mid-grey is zero, brighter is above it."
    figure.text(_MARGIN / size[0], 20 / size[1], note, fontsize=13, color=_FAINT, va="center")
    _save(figure, path)
    return [tile.name for tile in tiles]


def _laid_out() -> list[Tile]:
    """A family goes on in the row of the one before where it fits, else starts a new one."""
    tiles: list[Tile] = []
    row = column = 0
    for heading, family in FAMILIES.items():
        if column + len(family) > _COLUMNS:
            row, column = row + 1, 0
        for i, name in enumerate(family):
            tiles.append(Tile(name, row, column, heading if i == 0 else ""))
            column += 1
    return tiles


def _cut_and_made_small(image: np.ndarray) -> np.ndarray:
    width, height = _PICTURE
    scale = min(image.shape[0] / height, image.shape[1] / width)
    top, left = (image.shape[0] - scale * height) / 2, (image.shape[1] - scale * width) / 2
    part = (left, top, left + scale * width, top + scale * height)
    picture = Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))
    return np.asarray(picture.resize(_PICTURE, Image.Resampling.LANCZOS, box=part), np.float32) / 255


def _draw_tile(
    figure: Figure, size: tuple[int, int], corner: tuple[int, int], tile: Tile, image: np.ndarray, kernel: np.ndarray, border: Border
) -> None:
    (left, top), (width, height) = corner, _PICTURE

    def axes_at(x: float, y: float, w: float, h: float):
        return figure.add_axes((x / size[0], 1 - (y + h) / size[1], w / size[0], h / size[1]), xticks=[], yticks=[], frameon=False)

    axes_at(left, top, width, height).imshow(_shown(image, kernel, border), interpolation="none", aspect="auto")
    side = round(_INSET * height)
    inset = axes_at(left + width - side - 5, top + height - side - 5, side, side)
    inset.set_frame_on(True)
    for spine in inset.spines.values():
        spine.set(color="white", linewidth=2)
    most = np.abs(kernel).max()
    inset.imshow(kernel, cmap="RdBu_r", vmin=-most, vmax=most, interpolation="none", aspect="auto")
    label = tile.name.replace("_", " ")
    fits = min(12, 210 / len(label))  # points: a longer one would run into the next tile
    figure.text(left / size[0], 1 - (top + height + 14) / size[1], label, fontsize=fits, color=_INK, va="center")
    if tile.heading:
        place = (left / size[0], 1 - (top - 16) / size[1])
        figure.text(*place, tile.heading, fontsize=15, color=_INK, va="center", weight="bold")


def _shown(image: np.ndarray, kernel: np.ndarray, border: Border) -> np.ndarray:
    if abs(kernel.sum() - 1) < 1e-3:
        return np.clip(np.asarray(apply_kernel(image, kernel, border=border)), 0, 1)
    response = np.asarray(apply_kernel((image @ _LUMINANCE).astype(np.float32), kernel, border=border))
    most = max(np.quantile(np.abs(response), 0.99), 1e-6)  # the largest hundredth may be cut off: the rest is seen better
    return np.repeat(np.clip(0.5 + response / (2 * most), 0, 1)[..., None], 3, axis=-1)


def _save(figure: Figure, path: Path) -> None:
    """Writes a PNG of 256 colours, a third of the size in full colour."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    with Image.open(buffer) as sheet:
        few = sheet.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        few.save(path, format="PNG", optimize=True)
    except OSError as e:
        raise UserError(f"--output={path} cannot be written: {e.strerror or e}") from None
