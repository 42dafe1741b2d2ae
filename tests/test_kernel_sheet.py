"""The sheet that draws a picture through every kernel: what it shows, the pictures it takes, what it refuses."""

import numpy as np
import pytest
from PIL import Image

from cnn_jax import kernel_sheet
from cnn_jax.errors import UserError
from cnn_jax.kernel_sheet import PICTURES, draw_kernel_sheet, load_picture
from cnn_jax.ops import kernels as k
from cnn_jax.ops.kernels import KERNELS


def test_the_sheet_shows_all_kernels_on_the_picture(tmp_path, monkeypatch):
    path = tmp_path / "new" / "sheet.png"
    assert draw_kernel_sheet(load_picture("chelsea"), path) == list(KERNELS)
    assert path.stat().st_size < 1_500_000
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        pixels = np.asarray(sheet.convert("RGB"), np.float32)
    corner = np.array([kernel_sheet._MARGIN, kernel_sheet._MARGIN + kernel_sheet._HEADING])
    width, height = kernel_sheet._PICTURE
    first = pixels[corner[1] : corner[1] + height, corner[0] : corner[0] + width]  # the identity's tile: the picture itself
    expected = kernel_sheet._cut_and_made_small(load_picture("chelsea")) * 255
    free = slice(0, height // 2)
    assert np.abs(first[free] - expected[free]).mean() < 8  # 256 colours for the whole sheet
    assert (pixels[:, :8] == 255).all()  # nothing runs over the margins
    assert (pixels[:, -8:] == 255).all()
    monkeypatch.setattr(kernel_sheet, "FAMILIES", {"Smoothing": {"box": k.box}})
    assert draw_kernel_sheet(np.ones((2, 5, 3), np.float32), tmp_path / "small.png", border="circular") == ["box"]


def test_pictures_are_bundled_or_files(tmp_path):
    for name in PICTURES:
        image = load_picture(name)
        assert image.dtype == np.float32
        assert image.shape[-1] == 3
        assert 0 <= image.min() < image.max() <= 1
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_allclose(load_picture(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, -1) / 255, rtol=1e-6)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match=r"text.png' cannot be read as a picture.*Bundled pictures: astronaut, camera, chelsea"):
        load_picture(str(tmp_path / "text.png"))
    with pytest.raises(UserError, match=r"no picture 'chelsee'. Did you mean chelsea\? Bundled pictures: .* PNG or JPEG"):
        load_picture("chelsee")
    with pytest.raises(UserError, match="no picture"):
        load_picture(tmp_path)
    with pytest.raises(ValueError, match=r"image must be \[h, w, 3\], got shape \(4, 4\)"):
        draw_kernel_sheet(np.zeros((4, 4)), tmp_path / "x.png")


def test_the_sheet_refuses_what_it_cannot_write(tmp_path, monkeypatch):
    image = np.ones((4, 4, 3), np.float32)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=r"--output=.*sheet.jpg must be a PNG file: --output=FILE.png"):
        draw_kernel_sheet(image, tmp_path / "sheet.jpg")
    with pytest.raises(UserError, match=r"Unknown border 'reflct'. Did you mean reflect .*Known: zeros, reflect, replicate, circular."):
        draw_kernel_sheet(image, tmp_path / "sheet.png", border="reflct")
    monkeypatch.setattr(kernel_sheet, "FAMILIES", {"Smoothing": {"box": k.box}})
    for path in ("file/sheet.png", "folder.png"):
        with pytest.raises(UserError, match=f"--output=.*{path} cannot be written: "):
            draw_kernel_sheet(image, tmp_path / path)
