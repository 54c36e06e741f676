"""A few short prompts that hold everything the engine does to prompts, for comparing it with the LLM itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from illmrec.model.backbone import Backbone
from illmrec.prompts.packing import Packed, PromptBuilder
from illmrec.prompts.tokens import TokenisedItems

ITEM_TOKENS = (5, 8, 3, 7)
BRANCHES = ((1, 3), (2,))
HISTORIES = ((0, 1, 2), (3, 1))
QUESTIONS = ((4, 3), (3, 2))
"""Tokens of each item; per user, items of the history and after how many of them a retrieval branch hangs; per user,
tokens of a question and of its answer."""
WORDS = 24
SLOT = "slot"
LONG = 640
"""Tokens of the long prompt: what only begins far from the start of a prompt should show in it."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Two users with branches, and a prompt of words.

    Attributes:
        packed: Two users with a slot in each item, three retrieval branches and two questions.
        slots: What fills the slots, as :meth:`~illmrec.model.engine.Engine.hidden` takes it.
        rec: Float32 [width], what stands for ``[REC]``.
        words: Int64 [WORDS], token ids without slots.
        other_words: The same at first, and others in the last third.
        long: A user with a long history, without slots, and a retrieval branch in its middle and at its end.
    """

    packed: Packed
    slots: Mapping[str, Tensor]
    rec: Tensor
    words: Tensor
    other_words: Tensor
    long: Packed

    @property
    def positions(self) -> np.ndarray:
        """Int64 [n], positions in the row at which states are read: ``[REC]``, then those that predict answers."""
        return self.packed.read_positions

    def inputs(self, backbone: Backbone, packed: Packed) -> Tensor:
        """Return the embeddings of a row, [N, width] in the LLM's dtype."""
        device = backbone.device
        embeddings = backbone.embeddings(torch.from_numpy(packed.ids).to(device)).clone()
        for name, at in packed.slot_positions.items():
            if len(at):
                embeddings[torch.from_numpy(at).to(device)] = self.slots[name].to(embeddings.dtype)
        embeddings[torch.from_numpy(packed.rec_positions).to(device)] = self.rec.to(embeddings.dtype)
        return embeddings


def make_probe(backbone: Backbone) -> Probe:
    """Return the same prompts for every LLM with the same tokenizer; their words are drawn from its vocabulary."""
    generator = np.random.default_rng(0)
    tokenizer, vocabulary = backbone.tokenizer, len(backbone.embeddings.weight)
    words = np.setdiff1d(np.arange(min(vocabulary, len(tokenizer))), tokenizer.all_special_ids)

    def draw(count: int) -> np.ndarray:
        return generator.choice(words, count)

    items = [np.append(draw(tokens - 1), -1) for tokens in ITEM_TOKENS]
    prompts = _builder(items, tokenizer, slots=(SLOT,))
    packed = prompts.pack(
        [prompts.fit(np.array(history)) for history in HISTORIES],
        boundaries=[np.array(branches) for branches in BRANCHES],
        questions=[(draw(question), draw(answer)) for question, answer in QUESTIONS],
    )
    room = min(LONG, backbone.longest_input or LONG) - prompts.fixed_tokens
    repeats = max(2, room // sum(ITEM_TOKENS))
    plain = _builder([draw(tokens) for tokens in ITEM_TOKENS], tokenizer, slots=())
    history = np.tile(np.arange(len(ITEM_TOKENS)), repeats)
    long = plain.pack([plain.fit(history)], boundaries=[np.array([len(history) // 2, len(history)])])
    random = torch.Generator().manual_seed(0)
    scale = backbone.embedding_scale
    vectors = torch.randn(1 + len(packed.slot_positions[SLOT]), backbone.width, generator=random) * scale
    vectors = vectors.to(backbone.device)
    ids = draw(WORDS)
    others = np.append(ids[: WORDS - WORDS // 3], draw(WORDS // 3))
    return Probe(
        packed=packed,
        slots={SLOT: vectors[1:]},
        rec=vectors[0],
        words=torch.from_numpy(ids).to(backbone.device),
        other_words=torch.from_numpy(others).to(backbone.device),
        long=long,
    )


def _builder(items: list[np.ndarray], tokenizer: Any, *, slots: tuple[str, ...]) -> PromptBuilder:
    lengths = [len(item) for item in items]
    tokenised = TokenisedItems(
        ids=np.concatenate(items).astype(np.int32),
        offsets=np.cumsum([0, *lengths]).astype(np.int64),
        slots=slots,
    )
    return PromptBuilder(items=tokenised, tokenizer=tokenizer)
