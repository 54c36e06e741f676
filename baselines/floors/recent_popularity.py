"""How often an item occurs in the latest part of training, whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from baselines.floors.popularity import popularity_places
from baselines.floors.ties import by_popularity
from illmrec.data.splits import Split
from illmrec.errors import UnsupportedError


@dataclass(frozen=True, kw_only=True)
class RecentPopularityOptions:
    """What is recent.

    Attributes:
        share: The latest so large a share of all training interactions is counted, and what has the time of the first
            of them.
    """

    share: float = 0.1


class RecentPopularity:
    """Scores an item by its number of interactions in the latest part of training.

    With leave-one-out the clock of the whole data is read: what was bought lately by others counts, also where it was
    after the moment at which a user is asked.

    Args:
        split: What is counted.
        options: How.
        seed: Of the order of items that are equally popular, lately and at all.

    Raises:
        UnsupportedError: If the data set does not hold the times of its interactions.
    """

    def __init__(self, *, split: Split, options: RecentPopularityOptions, seed: int = 0) -> None:
        times = split.train_times()
        if times is None:
            raise UnsupportedError(
                "recent-popularity: the data set does not hold the times of its interactions"
            )
        counted = min(len(times), max(1, round(options.share * len(times))))
        first = np.partition(times, len(times) - counted)[len(times) - counted]
        recent = split.train_items()[times >= first]
        places = popularity_places(split, seed=seed)
        counts = np.bincount(recent, minlength=len(places)).astype(np.float64)
        self._scores = by_popularity(counts[None], places)[0]

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float64 [histories, n_items], the same read-only row for every history; ties by popularity."""
        return np.broadcast_to(self._scores, (len(histories), len(self._scores)))
