"""Negatives that a user never met in training."""

from __future__ import annotations

import numpy as np

from illmrec.errors import InputError


class UnseenItems:
    """Draws items uniformly among those that a user did not meet.

    Args:
        users: Int64 [interactions], the user of each.
        items: Int64 [interactions], the item of each.
        n_items: Size of the catalogue.

    Raises:
        InputError: If a user met every item.
    """

    def __init__(self, *, users: np.ndarray, items: np.ndarray, n_items: int) -> None:
        self._n_items = n_items
        self._met = np.unique(users * n_items + items)
        crowded = np.bincount(self._met // n_items, minlength=1)
        if crowded.max() >= n_items:
            raise InputError("a user has every item in training: there is no negative to sample")

    def draw(self, users: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Return one item for each user, int64 [users].

        Args:
            users: Int64 [users], with repetitions.
            random: Source of randomness.
        """
        drawn = random.integers(0, self._n_items, len(users))
        open_ = np.arange(len(users))
        while len(open_):
            keys = users[open_] * self._n_items + drawn[open_]
            found = self._met[np.minimum(np.searchsorted(self._met, keys), len(self._met) - 1)] == keys
            open_ = open_[found]
            drawn[open_] = random.integers(0, self._n_items, len(open_))
        return drawn
