"""The same items with fewer or worse pictures: image sources around another one, each with its own fingerprint."""

from __future__ import annotations

import io
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageFilter

from illmrec.data.dataset import Dataset, ImageSource, changed
from illmrec.errors import InputError
from illmrec.files import hash_json

Degradation = Literal["resolution", "jpeg", "blur"]

BLUR_REFERENCE = 224
"""A blur radius is in pixels of a picture whose longer side is this, so that it means the same at every size."""

_VERSION = 1  # part of the fingerprint: changes when degraded pictures would


class DegradedImages:
    """Another source's pictures made worse, the same way each time.

    Args:
        source: Pictures by item row.
        kind: ``resolution``, a thumbnail whose longer side is at most ``amount`` pixels, never enlarged; ``jpeg``,
            compressed at quality ``amount``, 1 to 95; ``blur``, a Gaussian of radius ``amount`` in pixels of a
            picture of :data:`BLUR_REFERENCE`. The last two keep width and height.
        amount: How much, see ``kind``.

    Raises:
        ValueError: If the kind is unknown or the amount out of its range.
    """

    def __init__(self, *, source: ImageSource, kind: Degradation, amount: float) -> None:
        if kind not in get_args(Degradation):
            raise ValueError(f"degradation '{kind}' is none of {', '.join(get_args(Degradation))}")
        if kind != "blur" and amount != int(amount):
            raise ValueError(f"{kind} {amount}: must be a whole number")
        if amount <= 0 or (kind == "jpeg" and amount > 95):
            raise ValueError(f"{kind} {amount}: out of range")
        self._source, self.kind, self.amount = source, kind, amount
        self.available: np.ndarray = source.available
        self.fingerprint: str = hash_json([source.fingerprint, kind, float(amount), _VERSION])

    def read(self, item: int) -> Image.Image:
        """Return the degraded picture of an item, mode RGB."""
        image = self._source.read(item)
        if self.kind == "resolution":
            return _thumbnail(image, int(self.amount))
        if self.kind == "jpeg":
            return _compressed(image, int(self.amount))
        radius = self.amount * max(image.size) / BLUR_REFERENCE
        return image.filter(ImageFilter.GaussianBlur(radius))


class LowResolutionImages:
    """The source's own smaller pictures (paper E.9), of the items that have one; the others keep theirs.

    Args:
        source: Pictures by item row.
        low: Smaller ones of the same items; those of items without a picture in ``source`` are not used.
    """

    def __init__(self, *, source: ImageSource, low: ImageSource) -> None:
        self._source, self._low = source, low
        self.available: np.ndarray = source.available
        self.replaced: np.ndarray = source.available & low.available
        """bool [n_items], items that show their smaller picture."""
        replaced = np.packbits(self.replaced).tobytes().hex()
        self.fingerprint: str = hash_json([source.fingerprint, low.fingerprint, replaced])

    def read(self, item: int) -> Image.Image:
        """Return the smaller picture of an item, or its only one, mode RGB."""
        return (self._low if self.replaced[item] else self._source).read(item)


def with_images(dataset: Dataset, images: ImageSource) -> Dataset:
    """Return a data set with other pictures of the same items, and with a fingerprint of its own."""
    return changed(dataset, images=images)


def images_of(dataset: Dataset, *, experiment: str) -> ImageSource:
    """Return the data set's pictures.

    Raises:
        InputError: If it has none; names what still runs.
    """
    if dataset.images is None or not dataset.images.available.any():
        raise InputError(
            f"{dataset.name}: no item has an image, which bench.{experiment} needs; add images; experiments on text "
            "methods still run, such as bench.comparison --methods tallrec,trsr,sasrec"
        )
    return dataset.images


def _thumbnail(image: Image.Image, longer_side: int) -> Image.Image:
    small = image.copy()
    small.thumbnail((longer_side, longer_side), Image.Resampling.LANCZOS)
    return small


def _compressed(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, format="JPEG", quality=quality)
    content.seek(0)
    with Image.open(content, formats=("JPEG",)) as compressed:
        return compressed.convert("RGB")
