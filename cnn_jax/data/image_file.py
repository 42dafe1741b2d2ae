"""An image file's content as pixels. Whatever the bytes are: pixels or one kind of error, in bounded memory; nothing of them is run."""

import io
import warnings

import numpy as np
import PIL.Image
import PIL.ImageOps

from cnn_jax.errors import shortened

# Not among them: EPS, for which PIL calls another program, and formats whose readers are seldom used and little tested.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 2**26  # 67 million: more than cameras make; a small file can claim any number
MAX_BYTES = 2**28  # of a file; longer ones are not read


class BadImage(ValueError):
    """A file that holds no image that can be used; the message says why."""


def decode_image(content: bytes) -> np.ndarray:
    """Returns the pixels as uint8 [h, w, 3], upright, whatever the file is called.

    The content tells the format. Images that a camera has marked as rotated are turned; grey, palette and CMYK become RGB, 16 bits become
    8 (by the upper ones), transparency is dropped, and of several frames the first is taken.

    Raises:
      BadImage: the content is empty, no image of a known format, cut short, or too large.

    >>> file = io.BytesIO()
    >>> PIL.Image.new("L", (3, 2), 7).save(file, "PNG")
    >>> decode_image(file.getvalue()).shape
    (2, 3, 3)
    >>> decode_image(b"")
    Traceback (most recent call last):
    cnn_jax.data.image_file.BadImage: the file is empty
    """
    if not content:
        raise BadImage("the file is empty")
    if len(content) > MAX_BYTES:
        raise BadImage(f"the file has {len(content):,} bytes, more than {MAX_BYTES:,}")
    try:
        with warnings.catch_warnings(), PIL.Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            warnings.simplefilter("ignore")  # of odd metadata, which is not used
            if picture.width * picture.height > MAX_PIXELS:
                raise BadImage(f"it claims {picture.width:,} × {picture.height:,} pixels, more than {MAX_PIXELS:,}")
            picture.load()
            return np.ascontiguousarray(_eight_bits(PIL.ImageOps.exif_transpose(picture)).convert("RGB"))
    except BadImage:
        raise
    except PIL.UnidentifiedImageError:
        raise BadImage(f"it is none of {', '.join(FORMATS)}") from None
    except PIL.Image.DecompressionBombError:
        raise BadImage(f"it claims more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # a reader of broken files raises anything
        raise BadImage(shortened(f"it cannot be decoded: {error}")) from None


def _eight_bits(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Grey images of 16 bits, which PIL would clip at 255."""
    if picture.mode.startswith("I;16") or picture.mode == "I":
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise BadImage("its values are neither of 8 nor of 16 bits")
        return PIL.Image.fromarray((values >> 8).astype(np.uint8))
    if picture.mode == "F":
        raise BadImage("its values are floating-point numbers")
    return picture
