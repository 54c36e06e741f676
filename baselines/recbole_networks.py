"""RecBole's classes as this toolkit uses them: import only after ``recbole_compat.require_recbole()``.

RecBole's SASRec and GRU4Rec learn one target per forward pass: the item after each prefix of a user's
history. Both are causal, so one pass over a window holds the prediction at every position. The subclasses
here read all of them.

Multiply-adds per target, for n items, width d, b SASRec blocks and windows of L items:

* SASRec, one target a pass:  L (12 b d^2 + 2 b L d) + n d
* SASRec, every position:       (12 b d^2 + 2 b L d) + n d

With d = 64, b = 2, L = 50, n = 3,634 that is 5.8 M against 0.34 M, 17 times less for the same targets
(FLOPs: twice that forward, six times with the backward pass). GRU4Rec's one layer, a GRU of state 2 d and
the way back to d, costs 3 (d + 2 d) 2 d + 2 d^2 = 20 d^2 in place of 12 b d^2 + 2 b L d, step after step
instead of all at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from recbole.data.dataset import SequentialDataset
from recbole.model.sequential_recommender import GRU4Rec, SASRec
from recbole.utils import FeatureSource, FeatureType
from torch.utils.checkpoint import checkpoint

from illmrec.model.retrieval_loss import Sampler, sampled_softmax_loss

TARGETS, NEGATIVES = "every_target", "every_negative"
"""Fields of an Interaction, int64 [batch, length]: the next item, a sampled negative; 0 where none."""

_LOGITS_AT_ONCE = 2**25
"""Logits held at a time (128 MB in float32); of more, chunks are recomputed in the backward pass."""


class EveryPosition:
    """Mixin before a causal RecBole model: a loss over every position of the window instead of the last one.

    The models end ``forward`` with ``gather_indexes(states, length - 1)``; leaving that last step out gives
    the states of all positions from the same code.
    """

    pointwise = (
        False  # True: binary cross-entropy on one negative, as the original SASRec; False: cross-entropy
    )
    sampling: tuple[Sampler, np.random.Generator] | None = None  # of a sampled softmax; None: the catalogue
    _all_states = False

    def gather_indexes(self, output: torch.Tensor, gather_index: torch.Tensor) -> torch.Tensor:
        """Return the states at ``gather_index``, [batch, d]; in the loss all of them, [batch, length, d]."""
        if self._all_states:
            return output
        return super().gather_indexes(output, gather_index)  # type: ignore[misc]

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Return the mean loss over the positions that have a target."""
        model: Any = self
        self._all_states = True
        try:
            states = model.forward(interaction[model.ITEM_SEQ], interaction[model.ITEM_SEQ_LEN])
        finally:
            self._all_states = False
        targets = interaction[TARGETS]
        counted = targets > 0
        states, positives = states[counted], targets[counted]
        if self.pointwise:
            negatives = interaction[NEGATIVES][counted]
            score = (states * model.item_embedding(positives)).sum(-1)
            against = (states * model.item_embedding(negatives)).sum(-1)
            return (F.softplus(-score) + F.softplus(against)).mean()
        if self.sampling is not None:
            return self._sampled_softmax(states, positives - 1)
        # Row 0 of the table is padding and no item: RecBole's own loss leaves it in the softmax, this one
        # does not.
        return catalogue_cross_entropy(states, model.item_embedding.weight[1:], positives - 1)

    def _sampled_softmax(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean softmax loss over the batch's targets and uniformly drawn items, by the logQ correction."""
        assert self.sampling is not None
        sampler, generator = self.sampling
        rows, at, sampled, expected = sampler.draw(targets.cpu().numpy(), generator)

        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(values).to(states.device)

        model: Any = self
        loss = sampled_softmax_loss(
            states[:, None],
            model.item_embedding(tensor(rows + 1))[:, None],
            tensor(at),
            sampled=tensor(sampled),
            expected=tensor(expected),
        )
        return loss / len(targets)


def catalogue_cross_entropy(
    states: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, *, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean cross-entropy of states over the catalogue, in bounded memory.

    Args:
        states: Float [targets, d].
        items: Float [n_items, d].
        targets: Int64 [targets], rows of ``items``.
        bias: Float [n_items], added to the items' logits.
    """
    if bias is not None:
        states = torch.cat([states, states.new_ones(len(states), 1)], dim=1)
        items = torch.cat([items, bias[:, None]], dim=1)
    rows = max(1, _LOGITS_AT_ONCE // len(items))
    if len(states) <= rows:
        return F.cross_entropy(states @ items.T, targets)

    def chunk(part: torch.Tensor, wanted: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(part @ table.T, wanted, reduction="sum")

    losses = [
        checkpoint(chunk, part, wanted, items, use_reentrant=False)
        for part, wanted in zip(states.split(rows), targets.split(rows), strict=True)
    ]
    return torch.stack(losses).sum() / len(states)


class EveryPositionSASRec(EveryPosition, SASRec):
    """RecBole's SASRec with a target at every position."""


class EveryPositionGRU4Rec(EveryPosition, GRU4Rec):
    """RecBole's GRU4Rec with a target at every position."""


class Catalogue:
    """What a RecBole model asks of its data set when constructed: the number of ids, padding included."""

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items

    def num(self, field: str) -> int:
        """Return the number of item ids (the only field these models ask for)."""
        return self.n_items + 1


class TrainingSequences(SequentialDataset):
    """RecBole's sequential data set over the training part only, from arrays instead of files.

    Ids are item row + 1 and user row + 1 (0 is RecBole's padding), so nothing is remapped; validation and
    test items never reach it. RecBole's own augmentation (every prefix of a user is an example) needs about
    ``12 * interactions * window`` bytes.
    """

    def __init__(self, config: Any, *, items: np.ndarray, offsets: np.ndarray, n_items: int) -> None:
        self._items, self._offsets, self._n_items = items, offsets, n_items
        super().__init__(config)
        self._change_feat_format()

    def _load_data(self, token: str, dataset_path: str) -> None:
        lengths = np.diff(self._offsets)
        users = np.repeat(np.arange(len(lengths)), lengths)
        positions = np.arange(len(self._items)) - self._offsets[users]
        columns = {
            self.uid_field: (users.astype(np.int64) + 1, FeatureType.TOKEN),
            self.iid_field: (self._items.astype(np.int64) + 1, FeatureType.TOKEN),
            self.time_field: (positions.astype(np.float64), FeatureType.FLOAT),
        }
        self.inter_feat = pd.DataFrame({name: values for name, (values, _) in columns.items()})
        self.user_feat = self.item_feat = None
        for name, (_, kind) in columns.items():
            self.set_field_property(name, kind, FeatureSource.INTERACTION, 1)

    def _fill_nan(self) -> None:
        """Nothing is missing; RecBole's chained ``fillna(inplace=True)`` is a no-op in pandas 3."""

    def _remap_ID_all(self) -> None:
        sizes = {self.uid_field: len(self._offsets) - 1, self.iid_field: self._n_items}
        for field, size in sizes.items():
            tokens = np.array(["[PAD]", *map(str, range(size))])
            self.field2id_token[field] = tokens
            self.field2token_id[field] = {token: row for row, token in enumerate(tokens)}
