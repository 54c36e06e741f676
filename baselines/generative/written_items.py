"""What all models have in common that let an LLM write items token by token: lists, exact scores, validation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from baselines.generative.beam_search import Writer, beam_search, candidate_scores
from baselines.generative.code_rows import Row
from baselines.generative.item_scores import listed_besides
from baselines.generative.trie import Trie
from illmrec.model import processes
from illmrec.model.budget import TokenBudget, token_batches
from illmrec.model.engine import Engine
from illmrec.model.readout import Readout
from illmrec.ranking import mean_ndcg, target_ranks
from illmrec.training import Trainer, TrainingOptions
from illmrec.training.trainer import validation_users


class WritingModel(nn.Module):
    """A catalogue whose items an LLM writes: a user's list by beam search, given items by their exact probability.

    Attributes:
        n_items: Items of the catalogue.
        beams: Of the search that lists items.
        trie: What may be written.
        prefix: Int64 [P], token ids that every prompt begins with.
        history_length: L, items of a history that are read.
        budget: Tokens of a pass.
    """

    readout: Readout = "last"
    n_items: int
    beams: int
    trie: Trie
    prefix: np.ndarray
    history_length: int
    budget: TokenBudget

    @property
    @abstractmethod
    def engine(self) -> Engine:
        """The engine around the LLM."""

    @property
    @abstractmethod
    def item_tokens(self) -> np.ndarray:
        """Int64 [n_items], tokens of each item in a history."""

    @property
    def tokens_per_item(self) -> float:
        """Tokens of an item in a history, on average."""
        return float(self.item_tokens.mean())

    @abstractmethod
    def history_row(self, history: np.ndarray) -> Row:
        """Return the prompt of a history, of which the last state is read."""

    @abstractmethod
    def prompt_tokens(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return int64 [histories], tokens of each prompt, the prefix included."""

    @property
    def written_by_step(self) -> list[int]:
        """Tokens that go through the LLM for a user in each step at most: one a beam, as far as there are prefixes."""
        prefixes = np.bincount(self.trie.depth[self.trie.items < 0])[1:]
        return [min(self.beams, int(count)) for count in prefixes]

    @property
    def written_tokens(self) -> int:
        """Tokens that are written for a user at most, and go through the LLM."""
        return sum(self.written_by_step)

    @abstractmethod
    def candidate_tokens(self, count: int) -> int:
        """Return about how many tokens go through the LLM for a user of whom so many items are scored."""

    @abstractmethod
    def writer(self, histories: Sequence[np.ndarray]) -> Writer:
        """Return what writes items after some histories."""

    @torch.inference_mode()
    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return the log-probabilities of the items that beam search lists, float32 [histories, n_items].

        All others are minus infinity. A user's list has ``beams`` items besides those of the history.

        Args:
            histories: Item row numbers, the most recent last.
        """
        scores = np.full((len(histories), self.n_items), -np.inf, dtype=np.float32)

        def search(rows: np.ndarray) -> None:
            some = [histories[row] for row in rows]
            known = max(len(np.unique(history)) for history in some)
            found = beam_search(
                self.writer(some), self.trie, users=len(some), beams=self.beams, results=self.beams + known
            )
            scores[rows] = found.by_item(self.n_items)

        self._by_users(histories, self.written_tokens, search)
        return listed_besides(scores, histories, most=self.beams)

    @torch.inference_mode()
    def score_candidates(self, histories: Sequence[np.ndarray], candidates: np.ndarray) -> np.ndarray:
        """Return the log-probabilities of some items of each user, float32 [histories, n], exact.

        Args:
            histories: Item row numbers, the most recent last.
            candidates: Int [histories, n], item row numbers.
        """
        scores = np.empty(candidates.shape, dtype=np.float32)

        def score(rows: np.ndarray) -> None:
            writer = self.writer([histories[row] for row in rows])
            scores[rows] = candidate_scores(writer, self.trie, candidates[rows])

        self._by_users(histories, self.candidate_tokens(candidates.shape[1]), score)
        return scores

    def _by_users(
        self, histories: Sequence[np.ndarray], written: int, work: Callable[[np.ndarray], None]
    ) -> None:
        counts = self.prompt_tokens(histories) - len(self.prefix) + written

        def run(tokens: int) -> None:
            for rows in token_batches(counts, token_budget=tokens):
                work(rows)

        self.budget.run(run)


class WritingTrainer(Trainer):
    """The trainer of LLM methods for models that write: validation ranks sampled candidates by exact probability.

    Args:
        network: The model to train in place.
        options: Training options; those of RISA and of adaptors say nothing here.
        look: Is told the number and the validation NDCG@10 of each epoch; it may raise to stop.
        arguments: The trainer's others.
    """

    def __init__(
        self,
        *,
        network: WritingModel,
        options: TrainingOptions,
        look: Callable[[int, float], None] | None = None,
        **arguments: Any,
    ) -> None:
        model: Any = network
        # Neither RISA nor adaptors are theirs.
        super().__init__(
            model=model, options=replace(options, risa=False, adaptor_start="drawn"), **arguments
        )
        self._look = look

    def _finish_epoch(self) -> None:
        super()._finish_epoch()
        if self._look is not None and "valid_ndcg@10" in self.epochs[-1]:
            self._look(len(self.epochs), self.epochs[-1]["valid_ndcg@10"])

    def validate(self, count: int | None = None) -> float:
        """Return mean NDCG@10 of the validation items among their sampled candidates, which are scored exactly.

        Args:
            count: Users that are looked at; ``None`` takes those of the options.
        """
        network: Any = self.model
        users = validation_users(self.split, count or self.options.validation_users, seed=self.seed)
        histories = [self.split.history(int(user), "valid") for user in users]
        targets = self.split.targets("valid")[users]
        candidates = np.concatenate([targets[:, None], self.negatives[users]], axis=1)
        scores = network.score_candidates(histories, candidates)
        every = np.where(candidates == targets[:, None], 0, np.arange(candidates.shape[1]))
        ranks = target_ranks(scores, np.zeros(len(users), dtype=np.int64), candidates=every)
        return processes.of_main([mean_ndcg(ranks, 10)])[0]
