"""Several vectors of one picture: what such features are called, and into which cells it is divided; no torch."""

from __future__ import annotations

import re

_NAME = re.compile(r"image(?:-([1-9]\d*))?")
MLLM = "mllm"
"""The feature type of pictures as a vision-language model reads them."""
EIGHTHS, COARSER = 8, (2, 4)
"""Vectors that the encoder gives, and numbers of vectors that are means of these: pictures are encoded once for all."""
MOST = 64
"""Vectors of a picture at most: more than an encoder of 7 by 7 places can tell apart."""


def image_vectors(feature: str) -> int:
    """Return how many vectors of its picture an item has under a feature type, 0 for one that is not of pictures.

    ``image`` is one vector, pooled over the picture; ``image-4`` is four, each of a quarter of it.
    """
    found = _NAME.fullmatch(feature)
    if found is None:
        return 0
    count = int(found[1] or 1)
    return count if count <= MOST and (count > 1 or found[1] is None) else 0


def of_pictures(feature: str) -> bool:
    """Return whether a feature type is of pictures, so that items without one have none."""
    return feature == MLLM or image_vectors(feature) > 0


def grid(vectors: int) -> tuple[int, int]:
    """Return rows and columns of the cells of a picture: as near to a square as their number allows, taller than wide.

    Two are a top and a bottom, four are quarters, eight are four rows of two.
    """
    columns = max(side for side in range(1, vectors + 1) if side * side <= vectors and vectors % side == 0)
    return vectors // columns, columns
