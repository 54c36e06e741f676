"""Image and text features of items as memory-mapped tables. Importing this package imports no torch."""

from __future__ import annotations

from illmrec.features.table import FeatureTable, compute_table

__all__ = ["FeatureTable", "compute_table"]
