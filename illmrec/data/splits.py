"""Leave-one-out: the last item is the test target, the one before it validates, the rest trains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from illmrec.data.dataset import Dataset
from illmrec.errors import InputError

Part = Literal["valid", "test"]


@dataclass(frozen=True, kw_only=True)
class Split:
    """The training, validation and test parts of a data set's sequences, as read-only arrays."""

    dataset: Dataset

    @cached_property
    def train_offsets(self) -> np.ndarray:
        """int64 [n_users + 1]; user ``u`` has ``train_items()[train_offsets[u]:train_offsets[u + 1]]``."""
        offsets = self.dataset.offsets - 2 * np.arange(len(self.dataset.offsets), dtype=np.int64)
        offsets.flags.writeable = False
        return offsets

    def train(self, user: int) -> np.ndarray:
        """Return a user's training items, oldest first: int32 [length - 2]."""
        return self.dataset.sequence(user)[:-2]

    def history(self, user: int, part: Part) -> np.ndarray:
        """Return what precedes a user's target: the training items; for ``test`` the validation item too."""
        return self.dataset.sequence(user)[: -self._from_end(part)]

    def histories(self, part: Part) -> list[np.ndarray]:
        """Return the history of every user, in user order."""
        return [self.history(user, part) for user in range(self.dataset.n_users)]

    def targets(self, part: Part) -> np.ndarray:
        """Return every user's target item: int32 [n_users]."""
        return self.dataset.sequence_items[self.dataset.offsets[1:] - self._from_end(part)]

    def train_items(self) -> np.ndarray:
        """Return all training interactions, user by user: int32 [n_interactions - 2 * n_users]."""
        return self._train_items

    def train_times(self) -> np.ndarray | None:
        """Return the time of each of :meth:`train_items`, or None where the data set does not hold times."""
        times = self.dataset.times
        return None if times is None else times[self._is_train]

    def train_users(self) -> np.ndarray:
        """Return the user of each of :meth:`train_items`: int64 [n_interactions - 2 * n_users]."""
        return np.repeat(np.arange(self.dataset.n_users), np.diff(self.train_offsets))

    @cached_property
    def _is_train(self) -> np.ndarray:
        mask = np.ones(self.dataset.n_interactions, dtype=bool)
        mask[self.dataset.offsets[1:] - 1] = False
        mask[self.dataset.offsets[1:] - 2] = False
        return mask

    @cached_property
    def _train_items(self) -> np.ndarray:
        items = self.dataset.sequence_items[self._is_train]
        items.flags.writeable = False
        return items

    @staticmethod
    def _from_end(part: Part) -> int:
        try:
            return {"test": 1, "valid": 2}[part]
        except KeyError:
            raise ValueError(f"part is {part!r}; give 'valid' or 'test'") from None


def leave_one_out(dataset: Dataset) -> Split:
    """Split each user's sequence: last item = test, last but one = validation, rest = training (paper 4.1).

    Raises:
        InputError: If a user has fewer than 3 interactions, so that nothing would be left to train on.
    """
    short = np.flatnonzero(dataset.lengths < 3)
    if len(short):
        user = int(short[0])
        raise InputError(
            f"{dataset.name}: user {dataset.user_ids[user]!r} has {int(dataset.lengths[user])} interactions "
            f"({len(short)} such users) and leave-one-out needs 3; set min_interactions to 3 or more"
        )
    return Split(dataset=dataset)
