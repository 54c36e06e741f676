"""What encoders read of a picture: small objects that travel to processes that decode. No torch."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from PIL import Image


class WholePicture:
    """Resizes a picture to a square, whole: a centre crop would cut tall products and posters."""

    def __init__(self, resolution: int) -> None:
        """Take the edge of the square."""
        self.resolution = resolution

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Return uint8 [resolution, resolution, 3]."""
        return np.asarray(image.resize((self.resolution, self.resolution), Image.Resampling.BICUBIC))


class ProcessedPicture:
    """Applies an image processor of transformers, and gives the pixels alone."""

    def __init__(self, processor: Any) -> None:
        """Take the processor."""
        self.processor = processor

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Return float32 [3, height, width], as the model wants it."""
        pixels = self.processor(
            images=np.asarray(image), input_data_format="channels_last", return_tensors="np"
        )
        return np.asarray(pixels["pixel_values"][0], dtype=np.float32)


class ProcessedTile:
    """Applies an image processor of a vision-language model to a picture as one tile.

    Cut into several, a picture takes as many tokens as its shape and size say.
    """

    def __init__(self, processor: Any, names: Collection[str]) -> None:
        """Take the processor, and the names of what the model reads of its output."""
        self.processor = processor
        self.names = frozenset(names)

    def __call__(self, image: Image.Image) -> dict[str, np.ndarray]:
        """Return a picture as the model's vision tower wants it, one picture in each array."""
        whole = {"do_image_splitting": False} if hasattr(self.processor, "do_image_splitting") else {}
        prepared = self.processor(
            images=np.asarray(image), input_data_format="channels_last", return_tensors="np", **whole
        )
        return {name: np.asarray(value) for name, value in prepared.items() if name in self.names}
