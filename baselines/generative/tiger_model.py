"""TIGER behind the protocol: every item by its exact probability, or the items that a beam search finds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from baselines.generative.beam_search import beam_search, candidate_scores
from baselines.generative.item_scores import CatalogueScores, listed_besides
from baselines.generative.tiger import Tiger, TigerOptions, TigerWriter
from baselines.generative.trie import build_trie
from baselines.training_record import TrainingRecord

_NUMBERS_AT_ONCE = 1 << 24
"""Logits of a step that exist at a time, about: 64 MB."""


class TigerScorer:
    """Scores items by the probability that TIGER writes them.

    Args:
        network: The network, which is set to evaluation mode.
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
        """Return log-probabilities, float32 [histories, n_items].

        Of a large catalogue, those of ``beams`` items besides those of the history; all others are minus infinity.

        Args:
            histories: Item rows, oldest first.

        Raises:
            InputError: If a history is empty.
            ValueError: If a logit is not finite.
        """
        widest = self._options.beams if self._catalogue is None else self._catalogue.widest
        found = []
        for part in self._parts(len(histories), widest):
            some = histories[part]
            writer = TigerWriter(self.network.eval(), some)
            if self._catalogue is not None:
                found.append(self._catalogue.of(writer, users=len(some)))
            else:
                found.append(self._listed(writer, some))
        return np.concatenate(found)

    @torch.no_grad()
    def score_candidates(self, histories: Sequence[np.ndarray], candidates: np.ndarray) -> np.ndarray:
        """Return the exact log-probabilities of some items, float32 [histories, n].

        Args:
            histories: Item rows, oldest first.
            candidates: Int [histories, n], item rows.
        """
        found = []
        for part in self._parts(len(histories), candidates.shape[1]):
            writer = TigerWriter(self.network.eval(), histories[part])
            found.append(candidate_scores(writer, self._trie, candidates[part]))
        return np.concatenate(found)

    def _parts(self, users: int, widest: int) -> list[slice]:
        """Return which users are scored together, where a step writes so many tokens for each."""
        at_once = max(1, _NUMBERS_AT_ONCE // (widest * self.network.vocabulary))
        return [slice(begin, begin + at_once) for begin in range(0, users, at_once)]

    def _listed(self, writer: TigerWriter, histories: Sequence[np.ndarray]) -> np.ndarray:
        beams = self._options.beams
        known = max(len(np.unique(history)) for history in histories)
        found = beam_search(writer, self._trie, users=len(histories), beams=beams, results=beams + known)
        return listed_besides(found.by_item(self._n_items), histories, most=beams)


class TigerModel:
    """A trained TIGER behind the protocol's ``score``.

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

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [histories, n_items], higher is better; see :meth:`TigerScorer.score`.

        Args:
            histories: Item rows, oldest first.
        """
        return self.scorer.score(histories)


class TigerLists(TigerModel):
    """A trained TIGER for a catalogue that is too large to score: among all items it is ranked by what it finds."""

    def score_candidates(self, histories: Sequence[np.ndarray], candidates: np.ndarray) -> np.ndarray:
        """Return finite float32 [histories, n] of int [histories, n], item rows."""
        return self.scorer.score_candidates(histories, candidates)
