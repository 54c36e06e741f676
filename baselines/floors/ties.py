"""Where a floor has no evidence for either of two items, the more popular one comes first."""

from __future__ import annotations

import numpy as np

_SHARE = (
    1e-9  # of a score of 1: above the rounding of sums in float64, below any difference that means something
)


def by_popularity(scores: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return scores whose ties are broken by popularity.

    Counts and neighbourhoods say nothing of most items, and ties count against the target
    (:mod:`illmrec.ranking`): without an order among them these floors would stand lower than they are.

    Args:
        scores: Float64 [histories, n_items].
        places: Int [n_items], from :func:`baselines.floors.popularity.popularity_places`.

    Returns:
        Float64 [histories, n_items].
    """
    broken: np.ndarray = scores + places * (_SHARE / len(places))
    return broken
