"""The items that a method would recommend, and what they are like beyond being right."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

CUTOFF = 10
_CHUNK = 1024  # users at a time; bounds memory at so many lists of features


class RecommendedLists:
    """Takes the best items of every user from scores; of items with equal scores the first in the catalogue.

    Args:
        k: Items of a list.
    """

    def __init__(self, k: int = CUTOFF) -> None:
        self.k = k
        self._parts: list[np.ndarray] = []

    def add(self, scores: np.ndarray, *, exclude: np.ndarray) -> None:
        """Take the lists of more users.

        Args:
            scores: Float [users, n_items], higher is better.
            exclude: Bool [users, n_items], items that are not recommended: the user's history.
        """
        allowed = np.where(exclude, -np.inf, scores)
        k = min(self.k, allowed.shape[1])
        # The k-th score of each user, then all that are above it and the first of those that equal it.
        least = -np.partition(-allowed, k - 1, axis=1)[:, k - 1 : k]
        tied = allowed == least
        wanted = k - (allowed > least).sum(axis=1, keepdims=True)
        chosen = (allowed > least) | (tied & (np.cumsum(tied, axis=1) <= wanted))
        items = np.nonzero(chosen)[1].reshape(-1, k)
        order = np.argsort(-np.take_along_axis(allowed, items, axis=1), axis=1, kind="stable")
        lists = np.take_along_axis(items, order, axis=1)
        lists[~np.isfinite(np.take_along_axis(allowed, lists, axis=1))] = -1
        self._parts.append(lists.astype(np.int32))

    @property
    def items(self) -> np.ndarray:
        """Item rows by user, best first, int32 [users, k]; -1 where a user has no more items to be recommended."""
        return np.concatenate(self._parts)


def beyond_accuracy(lists: np.ndarray, *, counts: np.ndarray) -> dict[str, float | None]:
    """Return what lists are like in terms of popularity.

    Args:
        lists: Item rows, int [users, k], -1 for none.
        counts: Training interactions of every item, int [n_items].

    Returns:
        ``coverage``: share of the catalogue that is recommended to anyone. ``popularity``: mean number of training
        interactions of what is recommended, over that of an item drawn uniformly: 1 has no preference for the popular.
        ``novelty``: mean of -log2 of an item's share of training interactions, each item counted once more than it was
        seen, in bits. Where nothing is recommended to anyone, coverage is 0 and the others are None.
    """
    shown = lists[lists >= 0]
    if not len(shown):
        return {"coverage": 0.0, "popularity": None, "novelty": None}
    shares = (counts + 1) / (counts + 1).sum()
    return {
        "coverage": float(len(np.unique(shown)) / len(counts)),
        "popularity": float(counts[shown].mean() / max(counts.mean(), 1e-12)),
        "novelty": float(-np.log2(shares[shown]).mean()),
    }


def intra_list_similarity(lists: np.ndarray, features: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return how alike the items of a list are: mean cosine of their features over all pairs, averaged over users.

    Args:
        lists: Item rows, int [users, k], -1 for none.
        features: By name, float [n_items, width]; an item without a feature has zeros and is left out.

    Returns:
        By name; a feature type that no list has two items of is left out.
    """
    found = {}
    for name, values in features.items():
        norms = np.linalg.norm(values, axis=1)
        there = (lists >= 0) & (norms[lists] > 0)
        squares = np.empty(len(lists))
        for start in range(0, len(lists), _CHUNK):
            rows = slice(start, start + _CHUNK)
            scales = there[rows] / np.maximum(norms[lists[rows]], np.finfo(norms.dtype).tiny)
            squares[rows] = (np.einsum("uk,ukw->uw", scales, values[lists[rows]]) ** 2).sum(axis=1)
        count = there.sum(axis=1)
        # The square of a sum of unit vectors is the sum over all pairs, each with itself as well.
        pairs = count * (count - 1)
        means = (squares - count)[pairs > 0] / pairs[pairs > 0]
        if len(means):
            found[name] = float(means.mean())
    return found
