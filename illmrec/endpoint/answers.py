"""From item ids to the best items, for several histories at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from illmrec.recommender import Recommender
from illmrec.retrieval import exact_top_k

ROW_MULTIPLE = 64
"""Rows of a batch are filled up to so many tokens, so that their shapes repeat: on CPUs oneDNN makes and keeps
kernels for each shape that it meets in bfloat16, by which memory grew with every batch (docs/endpoint.md)."""


class UnknownItem(ValueError):
    """An item id that the catalogue does not have.

    Args:
        item_id: The first of them.
        count: How many there are.
    """

    def __init__(self, item_id: str, count: int) -> None:
        super().__init__(item_id)
        self.item_id, self.count = item_id, count


@dataclass(frozen=True, kw_only=True)
class Question:
    """A history, and what is wanted after it.

    Attributes:
        history: Int64 [n], item row numbers, the most recent last.
        k: How many items.
        repeats: Whether items of the history may be recommended again.
    """

    history: np.ndarray
    k: int
    repeats: bool = False


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """An item and its score."""

    item_id: str
    title: str
    score: float


class Answers:
    """Recommends for batches; the catalogue is projected once.

    Args:
        recommender: A trained model with its items.
    """

    def __init__(self, recommender: Recommender) -> None:
        self.model = recommender.model.eval()
        engine = self.model.engine
        engine.row_multiple = max(engine.row_multiple, ROW_MULTIPLE)
        self.item_ids = recommender.dataset.items["item_id"].tolist()
        self.titles = recommender.dataset.items["title"].tolist()
        self._rows = {item_id: row for row, item_id in enumerate(self.item_ids)}
        self._catalogue = self.model.catalogue()

    def rows(self, history: Sequence[str]) -> np.ndarray:
        """Return the row numbers of items, int64 [n].

        Raises:
            UnknownItem: If the catalogue does not have one.
        """
        unknown = [item_id for item_id in history if item_id not in self._rows]
        if unknown:
            raise UnknownItem(unknown[0], len(unknown))
        return np.array([self._rows[item_id] for item_id in history], dtype=np.int64)

    @torch.inference_mode()
    def answer(self, questions: Sequence[Question]) -> list[list[Recommended]]:
        """Return the best items for each question, the best first."""
        states = self.model.encode([question.history for question in questions])
        users = self.model.project_users(states).flatten(1)
        nothing = np.zeros(0, dtype=np.int64)
        best = exact_top_k(
            users,
            self._catalogue,
            k=min(max(question.k for question in questions), self.model.n_items),
            exclude=[nothing if question.repeats else question.history for question in questions],
        )
        return [
            [
                Recommended(item_id=self.item_ids[row], title=self.titles[row], score=float(score))
                for row, score in zip(rows[: question.k], scores[: question.k], strict=True)
                if row >= 0
            ]
            for question, rows, scores in zip(questions, best.items, best.scores, strict=True)
        ]
