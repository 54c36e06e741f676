"""BM3: vectors of users, items and content drawn together, without negatives (Zhou et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.factor_training import FactorOptions
from baselines.vbpr import centred
from illmrec.data.splits import Split
from illmrec.errors import InputError


@dataclass(frozen=True, kw_only=True)
class BM3Options(FactorOptions):
    """How BM3 is built and trained; part of a cell's key.

    Attributes:
        width: Of the vectors of users, items and projected features.
        layers: Steps over the graph of users and items.
        dropout: For the vectors that others are drawn to.
        regularisation: Weight of the mean squared length of users' and items' vectors.
        alignment: Weight of the terms about content, lambda in the paper.
    """

    batch_size: int = 1024
    width: int = 64
    layers: int = 1
    dropout: float = 0.3
    regularisation: float = 0.1
    alignment: float = 2.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: If one is out of range.
        """
        super().__post_init__()
        self.check(at_least_one=("width", "layers"), not_negative=("regularisation", "alignment"))
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout}; give 0 to below 1")


class BM3(nn.Module):
    """Scores by the inner product of predicted vectors, ``p(h_u) p(h_i)``.

    Vectors of users and items are means over the steps of LightGCN; an item's own embedding is added to its. Online
    vectors, which the predictor maps, are drawn to target vectors, which have dropout and no gradient: a user's to
    those of their items and back, and an item's projected features to its target vector and to their own.

    Args:
        features: Float32 [n_items, width] by name.
        present: Bool [n_items] by the same names, items that have the feature; the others have no such term.
        split: Whose training part is the graph.
        options: Widths, weights and dropout.
    """

    graph: Tensor

    def __init__(
        self,
        *,
        features: Mapping[str, np.ndarray],
        present: Mapping[str, np.ndarray],
        split: Split,
        options: BM3Options,
    ) -> None:
        super().__init__()
        self._options, width = options, options.width
        known = torch.from_numpy(split.history_lengths("valid") > 0)
        self._n_users = len(known)
        self.user_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self._n_users, width)))
        self.item_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(split.dataset.n_items, width)))
        self.predictor = nn.Linear(width, width)
        self.projections = nn.ModuleDict(
            {name: nn.Linear(values.shape[1], width) for name, values in features.items()}
        )
        self.register_buffer("graph", _normalised_graph(split), persistent=False)
        for name, values in features.items():
            self.register_buffer(
                f"features_{name}", torch.from_numpy(centred(values, present[name])), persistent=False
            )
            self.register_buffer(f"present_{name}", torch.from_numpy(present[name].copy()), persistent=False)
        with torch.no_grad():
            self.user_embedding[~known] = 0.0

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Return the vectors of all users and items, float [n_users, width] and [n_items, width]."""
        step = torch.cat([self.user_embedding, self.item_embedding])
        total = step
        for _ in range(self._options.layers):
            step = torch.sparse.mm(self.graph, step)
            total = total + step
        mean = total / (self._options.layers + 1)
        return mean[: self._n_users], mean[self._n_users :] + self.item_embedding

    def loss(self, users: Tensor, items: Tensor, negatives: Tensor) -> Tensor:
        """Return the mean over pairs; negatives are not read."""
        options = self._options
        by_user, by_item = self.vectors()
        own_users, own_items = by_user[users], by_item[items]
        user_target, item_target = self._target(own_users), self._target(own_items)
        loss = _distance(self.predictor(own_users), item_target).mean()
        loss = loss + _distance(self.predictor(own_items), user_target).mean()
        squared = (by_user**2).sum(-1).mean() + (by_item**2).sum(-1).mean()
        loss = loss + options.regularisation * squared
        for name, projection in self.projections.items():
            has = getattr(self, f"present_{name}")[items]
            projected = projection(getattr(self, f"features_{name}")[items])
            online = self.predictor(projected)
            apart = _distance(online, item_target) + _distance(online, self._target(projected))
            loss = loss + options.alignment * (apart * has).sum() / has.sum().clamp(min=1)
        return loss

    def factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return float [n_users, width], [n_items, width] and [n_items]: predicted vectors, and no bias."""
        by_user, by_item = self.vectors()
        return self.predictor(by_user), self.predictor(by_item), by_item.new_zeros(len(by_item))

    def _target(self, vectors: Tensor) -> Tensor:
        return F.dropout(vectors.detach(), self._options.dropout, training=self.training)


def _distance(online: Tensor, target: Tensor) -> Tensor:
    """Return one minus the cosine of each pair of rows."""
    return 1 - F.cosine_similarity(online, target, dim=-1)


def _normalised_graph(split: Split) -> Tensor:
    """Return the symmetrically normalised adjacency of users and items, sparse [n_users + n_items] squared."""
    users, items = np.unique(np.stack([split.train_users(), split.train_items()]), axis=1).astype(np.int64)
    items = items + split.dataset.n_users
    size = split.dataset.n_users + split.dataset.n_items
    ends = np.stack([np.concatenate([users, items]), np.concatenate([items, users])])
    degrees = np.bincount(ends[0], minlength=size)
    weights = 1.0 / np.sqrt(degrees[ends[0]] * degrees[ends[1]])
    return torch.sparse_coo_tensor(
        torch.from_numpy(ends),
        torch.from_numpy(weights.astype(np.float32)),
        (size, size),
        check_invariants=True,
    ).coalesce()
