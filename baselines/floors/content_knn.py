"""Items that look and read like those of the history: cosine of features, nothing learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_NOTHING = 1e-5  # of the mean length of a vector


@dataclass(frozen=True, kw_only=True)
class ContentKNNOptions:
    """What of a history is compared.

    Attributes:
        window: The last so many items of a history are read.
        centred: The catalogue's mean is taken off first: what all items share tells none apart.
    """

    window: int = 10
    centred: bool = True


class ContentKNN:
    """Scores an item by the mean cosine of its features with those of the history's last items, summed over types.

    The cost of a score is the number of items times the width of the features.

    Args:
        features: For each feature type, float32 [n_items, width].
        options: How.
    """

    def __init__(self, *, features: Mapping[str, np.ndarray], options: ContentKNNOptions) -> None:
        self._window = options.window
        tables = []
        for values in features.values():
            table = values - values.mean(axis=0) if options.centred else values
            norms = np.linalg.norm(table, axis=1, keepdims=True)
            # What stands at the mean up to rounding points nowhere.
            tables.append(np.where(norms > _NOTHING * norms.mean(), table / np.maximum(norms, 1e-30), 0.0))
        # Side by side: a product is the sum of the types' cosines.
        self._table = np.concatenate(tables, axis=1).astype(np.float32)

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [histories, n_items]."""
        profiles = [self._table[history[-self._window :]].mean(axis=0) for history in histories]
        scores: np.ndarray = np.stack(profiles) @ self._table.T
        return scores
