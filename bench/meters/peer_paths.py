"""The strongest plain ways through the LLM: no logits that nobody reads, and little or no padding."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers.utils.import_utils import is_flash_attn_2_available

from bench.meters.plain_paths import TwoPass
from illmrec.model.budget import token_batches
from illmrec.model.illmrec import ILLMRec

DENSE_ROW = 1024
"""Tokens of a row without padding where attention's mask covers all pairs of the row, those of two prompts included."""


class HeadlessPath(TwoPass):
    """Two passes through the decoder: the LM head sees the states that predict answers, and nothing else."""

    @abstractmethod
    def states(self, rows: Sequence[np.ndarray], read: Sequence[np.ndarray], *, rec: bool) -> Tensor:
        """Return final states at some positions of prompts, float32 [positions, width].

        Args:
            rows: Token ids, as :meth:`trunk` writes slots.
            read: Int [n] of each row, which positions.
            rec: Whether the last token of each row is ``[REC]``.
        """

    def retrieval_states(self, trunks: Sequence[np.ndarray]) -> Tensor:
        """Run the RERI pass over trunks and return the states of ``[REC]``, float32 [rows, width]."""
        instruction = self.model.prompts.instruction
        rows = [np.concatenate([trunk, instruction, [0]]) for trunk in trunks]
        return self.states(rows, [np.array([len(row) - 1]) for row in rows], rec=True)

    def _answer_loss(self, rows: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> Tensor:
        read = [
            np.arange(len(row) - len(answer), len(row)) - 1 for row, answer in zip(rows, answers, strict=True)
        ]
        ids = torch.from_numpy(np.concatenate(answers).astype(np.int64)).to(self.device)
        return self.model.answer_loss(self.states(rows, read, rec=False), ids)

    def _with_rec(self, inputs: Tensor, row: np.ndarray, column: np.ndarray) -> Tensor:
        rec = self.model.rec.to(inputs.dtype).expand(len(row), -1)
        return inputs.index_put(self._at(row, column), rec)

    def _at(self, row: np.ndarray, column: np.ndarray) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(row).to(self.device), torch.from_numpy(column).to(self.device)


class SortedTwoPass(HeadlessPath):
    """Padded batches of users of like length."""

    def batches(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """Yield rows in batches of a fixed size, the longest first."""
        order = np.argsort(-tokens, kind="stable")
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]

    def states(self, rows: Sequence[np.ndarray], read: Sequence[np.ndarray], *, rec: bool) -> Tensor:
        """Run rows padded on the right; see :meth:`HeadlessPath.states`."""
        inputs, mask = self._inputs(rows)
        if rec:
            inputs = self._with_rec(inputs, np.arange(len(rows)), np.array([len(row) - 1 for row in rows]))
        self.backbone.model.set_attn_implementation("sdpa")
        output = self.backbone.trunk(inputs_embeds=inputs, attention_mask=mask, use_cache=False)
        at = self._at(np.repeat(np.arange(len(rows)), [len(each) for each in read]), np.concatenate(read))
        return output.last_hidden_state[at].float()


class PaddingFree(HeadlessPath):
    """Transformers' own batches without padding: prompts in one row, told apart by position ids that start anew.

    With FlashAttention 2 on CUDA, attention goes prompt by prompt. Elsewhere its mask covers all pairs of the row, so
    that rows are kept short.

    Args:
        model: The model whose modules and parameters are used.
        batch_size: Examples of a training pass; what is run at once is bounded by tokens.
        token_budget: Tokens of a row.
    """

    def __init__(self, model: ILLMRec, *, batch_size: int, token_budget: int) -> None:
        super().__init__(model, batch_size=batch_size)
        flash = self.device.type == "cuda" and is_flash_attn_2_available()
        self._attention = "flash_attention_2" if flash else "sdpa"
        self._token_budget = token_budget if flash else min(token_budget, DENSE_ROW)

    def batches(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """Yield rows in batches filled to the token budget."""
        return token_batches(tokens, token_budget=self._token_budget)

    def states(self, rows: Sequence[np.ndarray], read: Sequence[np.ndarray], *, rec: bool) -> Tensor:
        """Run rows one after the other as one; see :meth:`HeadlessPath.states`."""
        lengths = np.array([len(row) for row in rows])
        starts = np.cumsum(lengths) - lengths
        inputs, _ = self._inputs([np.concatenate(rows)])
        if rec:
            inputs = self._with_rec(inputs, np.zeros(len(rows), dtype=np.int64), starts + lengths - 1)
        positions = torch.from_numpy(np.concatenate([np.arange(length) for length in lengths]))
        self.backbone.model.set_attn_implementation(self._attention)
        # Without a mask, transformers finds the prompts by the position ids.
        output = self.backbone.trunk(
            inputs_embeds=inputs, position_ids=positions[None].to(self.device), use_cache=False
        )
        at = np.concatenate([start + each for start, each in zip(starts, read, strict=True)])
        return output.last_hidden_state[0, torch.from_numpy(at).to(self.device)].float()
