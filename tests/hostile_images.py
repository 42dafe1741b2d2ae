"""Forty image files as the world has them: broken, mislabelled, hostile; each with what is to become of it."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image

# A picture whose corners differ, so that a turn is seen.
_PIXELS = np.zeros((24, 32, 3), np.uint8)
_PIXELS[:12, :16] = (250, 10, 10)
_PIXELS[12:, 16:] = (10, 10, 250)


def _file(format_name: str, image: PIL.Image.Image | None = None, **options) -> bytes:
    file = io.BytesIO()
    (image or PIL.Image.fromarray(_PIXELS)).save(file, format_name, **options)
    return file.getvalue()


def _png(*chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


def _header(width: int, height: int, depth: int = 8, colour: int = 2) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def _exif(orientation: int) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return exif


def _sixteen() -> PIL.Image.Image:
    return PIL.Image.fromarray((np.arange(24 * 32).reshape(24, 32) * 80).astype(np.uint16))


def good() -> dict[str, bytes]:
    """Returns files that hold an image, whatever their names say."""
    rgb, grey = PIL.Image.fromarray(_PIXELS), PIL.Image.fromarray(_PIXELS[..., 0])
    alpha = rgb.convert("RGBA")
    alpha.putalpha(128)
    frames = [rgb, rgb.rotate(90, expand=False)]
    jpeg = _file("JPEG", quality=95)
    return {
        "plain.jpg": jpeg,
        "png_named_jpeg.jpg": _file("PNG"),
        "jpeg_named_png.png": jpeg,
        "upper_case.JPEG": jpeg,
        "cmyk.jpg": _file("JPEG", rgb.convert("CMYK"), quality=95),
        "grey.jpg": _file("JPEG", grey),
        "sixteen_bits.png": _file("PNG", _sixteen()),
        "palette.png": _file("PNG", rgb.quantize(8)),
        "palette_with_transparency.gif": _file("GIF", rgb.quantize(8), transparency=0),
        "one_bit.png": _file("PNG", grey.convert("1")),
        "with_alpha.png": _file("PNG", alpha),
        "grey_with_alpha.png": _file("PNG", alpha.convert("LA")),
        "two_frames.gif": _file("GIF", frames[0], save_all=True, append_images=frames[1:]),
        "turned_by_exif.jpg": _file("JPEG", rgb.rotate(90, expand=True), exif=_exif(6), quality=95),
        "mirrored_by_exif.jpg": _file("JPEG", rgb.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT), exif=_exif(2), quality=95),
        "lossless.webp": _file("WEBP", lossless=True),
        "bitmap.bmp": _file("BMP"),
        "strips.tif": _file("TIFF"),
        "progressive.jpg": _file("JPEG", progressive=True, quality=95),
        "rubbish_behind_the_end.jpg": jpeg + b"<?php system('touch owned'); ?>" * 50,
        "one_pixel.png": _file("PNG", rgb.resize((1, 1))),
        "thin.png": _file("PNG", rgb.resize((1, 300))),
    }


def bad() -> dict[str, bytes]:
    """Returns files that hold none that can be used."""
    jpeg, png = _file("JPEG"), _file("PNG")
    middle = len(jpeg) // 2
    noise = np.random.default_rng(0).bytes(5000)
    return {
        "empty.jpg": b"",
        "one_byte.jpg": b"\xff",
        "text.jpg": b"this is no image\n" * 10,
        "page.png": b"<html><script>fetch('//evil')</script></html>",
        "noise.jpg": noise,
        "jpeg_header_and_noise.jpg": jpeg[:20] + noise,
        "cut_in_the_middle.jpg": jpeg[:middle],
        "cut_in_the_middle.png": png[: len(png) // 2],
        "cut_in_the_header.png": png[:20],
        "checksum.png": png[:60] + bytes([png[60] ^ 1]) + png[61:],
        "four_billion_pixels.png": _png(_header(65535, 65535), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")),
        "two_billion_wide.png": _png(_header(2**31 - 1, 1), (b"IEND", b"")),
        "no_pixels.png": _png(_header(0, 0), (b"IEND", b"")),
        "bomb_of_text.png": _png(
            _header(4, 4), (b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 2**26)), (b"IDAT", zlib.compress(bytes(52))), (b"IEND", b"")
        ),
        "script.gif": b"GIF89a" + b"#!/bin/sh\ntouch owned\n",
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(owned) (w) file closefile\nshowpage\n",
        "vector.png": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><image href='file:///etc/passwd'/></svg>",
        "archive.jpg": b"PK\x03\x04" + noise[:500],
        "pickle.png": b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x05posix\x8c\x06system\x93\x8c\x0btouch owned\x85R.",
        "floats.tif": _file("TIFF", PIL.Image.fromarray(np.full((8, 8), 0.5, np.float32))),
    }


def write_classes(folder: Path, files: dict[str, bytes], classes: tuple[str, ...] = ("cat", "dog")) -> None:
    """Writes the files, each into one class in turn."""
    for i, (name, content) in enumerate(files.items()):
        place = folder / classes[i % len(classes)]
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
