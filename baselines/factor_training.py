"""Training of models that give each user a vector: pairs of user and item, and the protocol's validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from baselines.epochs import EpochTraining
from baselines.training_record import TrainingRecord, usual_epochs
from baselines.unseen_items import UnseenItems
from illmrec.data.splits import Split
from illmrec.errors import InputError
from illmrec.ranking import mean_ndcg, target_ranks

_SCORED_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True)
class FactorOptions:
    """How such a model is trained; part of a cell's key.

    Attributes:
        epochs: Most epochs; ``None`` runs as many as show about 10 million pairs, between 10 and 200.
        patience: Epochs without a better validation NDCG@10 after which training stops.
        learning_rate: Adam's.
        batch_size: Pairs of user and item in a step.
    """

    epochs: int | None = None
    patience: int = 10
    learning_rate: float = 1e-3
    batch_size: int = 512

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: If one is out of range.
        """
        self.check(at_least_one=("epochs", "patience", "batch_size"), above_zero=("learning_rate",))

    def check(
        self,
        *,
        at_least_one: Sequence[str] = (),
        above_zero: Sequence[str] = (),
        not_negative: Sequence[str] = (),
    ) -> None:
        """Raise InputError if one of the options is out of range."""
        for names, least, asked in (
            (at_least_one, lambda value: value >= 1, "1 or more"),
            (above_zero, lambda value: value > 0, "more than 0"),
            (not_negative, lambda value: value >= 0, "0 or more"),
        ):
            for name in names:
                value = getattr(self, name)
                if value is not None and not least(value):
                    raise InputError(f"{name} is {value}; give {asked}")


class FactorNetwork(Protocol):
    """A module that scores by an inner product of a user's and an item's vector, plus the item's bias."""

    def loss(self, users: Tensor, items: Tensor, negatives: Tensor) -> Tensor:
        """Return the loss of a batch of int64 [pairs]: users, their items, and items that they never met."""

    def factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return float [n_users, k], [n_items, k] and [n_items]."""


class FactorScorer:
    """Vectors of users and items behind the protocol's ``score_users``.

    Args:
        network: A module with :class:`FactorNetwork`'s functions, trained or not.

    Attributes:
        parameters: Number of parameters.
        held_bytes: What the vectors take.
    """

    def __init__(self, network: Any) -> None:
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        self._factors = _factors(network)
        self.held_bytes = sum(part.nbytes for part in self._factors)

    def score_users(self, users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [users, n_items], higher is better.

        Args:
            users: Row numbers of the users, int [users].
            histories: Not read: a user is what was learnt of their training items.
        """
        return _scores(self._factors, users)


class FactorModel(FactorScorer):
    """A trained model.

    Args:
        network: A module with :class:`FactorNetwork`'s functions.
        record: What its training did.
        patience: Of its training.
    """

    def __init__(self, network: Any, *, record: TrainingRecord, patience: int) -> None:
        super().__init__(network)
        self.record = record
        self.converged = record.epochs - record.best_epoch >= patience


def train_factors(
    build: Callable[[], Any],
    *,
    name: str,
    split: Split,
    options: FactorOptions,
    seed: int,
    negatives: np.ndarray,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: bool = True,
    look: Callable[[int, float], None] | None = None,
) -> FactorModel:
    """Train on the training part; keep the epoch with the best validation NDCG@10.

    Args:
        build: Returns the untrained network, a module with :class:`FactorNetwork`'s functions.
        name: Of the method, for messages.
        split: Training items and validation targets are read, never test items.
        options: How it is trained.
        seed: Seeds initialisation, order, negatives and dropout; the process's generators are left alone.
        negatives: Int [n_users, n], the protocol's candidates, for the validation score only.
        device: Where it is trained.
        checkpoint: Folder for the state of an unfinished run, or ``None``.
        progress: Show a progress bar.
        look: Is told the number and the validation NDCG@10 of each epoch.

    Raises:
        InputError: If no user has a training item, or one has every item.
    """
    random = np.random.default_rng([seed, 3])
    pairs = np.unique(np.stack([split.train_users(), split.train_items()]), axis=1).astype(np.int64)
    if not pairs.shape[1]:
        raise InputError(f"{split.dataset.name}: no user has a training item, {name} has nothing to learn")
    unseen = UnseenItems(users=pairs[0], items=pairs[1], n_items=split.dataset.n_items)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build().to(device)
        optimiser = torch.optim.Adam(network.parameters(), lr=options.learning_rate)

        def train() -> float:
            order = random.permutation(pairs.shape[1])
            return _train_epoch(network, optimiser, pairs[:, order], unseen, random, options.batch_size)

        training = EpochTraining(
            name=name,
            network=network,
            optimiser=optimiser,
            train=train,
            validate=lambda: _validate(network, split, negatives),
            draws=[random],
            epochs=options.epochs or usual_epochs(pairs.shape[1]),
            patience=options.patience,
            checkpoint=checkpoint,
            identity={"options": asdict(options), "seed": seed, "data": split.dataset.training_fingerprint},
        )
        record = training.run(targets=pairs.shape[1], progress=progress, look=look)
    return FactorModel(network, record=record, patience=options.patience)


def _train_epoch(
    network: Any,
    optimiser: torch.optim.Optimizer,
    pairs: np.ndarray,
    unseen: UnseenItems,
    random: np.random.Generator,
    batch_size: int,
) -> float:
    """Return the mean loss of a batch."""
    network.train()
    device = next(network.parameters()).device
    losses = []
    for begin in range(0, pairs.shape[1], batch_size):
        users, items = pairs[:, begin : begin + batch_size]
        batch = np.stack([users, items, unseen.draw(users, random)])
        loss = network.loss(*torch.from_numpy(batch).to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


def _validate(network: Any, split: Split, negatives: np.ndarray) -> float:
    """Return NDCG@10 of the validation items among sampled candidates."""
    factors = _factors(network)
    users, targets = split.users("valid"), split.targets("valid")
    ranks = []
    for begin in range(0, len(users), _SCORED_AT_ONCE):
        some = users[begin : begin + _SCORED_AT_ONCE]
        ranks.append(target_ranks(_scores(factors, some), targets[some], candidates=negatives[some]))
    return mean_ndcg(np.concatenate(ranks), 10)


@torch.no_grad()
def _factors(network: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    network.eval()
    users, items, bias = (part.float().cpu().numpy() for part in network.factors())
    return users, items, bias


def _scores(factors: tuple[np.ndarray, np.ndarray, np.ndarray], users: np.ndarray) -> np.ndarray:
    by_user, by_item, bias = factors
    scores: np.ndarray = by_user[users] @ by_item.T + bias
    return scores
