"""Prompts of methods that write items, timed in turns with those that score them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from baselines.generative.code_rows import pack_rows
from baselines.generative.written_items import WritingModel
from bench.meters.time_and_memory import PeakMemory, memory_parts
from illmrec.model.cost import forward_flops, pass_flops


@dataclass(frozen=True, kw_only=True)
class WrittenPrompts:
    """What is timed: lists of items for some users, from their prompts to the last token; see ``turns.Prompts``.

    Attributes:
        name: How progress names it.
        model: The method's model.
        histories: Per user, int [n] item row numbers, the most recent last.
        batch_users: The first so many of them are a batch.
    """

    name: str
    model: WritingModel
    histories: Sequence[np.ndarray]
    batch_users: int

    @property
    def batch(self) -> range:
        """Users of the batch."""
        return range(min(self.batch_users, len(self.histories)))

    @property
    def device(self) -> torch.device:
        """Where the LLM is."""
        return self.model.engine.backbone.device

    def work(self) -> tuple[Any, ...]:
        """Return what two prompts have in common where the LLM does the same work for both."""
        read = [history[-self.model.history_length :].tobytes() for history in self.histories]
        return (id(self.model), *read, self.batch_users)

    def ready(self) -> None:
        """Compute nothing beforehand: the trie is there."""

    def serve(self, users: range, ready: None) -> None:
        """List items for some users."""
        self.model.score([self.histories[user] for user in users])

    def counts(self) -> dict[str, float]:
        """Return tokens of an item and of a prompt, and those written after it at most, on average."""
        return {
            "tokens_per_item": self.model.tokens_per_item,
            "prompt_tokens": float(self.model.prompt_tokens(self.histories).mean()),
            "written_tokens": float(self.model.written_tokens),
        }

    def memory(self, peak: PeakMemory) -> dict[str, float]:
        """Return what the model takes by itself, in MB."""
        return memory_parts(self.model, peak)

    def flops(self) -> float | None:
        """Return the FLOPs of the batch in the LLM's blocks: trunks, and every token that is written at most."""
        model, backbone = self.model, self.model.engine.backbone
        rows = [model.history_row(self.histories[user]) for user in self.batch]
        packed = pack_rows(model.prefix, rows)
        trunks, of_token = forward_flops(backbone, packed), pass_flops(backbone)
        if trunks is None or of_token is None:
            return None
        written = len(rows) * model.written_tokens * of_token.token
        for depth, tokens in enumerate(model.written_by_step, start=1):
            keys = packed.lengths + len(model.prefix) + depth
            for pair, window in of_token.pairs:
                seen = keys if window is None else np.minimum(keys, window)
                written += tokens * pair * float(seen.sum())
        return trunks + written
