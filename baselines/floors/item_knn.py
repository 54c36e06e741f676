"""Neighbours of items by who bought both: cosine of their columns in the training interactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from baselines.floors.popularity import popularity_places
from baselines.floors.ties import by_popularity
from illmrec.data.splits import Split

_ROWS = 2048  # of co-occurrences at a time: at most so many by the catalogue are in memory


@dataclass(frozen=True, kw_only=True)
class ItemKNNOptions:
    """How neighbours speak.

    Attributes:
        neighbours: Of each item, so many others that are most similar to it have a say.
        shrinkage: Is added to the cosine's denominator: similarities that few users support count less.
        window: The last so many items of a history are read.
    """

    neighbours: int = 100
    shrinkage: float = 10.0
    window: int = 20


class ItemKNN:
    """Scores an item by its similarity to the items of the history (Deshpande and Karypis, 2004).

    The similarity of two items is the number of users who have both in training, over the square root of the product
    of the users that each has, shrunk. Fitting costs the sum of squared training lengths; a score, as many additions
    as the history has items times ``neighbours``.

    Args:
        split: What is counted; each item once for a user.
        options: How.
        seed: Of the order of items without evidence that are equally popular.
    """

    def __init__(self, *, split: Split, options: ItemKNNOptions, seed: int = 0) -> None:
        self._options = options
        self._places = popularity_places(split, seed=seed)
        self._similar = _similarities(split, options)

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float64 [histories, n_items]: summed similarities to the last items; ties by popularity."""
        read = [np.unique(history[-self._options.window :]) for history in histories]
        offsets = np.concatenate([[0], np.cumsum([len(items) for items in read])])
        items = np.concatenate(read) if read else np.zeros(0, dtype=np.int64)
        shape = (len(read), len(self._places))
        held = sparse.csr_array((np.ones(len(items)), items, offsets), shape=shape)
        return by_popularity((held @ self._similar).toarray(), self._places)


def _similarities(split: Split, options: ItemKNNOptions) -> sparse.csr_array:
    """Return sparse [n_items, n_items]: in the row of an item, its most similar others."""
    dataset = split.dataset
    pairs = np.unique(np.stack([split.train_users(), split.train_items()]), axis=1)
    shape = (dataset.n_users, dataset.n_items)
    bought = sparse.csr_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=shape)
    by_item = bought.T.tocsr()
    norms = np.sqrt(np.diff(by_item.indptr))
    parts = []
    for start in range(0, dataset.n_items, _ROWS):
        both = (by_item[start : start + _ROWS] @ bought).tocsr()
        both.sort_indices()
        rows = start + np.repeat(np.arange(both.shape[0]), np.diff(both.indptr))
        similar = both.data / (norms[rows] * norms[both.indices] + options.shrinkage)
        similar[rows == both.indices] = 0.0
        parts.append(_most_similar(both, similar, options.neighbours))
    return sparse.vstack(parts, format="csr")


def _most_similar(both: sparse.csr_array, similar: np.ndarray, neighbours: int) -> sparse.csr_array:
    """Return the largest so many entries of each row; of equal ones those of the first items."""
    rows = np.repeat(np.arange(both.shape[0]), np.diff(both.indptr))
    order = np.lexsort((both.indices, -similar, rows))
    place = np.arange(len(order)) - both.indptr[rows[order]]
    kept = order[(place < neighbours) & (similar[order] > 0)]
    return sparse.csr_array((similar[kept], (rows[kept], both.indices[kept])), shape=both.shape)
