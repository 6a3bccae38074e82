"""One image file as 8-bit pixels, grey or RGB.

As torchvision's loader makes them, which networks are trained with: transparency is dropped, CMYK
and palettes are converted, an orientation in EXIF is not applied. Only 16-bit grey differs: it is
scaled to 8 bits, where a plain conversion would clip nearly all of it to white.
"""

from pathlib import Path

import numpy as np
from PIL import Image

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".ppm", ".pgm", ".pbm", ".pnm", ".bmp", ".tif",
     ".tiff", ".webp"}
)  # fmt: skip
_MODES = {1: "L", 3: "RGB"}
_SIXTEEN_AS_INTEGERS = ("PNG", "PPM")  # formats whose mode I holds 16 bits


class DataError(ValueError):
    """A data set that cannot be used; the message says which, why, and what to do."""


def read_picture(path: Path, channels: int) -> Image.Image:
    """The image in a file, of mode L (1 channel) or RGB (3).

    Raises DataError, naming the path, for damaged files and for numbers without a scale (floats,
    32-bit integers).
    """
    try:
        with Image.open(path) as opened:
            return _eight_bits(opened, path).convert(_MODES[channels])
    except (DataError, MemoryError):
        raise
    except Exception as error:  # Pillow raises many types for damaged files
        raise DataError(f"{path}: cannot be read as an image ({error}); remove it") from error


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of the image in a file; DataError where there is none."""
    try:
        with Image.open(path) as opened:
            return opened.size
    except Exception as error:
        raise DataError(f"{path}: cannot be read as an image ({error}); remove it") from error


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """The image itself, or of 16 bits the nearest of 8: 65535 is 255."""
    integers = image.mode == "I" and image.format in _SIXTEEN_AS_INTEGERS
    if image.mode.startswith("I;16") or integers:
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floats"
        raise DataError(
            f"{path}: its pixels are {kind}, and nothing says which value is white: save it with 8 "
            "or 16 bits, as it was for training"
        )
    return image
