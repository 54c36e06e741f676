"""What followed what: rules from an item to those bought soon after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from baselines.floors.popularity import popularity_places
from baselines.floors.ties import by_popularity
from illmrec.data.splits import Split


@dataclass(frozen=True, kw_only=True)
class SequentialRulesOptions:
    """Which rules there are, and which speak.

    Attributes:
        distance: Two items of a user make a rule if they stand at most so far apart in training.
        window: The rules of the last so many items of a history speak, the k-th from the end by 1/k. With 1, the last
            item alone (the published method).
    """

    distance: int = 10
    window: int = 5


class SequentialRules:
    """Scores an item by how often, and how soon, it came after the last items (Ludewig and Jannach, 2018).

    A rule from one item to another weighs the sum of 1/d over the places where the second stands d items after the
    first, over the number of times that the first is followed by anything. Fitting costs the training interactions
    times ``distance``.

    Args:
        split: What is counted.
        options: How.
        seed: Of the order of items without evidence that are equally popular.
    """

    def __init__(self, *, split: Split, options: SequentialRulesOptions, seed: int = 0) -> None:
        self._options = options
        self._places = popularity_places(split, seed=seed)
        self._rules = _rules(split, options.distance)

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float64 [histories, n_items]: summed rules from the last items; ties by popularity."""
        rows, items, weights = [], [], []
        for row, history in enumerate(histories):
            last = history[-self._options.window :][::-1]
            rows.append(np.full(len(last), row))
            items.append(last)
            weights.append(1.0 / np.arange(1, len(last) + 1))
        if not rows:
            return np.zeros((0, len(self._places)))
        where = (np.concatenate(rows), np.concatenate(items))
        shape = (len(histories), len(self._places))
        # An item that stands there twice speaks twice: entries of one place add up.
        speaking = sparse.coo_array((np.concatenate(weights), where), shape=shape).tocsr()
        return by_popularity((speaking @ self._rules).toarray(), self._places)


def _rules(split: Split, distance: int) -> sparse.csr_array:
    """Return sparse [n_items, n_items]: in the row of an item, what followed it."""
    items, users, n_items = split.train_items(), split.train_users(), split.dataset.n_items
    found = sparse.csr_array((n_items, n_items))
    followed = np.zeros(n_items)
    for apart in range(1, distance + 1):
        inside = users[:-apart] == users[apart:]
        before, after = items[:-apart][inside], items[apart:][inside]
        if apart == 1:
            followed = np.bincount(before, minlength=n_items).astype(np.float64)
        others = before != after
        before, after = before[others], after[others]
        weights = np.full(len(before), 1.0 / apart)
        found = found + sparse.coo_array((weights, (before, after)), shape=(n_items, n_items)).tocsr()
    return sparse.diags_array(1.0 / np.maximum(followed, 1.0)).tocsr() @ found
