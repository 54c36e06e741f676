"""Histories that a recommender without an LLM scores, timed in turns with prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.meters.time_and_memory import PeakMemory
from bench.protocol.evaluation import Scorer, UserScorer


@dataclass(frozen=True, kw_only=True)
class ScoredHistories:
    """What is timed: scores of the catalogue for some users, from their histories; see ``turns.Prompts``.

    Attributes:
        name: How progress names it.
        model: What scores.
        held_mb: What its parameters and features take, in MB; None where nobody has counted.
        users: Their row numbers, int [users].
        histories: Per user, int [n] item row numbers, the most recent last.
        batch_users: The first so many of them are a batch.
        device: Where it computes.
        tokens_per_item: Tokens in which an item is read, 0 where none are.
        written_tokens: Tokens that are written for a user at most, 0 where none are.
    """

    name: str
    model: Scorer | UserScorer
    held_mb: float | None
    users: np.ndarray
    histories: Sequence[np.ndarray]
    batch_users: int
    device: torch.device
    tokens_per_item: int = 0
    written_tokens: int = 0

    @property
    def batch(self) -> range:
        """Users of the batch."""
        return range(min(self.batch_users, len(self.histories)))

    def work(self) -> tuple[Any, ...]:
        """Return what two of them have in common where the same is computed for both."""
        return (id(self.model), *(history.tobytes() for history in self.histories), self.batch_users)

    def ready(self) -> None:
        """Compute nothing beforehand."""

    def serve(self, users: range, ready: None) -> None:
        """Score the catalogue for some users."""
        histories = [self.histories[user] for user in users]
        if isinstance(self.model, UserScorer):
            self.model.score_users(self.users[users.start : users.stop], histories)
        else:
            self.model.score(histories)

    def counts(self) -> dict[str, float | None]:
        """Return tokens of an item and of a history on average, none where it is not read in tokens."""
        if not self.tokens_per_item:
            return {"tokens_per_item": None, "prompt_tokens": None}
        items = float(np.mean([len(history) for history in self.histories]))
        return {
            "tokens_per_item": float(self.tokens_per_item),
            "prompt_tokens": items * self.tokens_per_item,
            "written_tokens": float(self.written_tokens),
        }

    def flops(self) -> None:
        """Return nothing: those of an LLM's blocks are counted, and there is none."""

    def memory(self, peak: PeakMemory) -> dict[str, float | None]:
        """Return what it takes by itself, in MB: no LLM, what it holds, activations, and the sum of them."""
        return {
            "weights_mb": 0.0,
            "features_mb": self.held_mb,
            "activations_mb": peak.above_start_mb,
            "peak_memory_mb": None if self.held_mb is None else self.held_mb + peak.above_start_mb,
        }
