"""Pictures from bytes, safely, and pictures by item row."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps

from illmrec.data.dataset import ImageSource
from illmrec.errors import InputError
from illmrec.files import hash_json

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 50_000_000
"""A header that claims more is refused before anything is decoded (a decompression bomb)."""
MAX_BYTES = 200_000_000
"""A file, or the unpacked size of a zip entry, above this is refused before it is read."""

REMEDY = "replace or delete it; an item without an image counts as missing"

# What Pillow raises on damaged files, besides its own UnidentifiedImageError (an OSError).
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
)


def decode_image(content: bytes, *, where: str) -> Image.Image:
    """Decode a JPEG, PNG or WebP picture to RGB, upright, transparency on white.

    Args:
        content: The file's bytes.
        where: What an error message calls the file, with the item.

    Raises:
        InputError: If it is empty, not such an image, truncated, corrupt or above :data:`MAX_PIXELS`.
    """
    if not content:
        raise InputError(f"{where}: the image is empty (0 bytes); {REMEDY}")
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images by itself; the limit below is stricter and an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(content), formats=IMAGE_FORMATS)
    except Image.DecompressionBombError:
        raise InputError(f"{where}: the image has more than {MAX_PIXELS:,} pixels; {REMEDY}") from None
    except _DECODE_ERRORS:
        raise InputError(f"{where}: this is not a {', '.join(IMAGE_FORMATS)} image; {REMEDY}") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{where}: the image has {width} x {height} pixels, more than {MAX_PIXELS:,}; {REMEDY}"
        )
    try:
        image.load()
        image = ImageOps.exif_transpose(image)
        return _to_rgb(image)
    except _DECODE_ERRORS:
        raise InputError(f"{where}: the image is corrupt or truncated; {REMEDY}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey levels: a plain conversion would clip them to white
        image = Image.fromarray((np.asarray(image, dtype=np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


class SelectedImages:
    """Some rows of another source's images, as the items table keeps some of its rows."""

    def __init__(self, *, source: ImageSource, rows: np.ndarray) -> None:
        """Select rows.

        Args:
            source: Images by row of the whole table.
            rows: int [n_items], the source's row of each item.
        """
        self._source = source
        self._rows = np.asarray(rows, dtype=np.int64)
        self.available: np.ndarray = source.available[self._rows]
        self.fingerprint: str = hash_json([source.fingerprint, self._rows.tolist()])

    @property
    def source(self) -> ImageSource:
        """The images that the rows were selected from."""
        return self._source

    @property
    def rows(self) -> np.ndarray:
        """The source's row of each item, int64 [n_items]."""
        return self._rows

    def read(self, item: int) -> Image.Image:
        """Return the picture of an item, mode RGB."""
        return self._source.read(int(self._rows[item]))
