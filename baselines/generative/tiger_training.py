"""Training of TIGER: next items of users' histories, and the protocol's validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.epochs import EpochTraining
from baselines.generative.tiger import Tiger, TigerOptions
from baselines.generative.tiger_model import TigerLists, TigerModel, TigerScorer
from baselines.training_record import usual_epochs
from illmrec.data.splits import Split
from illmrec.ranking import mean_ndcg, target_ranks


def train_tiger(
    codes: np.ndarray,
    *,
    split: Split,
    options: TigerOptions,
    seed: int,
    negatives: np.ndarray,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: bool = True,
    look: Callable[[int, float], None] | None = None,
) -> TigerModel:
    """Train on the training part; keep the epoch with the best validation NDCG@10.

    Args:
        codes: Int [n_items, levels], the semantic IDs, no two alike.
        split: Training items and validation targets are read, never test items.
        options: How it is built and trained.
        seed: Seeds initialisation, order, targets and dropout; the process's generators are left alone.
        negatives: Int [n_users, n], the protocol's candidates, for the validation score only.
        device: Where it is trained.
        checkpoint: Folder for the state of an unfinished run, or ``None``.
        progress: Show a progress bar.
        look: Is told the number and the validation NDCG@10 of each epoch.

    Raises:
        InputError: If no user has two training items.
    """
    random = np.random.default_rng([seed, 5])
    examples = Examples(split, options=options, random=random)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Tiger(codes=codes, options=options).to(device)
        scorer = TigerScorer(network, options=options)
        optimiser = torch.optim.AdamW(network.parameters(), lr=options.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min(1.0, (step + 1) / max(1, options.warm_up))
        )
        training = EpochTraining(
            name="tiger",
            network=network,
            optimiser=optimiser,
            schedule=schedule,
            train=lambda: _train_epoch(network, optimiser, schedule, examples),
            validate=lambda: _validate(scorer, split, negatives),
            draws=[random],
            epochs=options.epochs or usual_epochs(examples.per_epoch),
            patience=options.patience,
            checkpoint=checkpoint,
            identity={
                "options": asdict(options),
                "seed": seed,
                "data": split.dataset.training_fingerprint,
                "codes": codes.tolist(),
            },
        )
        record = training.run(targets=examples.per_epoch, progress=progress, look=look)
    made = TigerModel if scorer.exact else TigerLists
    return made(scorer, record=record, patience=options.patience)


class Examples:
    """Histories and their next items, drawn anew each epoch.

    Every training item but a user's first is a target; of a user with more than ``targets_per_user`` so many are drawn.

    Args:
        split: Its training part is read.
        options: Lengths and numbers.
        random: Source of randomness.

    Raises:
        InputError: If no user has two training items.
    """

    def __init__(self, split: Split, *, options: TigerOptions, random: np.random.Generator) -> None:
        learners = split.learners
        self._items = split.train_items().astype(np.int64)
        self._offsets = split.train_offsets
        self._counts = np.diff(self._offsets)[learners] - 1
        self._users = np.repeat(learners, self._counts)
        within = np.arange(len(self._users)) - np.repeat(np.cumsum(self._counts) - self._counts, self._counts)
        self._places = within + 1
        self._options = options
        self._random = random

    @property
    def per_epoch(self) -> int:
        """Targets of an epoch."""
        return int(np.minimum(self._counts, self._options.targets_per_user).sum())

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """Return an epoch's targets, int64 [targets] each: their users, and their places in the users' items."""
        drawn = np.lexsort((self._random.random(len(self._users)), self._users))
        place = np.arange(len(drawn)) - np.repeat(np.cumsum(self._counts) - self._counts, self._counts)
        kept = drawn[place < self._options.targets_per_user]
        return self._users[kept], self._places[kept]

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield histories, int64 [targets, items], filled up on the right, their lengths and their next items.

        Histories of a batch are about as long as each other; the order of batches is random.
        """
        users, places = self.draw()
        lengths = np.minimum(places, self._options.max_length)
        order = self._random.permutation(len(users))
        order = order[np.argsort(lengths[order], kind="stable")]
        size = self._options.batch_size
        for number in self._random.permutation(-(-len(order) // size)):
            rows = order[number * size : (number + 1) * size]
            ends = self._offsets[users[rows]] + places[rows]
            steps = np.arange(lengths[rows].max())
            at = (ends - lengths[rows])[:, None] + steps
            inside = steps < lengths[rows][:, None]
            yield self._items[np.where(inside, at, 0)], lengths[rows], self._items[ends]


def _train_epoch(
    network: Tiger, optimiser: torch.optim.Optimizer, schedule: Any, examples: Examples
) -> float:
    """Return the mean loss of a batch."""
    network.train()
    device = network.tokens.device
    losses: list[Tensor] = []
    for batch in examples.batches():
        loss = network.loss(*(torch.from_numpy(part).to(device) for part in batch))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


def _validate(scorer: TigerScorer, split: Split, negatives: np.ndarray) -> float:
    """Return NDCG@10 of the validation items among sampled candidates, by exact probabilities."""
    users = split.users("valid")
    candidates = np.concatenate([split.targets("valid")[users, None], negatives[users]], axis=1)
    scores = scorer.score_candidates([split.history(int(user), "valid") for user in users], candidates)
    others = np.broadcast_to(np.arange(1, candidates.shape[1]), (len(users), candidates.shape[1] - 1))
    return mean_ndcg(target_ranks(scores, np.zeros(len(users), dtype=np.int64), candidates=others), 10)
