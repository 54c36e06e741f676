"""Image and text features of items as memory-mapped tables. Importing this package imports no torch."""

from __future__ import annotations

from illmrec.features.computing import compute_table
from illmrec.features.missing import fill_missing_images
from illmrec.features.table import FeatureTable
from illmrec.features.text import text_features
from illmrec.features.vision import image_features

__all__ = ["FeatureTable", "compute_table", "fill_missing_images", "image_features", "text_features"]
