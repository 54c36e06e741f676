"""BERT4Rec's masked items: RecBole's network, a loss over all masked positions, and rows masked anew each epoch.

RecBole 1.2.1 trains BERT4Rec on every prefix of a history, counts no loss where the first item is masked, has the
padding id in its softmax, and drops the oldest item of a full history when it scores, even where there is room. Here a
row is a window of a user's training sequence, and ``[MASK]`` has a position of its own after the history.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from recbole.model.sequential_recommender import BERT4Rec

from baselines.recbole_networks import TARGETS, catalogue_cross_entropy
from baselines.recbole_windows import WindowBatches


class MaskedBERT4Rec(BERT4Rec):
    """RecBole's BERT4Rec with the loss of every masked position, and ``[MASK]`` after the whole history."""

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Return the mean cross-entropy over the catalogue at the positions that have a target."""
        states = self.forward(interaction[self.ITEM_SEQ])
        targets = interaction[TARGETS]
        counted = targets > 0
        return catalogue_cross_entropy(
            states[counted],
            self.item_embedding.weight[1 : self.n_items],  # row 0 is padding, row n_items is [MASK]
            targets[counted] - 1,
            bias=self.output_bias[1:],
        )

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Return the scores of all ids, [batch, n_items], at a ``[MASK]`` that is appended to the history."""
        lengths = interaction[self.ITEM_SEQ_LEN]
        sequences = F.pad(interaction[self.ITEM_SEQ], (0, 1))
        sequences.scatter_(1, lengths[:, None], self.mask_token)
        states = self.gather_indexes(self.forward(sequences), lengths)
        scores: torch.Tensor = states @ self.item_embedding.weight[: self.n_items].T + self.output_bias
        return scores


class MaskedBatches:
    """Batches of windows with masked items, drawn anew each epoch.

    Each window is masked several times in an epoch, so that an epoch has about as many targets as one that learns
    the next item at every position.

    Args:
        items: Int32 [interactions], item rows of the training part, users one after the other.
        offsets: Int64 [users + 1], where each user's items start.
        n_items: Size of the catalogue.
        window: Longest history; a row holds one item more.
        batch_size: Rows per batch.
        seed: Seeds order, offsets and masks.
        mask_ratio: Chance of an item to be masked; a row without any gets one.
        last_ratio: Share of rows of which the last item alone is masked.
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
        mask_ratio: float,
        last_ratio: float,
    ) -> None:
        self._windows = WindowBatches(
            items=items, offsets=offsets, n_items=n_items, window=window, batch_size=batch_size, seed=seed
        )
        self._items = items.astype(np.int64)
        self._mask = n_items + 1  # ids are item row + 1
        self._batch_size = batch_size
        self._mask_ratio, self._last_ratio = mask_ratio, last_ratio
        self.random = np.random.default_rng([seed, 1])

    @property
    def times(self) -> int:
        """How often an epoch masks each window."""
        rows = self._windows.expected_batches * self._batch_size
        masked = self._mask_ratio * (self._windows.n_targets / rows + 1)
        by_row = self._last_ratio + (1 - self._last_ratio) * max(1.0, masked)
        return max(1, round(self._windows.n_targets / rows / by_row))

    @property
    def expected_batches(self) -> int:
        """Batches of an epoch, up to the randomness of the offsets."""
        return self.times * self._windows.expected_batches

    def __iter__(self) -> Iterator[Any]:
        """Yield RecBole Interactions in random order, padded on the right to the batch's longest window."""
        from recbole.data.interaction import Interaction

        drawn = [self._windows.rows()[1:] for _ in range(self.times)]
        starts, lengths = (np.concatenate(part) for part in zip(*drawn, strict=True))
        lengths = lengths + 1  # the item after a window's input is its last one
        order = self.random.permutation(len(starts))
        for begin in range(0, len(order), self._batch_size):
            rows = order[begin : begin + self._batch_size]
            steps = np.arange(lengths[rows].max())
            inside = steps < lengths[rows][:, None]
            at = np.where(inside, starts[rows][:, None] + steps, 0)
            sequences = np.where(inside, self._items[at] + 1, 0)
            masked = self._masked(inside, lengths[rows])
            batch = {
                "item_id_list": np.where(masked, self._mask, sequences),
                "item_length": lengths[rows],
                TARGETS: np.where(masked, sequences, 0),
            }
            yield Interaction({name: torch.from_numpy(values) for name, values in batch.items()})

    def _masked(self, inside: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return what is masked, bool [rows, steps]: at least one item of each row."""
        chance = self.random.random(inside.shape)
        masked = inside & (chance < self._mask_ratio)
        rows = np.arange(len(lengths))
        one = (self.random.random(len(lengths)) * lengths).astype(np.int64)
        last = self.random.random(len(lengths)) < self._last_ratio
        masked[last] = False
        alone = np.where(last, lengths - 1, one)
        bare = ~masked.any(axis=1)
        masked[rows[bare], alone[bare]] = True
        return masked
