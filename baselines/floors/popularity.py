"""How often an item occurs in training, whoever asks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from illmrec.data.splits import Split


class Popularity:
    """Scores an item by its number of interactions in the training part.

    Args:
        split: What is counted.
        seed: Of the order of items of equal number.
    """

    def __init__(self, *, split: Split, seed: int = 0) -> None:
        self._places = popularity_places(split, seed=seed).astype(np.float32)

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [histories, n_items], the same read-only row for every history: the item's place from below.

        Float32 holds the places of 16 million items exactly.
        """
        return np.broadcast_to(self._places, (len(histories), len(self._places)))


def popularity_places(split: Split, *, seed: int) -> np.ndarray:
    """Return each item's place by its interactions in training, int64 [n_items]: 0 is the least popular.

    Items of equal number are in an order drawn by seed. Ties count against the target (:mod:`illmrec.ranking`), and
    numbers of interactions tie where the scores of other methods never do: without an order among them this floor
    would stand lower than it is.

    Args:
        split: What is counted.
        seed: Of the order of items of equal number.
    """
    n_items = split.dataset.n_items
    counts = np.bincount(split.train_items(), minlength=n_items)
    drawn = np.random.default_rng([seed, n_items]).random(n_items)
    places = np.empty(n_items, dtype=np.int64)
    places[np.lexsort((drawn, counts))] = np.arange(n_items)
    return places
