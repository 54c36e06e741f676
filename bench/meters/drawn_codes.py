"""Semantic IDs that are drawn: what a list costs does not depend on which they are."""

from __future__ import annotations

import numpy as np

LEVELS = 4
"""Codes of an item."""


def drawn_codes(n_items: int, codebook: int, *, levels: int = LEVELS, seed: int = 0) -> np.ndarray:
    """Return codes of their own for so many items, int64 [n_items, levels], drawn uniformly."""
    numbers = np.random.default_rng(seed).choice(codebook**levels, n_items, replace=False)
    return np.stack(np.unravel_index(numbers, (codebook,) * levels), axis=1)
