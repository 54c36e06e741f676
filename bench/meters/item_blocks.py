"""Histories put together from items' own keys and values: an approximation that is measured, not used.

An item recurs in many histories, and the LLM is frozen. Its tokens are run once, after the prefix alone; in a history,
their keys are turned to the positions where the item stands, and their values are taken as they are. What is lost is
that an item's tokens see the items before it. Some of it is bought back by tokens that are computed in the history
itself (:class:`Recomputed`), as in schemes for retrieved documents (CacheBlend, EPIC).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.models.llama.modeling_llama import rotate_half

from illmrec.errors import InputError, UnsupportedError
from illmrec.model.budget import token_batches
from illmrec.model.illmrec import ILLMRec
from illmrec.model.kv_cache import KeysAndValues
from illmrec.prompts.packing import Fitted

ITEM_ATTENTION = "illmrec_item_blocks"


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """Which tokens of a history are computed in it; those of the first item never are, since they are exact.

    Attributes:
        first_tokens: The first so many of every item, in all blocks.
        first_blocks: All, in the first so many blocks of the LLM.
        last_blocks: All, in its last so many blocks, which begin with the states that items have by themselves.
    """

    first_tokens: int = 0
    first_blocks: int = 0
    last_blocks: int = 0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: If one is negative.
        """
        if min(self.first_tokens, self.first_blocks, self.last_blocks) < 0:
            raise InputError("what is recomputed cannot be fewer than 0 tokens or blocks")

    def whole(self, block: int, blocks: int) -> bool:
        """Tell whether a block computes all tokens."""
        return block < self.first_blocks or block >= blocks - self.last_blocks


class ItemBlocks:
    """Keys, values and states of items by themselves.

    Args:
        model: Of text, since slots change while adaptors are trained; a LLaMA or built like one.
        items: Int [items], row numbers of the catalogue.
        entering: Numbers of blocks for which the states that enter them are kept, too.
        token_budget: Tokens in one pass.

    Attributes:
        rows: Int64 [n_items], where each item's tokens begin in the tables; -1 of an item that is not there.

    Raises:
        UnsupportedError: If the model has slots, or its LLM is built otherwise.
    """

    def __init__(
        self, model: ILLMRec, items: np.ndarray, *, entering: Sequence[int] = (), token_budget: int = 4096
    ) -> None:
        _check(model)
        self.model = model
        lengths = model.prompts.items.lengths
        items = np.unique(items)
        self.rows = np.full(len(lengths), -1)
        self.rows[items] = np.cumsum(lengths[items]) - lengths[items]
        parts: list[KeysAndValues] = []
        states: dict[int, list[Tensor]] = {block: [] for block in entering}
        for batch in token_batches(lengths[items], token_budget=token_budget):
            order = np.sort(batch)
            parts.append(self._run(items[order], states))
            self.rows[items[order]] = sum(len(part[0][0]) for part in parts[:-1]) + (
                np.cumsum(lengths[items[order]]) - lengths[items[order]]
            )
        self._kept = {
            block: tuple(torch.cat([part[block][side] for part in parts]) for side in (0, 1))
            for block in parts[0]
        }
        self._entering = {block: torch.cat(found) for block, found in states.items()}

    @torch.inference_mode()
    def _run(self, items: np.ndarray, states: dict[int, list[Tensor]]) -> KeysAndValues:
        """Run items, each as the first of a history, and return keys and values, [tokens, key heads, head width]."""
        model, kept = self.model, KeysAndValues()
        engine = model.engine
        fitted = [
            Fitted(items=np.array([item]), cut_ids=None, dropped_items=0, dropped_tokens=0) for item in items
        ]
        packed = model.prompts.pack(fitted, boundaries=[np.zeros(0, dtype=np.int64)] * len(items))
        engine.prefix(packed.prefix)  # its own pass must not be noted
        handles = [
            engine.backbone.blocks[block].register_forward_pre_hook(_noting(found), with_kwargs=True)
            for block, found in states.items()
        ]
        try:
            ends = torch.from_numpy(np.cumsum(packed.lengths) - 1)
            engine.hidden(packed, slots={}, rec=model.rec, positions=ends, kept=kept)
        finally:
            for handle in handles:
                handle.remove()
        return {
            block: (key[0].transpose(0, 1).contiguous(), value[0].transpose(0, 1).contiguous())
            for block, (key, value) in kept.items()
        }

    @property
    def bytes(self) -> int:
        """Memory of keys and values, those of all blocks."""
        return sum(part.numel() * part.element_size() for pair in self._kept.values() for part in pair)

    @torch.inference_mode()
    def encode(
        self, histories: Sequence[np.ndarray], recomputed: Recomputed, *, token_budget: int = 4096
    ) -> Tensor:
        """Return the states of ``[REC]`` after histories, float32 [histories, width]; see :meth:`ILLMRec.encode`."""
        prompts = self.model.prompts
        fitted = [prompts.fit(history, max_items=self.model.history_length) for history in histories]
        found = torch.zeros(len(fitted), self.model.engine.backbone.width)
        for batch in token_batches(prompts.token_counts(fitted), token_budget=token_budget):
            one_pass = ItemPass(self, [fitted[row] for row in batch], recomputed)
            found[torch.from_numpy(batch)] = one_pass.states()
        return found

    def work(self, histories: Sequence[np.ndarray], recomputed: Recomputed) -> tuple[int, int]:
        """Return the tokens of histories and branches that blocks compute, summed over blocks: so, and exactly."""
        prompts, blocks = self.model.prompts, self.model.engine.backbone.layers
        fitted = [prompts.fit(history, max_items=self.model.history_length) for history in histories]
        one_pass = ItemPass(self, fitted, recomputed)
        return sum(len(one_pass.computed(block)) for block in range(blocks)), one_pass.packed.tokens * blocks


class ItemPass:
    """One pass over some histories.

    Args:
        blocks: The items'.
        fitted: The histories.
        recomputed: Which of their tokens are computed.
    """

    def __init__(self, blocks: ItemBlocks, fitted: Sequence[Fitted], recomputed: Recomputed) -> None:
        self._blocks, self._recomputed = blocks, recomputed
        model = blocks.model
        self._backbone = model.engine.backbone
        self.packed = packed = model.prompts.pack(fitted)
        self._prefix = model.engine.prefix(packed.prefix)
        trunk = np.flatnonzero(packed.branch == 0)
        lengths = [_lengths(model, history) for history in fitted]
        every = np.concatenate(lengths)
        within = np.arange(len(trunk)) - np.repeat(np.cumsum(every) - every, every)
        items = np.concatenate([history.items for history in fitted])
        self._trunk, self._cached = trunk, np.repeat(blocks.rows[items], every) + within
        # How far each token stands from where it was run: its item began right after the prefix.
        self._turn = packed.position_ids[trunk] - len(packed.prefix) - within
        first = np.repeat(np.concatenate([np.arange(len(each)) == 0 for each in lengths]), every)
        some = trunk[(within < recomputed.first_tokens) & ~first]
        self._some = np.sort(np.concatenate([some, np.flatnonzero(packed.branch > 0)]))
        self._every = np.arange(packed.tokens)
        self._masks: dict[int, list[Tensor]] = {}

    def computed(self, block: int) -> np.ndarray:
        """Return int64 [n], the tokens of the row that a block computes."""
        whole = self._recomputed.whole(block, self._backbone.layers)
        return self._every if whole else self._some

    def states(self) -> Tensor:
        """Run the blocks and return the states of ``[REC]``, float32 [histories, width]."""
        backbone, packed, model = self._backbone, self.packed, self._blocks.model
        trunk: Any = backbone.trunk
        backbone.model.set_attn_implementation(ITEM_ATTENTION)
        inputs = backbone.embeddings(torch.from_numpy(packed.ids))
        inputs = inputs.index_copy(
            0,
            torch.from_numpy(packed.rec_positions),
            model.rec.to(inputs.dtype).expand(len(packed.lengths), -1),
        )
        at = self.computed(0)
        states = inputs[torch.from_numpy(at)]
        for number, block in enumerate(backbone.blocks):
            now = self.computed(number)
            if now is not at:
                states = self._moved(states, at, now, number)
            at = now
            positions = torch.from_numpy(packed.position_ids[at])[None]
            states = block(
                states[None],
                attention_mask=None,
                position_ids=positions,
                position_embeddings=trunk.rotary_emb(states, positions),
                items=self,
            )[0]
        read = torch.from_numpy(np.searchsorted(at, packed.rec_positions))
        found: Tensor = trunk.norm(states[read]).float()
        return found

    def _moved(self, states: Tensor, at: np.ndarray, now: np.ndarray, block: int) -> Tensor:
        """Return the states of other tokens: those that come in bring what their items have by themselves."""
        if len(now) < len(at):
            return states[torch.from_numpy(np.searchsorted(at, now))]
        table = states.new_zeros(self.packed.tokens, states.shape[1])
        own = self._blocks._entering[block][torch.from_numpy(self._cached)]
        table.index_copy_(0, torch.from_numpy(self._trunk), own)
        return table.index_copy_(0, torch.from_numpy(at), states)

    def attend(self, block: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attend from the computed tokens: [1, heads, n, head width] in, [1, n, heads, head width] out."""
        at = self.computed(block)
        if at is self._every:
            keys, values = key[0], value[0]
        else:
            keys, values = (
                self._filled(own, now[0].transpose(0, 1), at)
                for own, now in zip(self._own(block), (key, value), strict=True)
            )
        before = [part[0] for part in self._prefix[block]]
        outputs = []
        for user, (q, added) in enumerate(
            zip(query[0].split(self._counts(at), dim=1), self._visible(at, query), strict=True)
        ):
            rows = self._rows(user)
            k, v = (
                torch.cat([prefix, part[:, rows]], dim=1)
                for prefix, part in zip(before, (keys, values), strict=True)
            )
            groups = len(q) // len(k)
            # Query heads that share keys stand below each other, so that keys are not copied for each of them.
            grouped = q.reshape(len(k), groups * q.shape[1], -1)
            scores = torch.baddbmm(added.repeat(groups, 1), grouped, k.transpose(1, 2), alpha=scale)
            outputs.append(torch.bmm(scores.softmax(-1), v).view(len(q), q.shape[1], -1))
        return torch.cat(outputs, dim=1).transpose(0, 1)[None]

    def _own(self, block: int) -> tuple[Tensor, Tensor]:
        """Return the items' keys, turned to where they stand, and values: [trunk tokens, key heads, head width]."""
        keys, values = (part[torch.from_numpy(self._cached)] for part in self._blocks._kept[block])
        trunk: Any = self._backbone.trunk
        cos, sin = trunk.rotary_emb(keys.float(), torch.from_numpy(self._turn)[None])
        wide = keys.float()
        turned = wide * cos[0][:, None] + rotate_half(wide) * sin[0][:, None]
        return turned.to(keys.dtype), values

    def _filled(self, own: Tensor, now: Tensor, at: np.ndarray) -> Tensor:
        """Return the row's keys or values, [key heads, N, head width], those that are computed in their places."""
        table = own.new_zeros(self.packed.tokens, *own.shape[1:])
        table.index_copy_(0, torch.from_numpy(self._trunk), own)
        return table.index_copy_(0, torch.from_numpy(at), now).transpose(0, 1)

    def _rows(self, user: int) -> slice:
        ends = np.cumsum(self.packed.lengths)
        return slice(int(ends[user] - self.packed.lengths[user]), int(ends[user]))

    def _counts(self, at: np.ndarray) -> list[int]:
        ends = np.searchsorted(at, np.cumsum(self.packed.lengths))
        counts: list[int] = np.diff(ends, prepend=0).tolist()
        return counts

    def _visible(self, at: np.ndarray, like: Tensor) -> list[Tensor]:
        """Return per user [computed, P + length], what hides later tokens; made once, not in every block."""
        if len(at) not in self._masks:
            masks = []
            for user, local in enumerate(np.split(at, np.cumsum(self._counts(at))[:-1])):
                rows, prefix = self._rows(user), len(self.packed.prefix)
                hidden = np.arange(rows.stop - rows.start)[None] > (local - rows.start)[:, None]
                mask = torch.from_numpy(np.pad(hidden, ((0, 0), (prefix, 0))))
                masks.append(torch.zeros(mask.shape, dtype=like.dtype).masked_fill_(mask, -torch.inf))
            self._masks[len(at)] = masks
        return self._masks[len(at)]


def _check(model: ILLMRec) -> None:
    backbone = model.engine.backbone
    if model.slots:
        raise UnsupportedError(
            f"items with slots ({model.slots[0]}) have other keys whenever adaptors learn; take a method of text"
        )
    rotary = getattr(backbone.trunk, "rotary_emb", None)
    if (
        backbone.device.type != "cpu"
        or model.engine.execution.rows != "packed"
        or not hasattr(backbone.trunk, "norm")
        or getattr(rotary, "attention_scaling", None) != 1
    ):
        raise UnsupportedError(
            f"--llm {backbone.name}: items' keys are turned for LLMs built like LLaMA, on a CPU; take such a one"
        )


def _lengths(model: ILLMRec, history: Fitted) -> np.ndarray:
    """Return int64 [items], tokens that each item of a history takes."""
    if history.cut_ids is not None:
        return np.array([len(history.cut_ids)])
    return model.prompts.items.lengths[history.items]


def _noting(found: list[Tensor]) -> Any:
    def note(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        states = arguments[0] if arguments else keywords["hidden_states"]
        found.append(states[0])

    return note


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    items: ItemPass | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention for transformers' registry; what else a block hands on changes nothing in an LLM built like LLaMA."""
    if items is None or attention_mask is not None:
        raise RuntimeError("attention to items' keys was called outside of it, or with a mask")
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    block = int(module.layer_idx)  # type: ignore[arg-type]
    return items.attend(block, query, key, value, scale).contiguous(), None


AttentionInterface.register(ITEM_ATTENTION, _attend)
