"""Pictures from bytes, safely, and pictures by item row."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, features

from illmrec.data.dataset import ImageSource
from illmrec.errors import InputError
from illmrec.files import hash_json

IMAGE_FORMATS = tuple(
    name
    for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
    if name != "AVIF" or "avif" in features.get_supported()
)
"""Formats that are decoded; AVIF where this Pillow can. Of animations the first frame is read."""
_PNG = b"\x89PNG\r\n\x1a\n"
MAX_PIXELS = 50_000_000
"""A header that claims more is refused before anything is decoded (a decompression bomb)."""
_MAX_SCANNED = 20 * MAX_PIXELS
"""Pixels times scans of a progressive JPEG. Encoders make about ten; a bomb of one megabyte may have thousands."""
MAX_BYTES = 200_000_000
"""A file, or the unpacked size of a zip entry, above this is refused before it is read."""

REMEDY = "replace or delete it; an item without an image counts as missing"

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation."""


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep back what Pillow says of pictures that it reads: of a broken one a line for each of its tags.

    Of large ones it warns by itself; the limit here is stricter, and an error.
    """
    with warnings.catch_warnings():
        for kind in (UserWarning, Image.DecompressionBombWarning):
            warnings.simplefilter("ignore", kind)
        yield


def decode_image(content: bytes, *, where: str) -> Image.Image:
    """Decode a picture of :data:`IMAGE_FORMATS` to RGB, upright, transparency on white.

    Metadata that cannot be read is no reason to refuse a picture: it is left as it lies.

    Args:
        content: The file's bytes.
        where: What an error message calls the file, with the item.

    Raises:
        InputError: If it is empty, not such an image, truncated, corrupt or above :data:`MAX_PIXELS`.
    """
    if not content:
        raise InputError(f"{where}: the image is empty (0 bytes); {REMEDY}")
    with quiet_pillow():
        try:
            return _decoded(content, where=where)
        except InputError:
            bare = _without_metadata(content)
            if bare == content:
                raise
        return _decoded(bare, where=where)


def _decoded(content: bytes, *, where: str) -> Image.Image:
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=IMAGE_FORMATS)
    except Image.DecompressionBombError:
        raise InputError(f"{where}: the image has more than {MAX_PIXELS:,} pixels; {REMEDY}") from None
    except MemoryError:
        raise
    except Exception:  # of damaged files Pillow raises any: assertions, KeyErrors, errors of struct and zlib
        raise InputError(f"{where}: this is not a {', '.join(IMAGE_FORMATS)} image; {REMEDY}") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{where}: the image has {width} x {height} pixels, more than {MAX_PIXELS:,}; {REMEDY}"
        )
    if width * height * (scans := _scans(content)) > _MAX_SCANNED:
        raise InputError(f"{where}: the image is refined {scans:,} times, too often for its size; {REMEDY}")
    try:
        image.load()
        return _to_rgb(_upright(image))
    except MemoryError:
        raise
    except Exception:
        raise InputError(f"{where}: the image is corrupt or truncated; {REMEDY}") from None


def _upright(image: Image.Image) -> Image.Image:
    """Return a picture turned as its EXIF says, or as it is where that cannot be read.

    Not by Pillow's ``exif_transpose``, which writes the rest of the EXIF anew and fails where any of it is broken.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except MemoryError:
        raise
    except Exception:
        return image
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _scans(content: bytes) -> int:
    """Return how many scans a JPEG file has at most: a progressive one is decoded whole for each."""
    return content.count(b"\xff\xda") if content.startswith(b"\xff\xd8") else 1


def _without_metadata(content: bytes) -> bytes:
    """Return a PNG file without text, EXIF and the like; anything else as it is."""
    if content.startswith(_PNG):
        return _PNG + b"".join(_png_chunks(content))
    return content


def _png_chunks(content: bytes) -> Iterator[bytes]:
    """Yield the chunks of a PNG file that pixels depend on: the critical ones, in capitals, and transparency."""
    start = len(_PNG)
    while start + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, start)
        end = start + 12 + length
        name = content[start + 4 : start + 8]
        if name[:1].isupper() or name == b"tRNS":
            yield content[start:end]
        start = end


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey levels: a plain conversion would clip them to white
        levels = np.asarray(image)
        grey = Image.fromarray((np.clip(levels, 0, 65535) >> 8).astype(np.uint8))
        if isinstance(seen_through := image.info.get("transparency"), int):
            alpha = Image.fromarray(np.where(levels == seen_through, 0, 255).astype(np.uint8))
            grey.putalpha(alpha)
        image = grey
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


class KeptImages:
    """Another source's pictures of some items; the other items have none.

    Args:
        source: Pictures by item row.
        kept: bool [n_items], the items that keep theirs.
    """

    def __init__(self, *, source: ImageSource, kept: np.ndarray) -> None:
        self._source = source
        self.available: np.ndarray = source.available & kept
        self.fingerprint: str = hash_json([source.fingerprint, np.packbits(self.available).tobytes().hex()])

    def read(self, item: int) -> Image.Image:
        """Return the picture of an item, mode RGB.

        Raises:
            InputError: If it was removed, or the source cannot give it.
        """
        if not self.available[item]:
            raise InputError(
                f"item row {item} has no image: it is missing, removed for an experiment, or broken"
            )
        return self._source.read(item)
