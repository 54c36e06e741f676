"""Training windows for ``targets="all"``: every training target once per epoch, in few forward passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from baselines.recbole_networks import NEGATIVES, TARGETS
from baselines.unseen_items import UnseenItems


class WindowBatches:
    """Batches of windows over the users' training sequences, drawn anew each epoch.

    A user with more targets than a window holds is tiled: consecutive windows from a random offset, so that
    an epoch sees every target exactly once and its context changes from epoch to epoch. Shorter users are
    one window. With ``last_only`` each prefix is a row of its own and only its next item a target:
    RecBole's augmentation, without holding it in memory.

    Args:
        items: Int32 [interactions], item rows of the training part, users one after the other.
        offsets: Int64 [users + 1], where each user's items start.
        n_items: Size of the catalogue.
        window: Longest input.
        batch_size: Windows (rows) per batch.
        seed: Seeds order, offsets and negatives.
        negatives: Whether to sample one item per target that the user never met in training.
        last_only: One target per row.
    """

    def __init__(
        self,
        *,
        items: np.ndarray,
        offsets: np.ndarray,
        n_items: int,
        window: int,
        batch_size: int,
        seed: int,
        negatives: bool = False,
        last_only: bool = False,
    ) -> None:
        self._items = items.astype(np.int64)
        self._offsets = offsets.astype(np.int64)
        self._window = window
        self._batch_size = batch_size
        self._last_only = last_only
        self.random = np.random.default_rng(seed)
        self._unseen: UnseenItems | None = None
        if negatives:
            users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
            self._unseen = UnseenItems(users=users, items=self._items, n_items=n_items)

    @property
    def n_targets(self) -> int:
        """Targets per epoch."""
        return int(np.maximum(np.diff(self._offsets) - 1, 0).sum())

    @property
    def expected_batches(self) -> int:
        """Batches of an epoch, up to the randomness of the offsets."""
        targets = np.maximum(np.diff(self._offsets) - 1, 0)
        if self._last_only:
            rows = float(targets.sum())
        else:
            tiled = 1 + (targets - (self._window + 1) / 2) / self._window + 0.5
            rows = float(np.where(targets > self._window, tiled, targets > 0).sum())
        return max(1, int(np.ceil(rows / self._batch_size)))

    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw an epoch's rows: user, where its input starts in ``items``, and how many items it holds."""
        targets = np.maximum(np.diff(self._offsets) - 1, 0)
        if self._last_only:
            users = np.repeat(np.arange(len(targets)), targets)
            place = np.arange(len(users)) - np.repeat(np.cumsum(targets) - targets, targets) + 1
            lengths = np.minimum(place, self._window)
            return users, self._offsets[users] + place - lengths, lengths
        first = np.where(
            targets > self._window, self.random.integers(1, self._window + 1, len(targets)), targets
        )
        count = (targets > 0) + -(-np.maximum(targets - first, 0) // self._window)
        users = np.repeat(np.arange(len(targets)), count)
        place = np.arange(len(users)) - np.repeat(np.cumsum(count) - count, count)
        begin = np.where(place == 0, 0, first[users] + (place - 1) * self._window)
        end = np.minimum(first[users] + place * self._window, targets[users])
        return users, self._offsets[users] + begin, end - begin

    def __iter__(self) -> Iterator[Any]:
        """Yield RecBole Interactions in random order, padded on the right to the batch's longest window."""
        from recbole.data.interaction import Interaction

        users, starts, lengths = self.rows()
        order = self.random.permutation(len(users))
        for begin in range(0, len(order), self._batch_size):
            rows = order[begin : begin + self._batch_size]
            length = lengths[rows][:, None]
            steps = np.arange(length.max())
            inside = steps < length
            at = np.where(inside, starts[rows][:, None] + steps, 0)
            wanted = inside & (steps == length - 1) if self._last_only else inside
            targets = np.where(wanted, self._items[np.where(wanted, at + 1, 0)] + 1, 0)
            batch = {
                "item_id_list": np.where(inside, self._items[at] + 1, 0),
                "item_length": lengths[rows],
                TARGETS: targets,
            }
            if self._unseen is not None:
                negatives = np.zeros_like(targets)
                of_targets = np.broadcast_to(users[rows][:, None], wanted.shape)[wanted]
                negatives[wanted] = self._unseen.draw(of_targets, self.random) + 1
                batch[NEGATIVES] = negatives
            yield Interaction({name: torch.from_numpy(values) for name, values in batch.items()})
