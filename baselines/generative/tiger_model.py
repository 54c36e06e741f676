"""TIGER behind the protocol: every item by its exact probability, or the items that a beam search finds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from baselines.generative.beam_search import beam_search, candidate_scores
from baselines.generative.item_scores import CatalogueScores
from baselines.generative.tiger import Tiger, TigerOptions, TigerWriter
from baselines.generative.trie import build_trie
from baselines.training_record import TrainingRecord

_NUMBERS_AT_ONCE = 1 << 24
"""Logits of a step that exist at a time, about: 64 MB."""


class TigerScorer:
    """Scores items by the probability that TIGER writes them.

    Args:
        network: The network; it is set to evaluation mode where it is used.
        options: Which catalogues are scored exactly, and beams.
    """

    def __init__(self, network: Tiger, *, options: TigerOptions) -> None:
        self.network = network
        self._options = options
        tokens = network.tokens.cpu().numpy()
        self._n_items = len(tokens)
        self._trie = build_trie(tokens)
        self._catalogue = CatalogueScores(self._trie) if len(tokens) <= options.exact_items else None

    @property
    def exact(self) -> bool:
        """Whether every item has its probability, or only those that a beam search finds."""
        return self._catalogue is not None

    @property
    def tokens_per_user(self) -> int:
        """Tokens that the decoder writes at most to score the catalogue for a user."""
        if self._catalogue is not None:
            return self._catalogue.steps
        return 1 + self._options.beams * (self._trie.longest - 1)

    @torch.no_grad()
    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return log-probabilities, float32 [histories, n_items]; minus infinity for what a beam search did not find.

        Args:
            histories: Item rows, oldest first.

        Raises:
            InputError: If a history is empty.
            ValueError: If a logit is not finite.
        """
        self.network.eval()
        widest = self._options.beams if self._catalogue is None else self._catalogue.widest
        at_once = max(1, _NUMBERS_AT_ONCE // (widest * self.network.vocabulary))
        found = []
        for begin in range(0, len(histories), at_once):
            part = histories[begin : begin + at_once]
            writer = TigerWriter(self.network, part)
            if self._catalogue is not None:
                found.append(self._catalogue.of(writer, users=len(part)))
            else:
                result = beam_search(writer, self._trie, users=len(part), beams=self._options.beams)
                found.append(result.by_item(self._n_items))
        return np.concatenate(found)

    @torch.no_grad()
    def of_candidates(self, histories: Sequence[np.ndarray], candidates: np.ndarray) -> np.ndarray:
        """Return the exact log-probabilities of some items, float32 [histories, n].

        Args:
            histories: Item rows, oldest first.
            candidates: Int [histories, n], item rows.
        """
        self.network.eval()
        at_once = max(1, _NUMBERS_AT_ONCE // (candidates.shape[1] * self.network.vocabulary))
        found = []
        for begin in range(0, len(histories), at_once):
            some = slice(begin, begin + at_once)
            writer = TigerWriter(self.network, histories[some])
            found.append(candidate_scores(writer, self._trie, candidates[some]))
        return np.concatenate(found)


class TigerModel:
    """A trained TIGER behind the protocol's ``score_users``.

    Args:
        scorer: Scores histories.
        record: What its training did.
        patience: Of its training.
    """

    def __init__(self, scorer: TigerScorer, *, record: TrainingRecord, patience: int) -> None:
        self.scorer = scorer
        self.record = record
        self.converged = record.epochs - record.best_epoch >= patience
        self.parameters = sum(parameter.numel() for parameter in scorer.network.parameters())

    def score_users(self, users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [users, n_items], higher is better; minus infinity for what a beam search did not find.

        Args:
            users: Not read: a user is what their history says.
            histories: Item rows, oldest first.
        """
        return self.scorer.score(histories)
