"""Scores from stored states: no LLM is run for a history that was encoded before."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from illmrec.model.illmrec import ILLMRec
from illmrec.states.positions import Positions
from illmrec.states.table import StateTable


class StoredScorer:
    """Scores the catalogue for histories whose states are stored.

    Args:
        model: The model that the states were encoded with; its projectors may have been trained since.
        positions: One a history, such as those of the test part.
        table: Their states.
    """

    def __init__(self, *, model: ILLMRec, positions: Positions, table: StateTable) -> None:
        self.model = model
        self._table = table
        self._rows = {self._name(trunk): row for row, trunk in enumerate(positions.trunks)}

    def _name(self, history: np.ndarray) -> bytes:
        return np.asarray(history[-self.model.history_length :], dtype=np.int64).tobytes()

    @cached_property
    def _catalogue(self) -> Tensor:
        return self.model.catalogue()

    @torch.inference_mode()
    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [histories, n_items]; see :meth:`ILLMRec.score`.

        Raises:
            KeyError: If a history was not encoded.
        """
        rows = np.array([self._rows[self._name(history)] for history in histories])
        states = self._table.rows(rows, self.model.rec.device)
        users = self.model.project_standardised(states).flatten(1)
        scores: np.ndarray = (users @ self._catalogue.T).cpu().numpy()
        return scores
