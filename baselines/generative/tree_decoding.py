"""Writing after shared trunks: each user's prompt is run once, what is written after it shares its keys and values.

What is written forms a tree for each user: a token goes on from the trunk or from a token before it, and sees the
prefix, the trunk, the tokens on its own way and itself. Keys and values of every token are kept once, wherever beams
go on from it; which of them a token sees is a mask, so that nothing is copied or reordered when beams are dropped.
All users' tokens of a step are one packed row in the LLM's linear layers; attention goes over users side by side.

Cost: with ``T`` tokens of trunks and ``w`` written ones, ``T + w`` tokens go through the LLM, ``2 * parameters of
blocks`` FLOPs each, and a written token attends to its user's trunk and to no more columns than were written for
the user. The keys and values of a user take ``(prefix + longest trunk + written) * 2 * key heads * head width``
numbers a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from illmrec.model.engine import Engine
from illmrec.model.kv_cache import KeysAndValues
from illmrec.prompts.packing import Packed

TREE_ATTENTION = "illmrec_tree"


class SharedTrunks:
    """The trunks of some users, and what is written after them.

    Args:
        engine: Around the LLM, which is run in packed rows.
        packed: The prompts, a trunk for each user and no branches.
        slots: What fills their slots, as :meth:`Engine.hidden` takes it.

    Attributes:
        states: Float32 [users, width], final states of the trunks' last tokens.

    Raises:
        UnsupportedError: If the LLM is not run in packed rows.
    """

    def __init__(self, engine: Engine, packed: Packed, *, slots: Mapping[str, Tensor]) -> None:
        self._backbone = engine.backbone
        device = self._backbone.device
        kept: KeysAndValues = {}
        ends = torch.from_numpy(np.cumsum(packed.lengths) - 1)
        nothing = torch.zeros(self._backbone.width, device=device)
        self.states = engine.hidden(packed, slots=slots, rec=nothing, positions=ends, kept=kept)
        users, first, longest = len(packed.lengths), len(packed.prefix), int(packed.lengths.max())
        lengths = torch.from_numpy(packed.lengths).to(device)
        self._user = torch.arange(users, device=device)
        self._position = first + lengths - 1
        columns = torch.arange(first + longest, device=device)
        self._visible = columns[None] < (first + lengths)[:, None]
        self._column_positions = columns.expand(users, -1)
        self._kept = self._side_by_side(kept, engine.prefix(packed.prefix), lengths, longest)
        self._masks: dict[int | None, Tensor] = {}
        self._place = (self._user, torch.zeros_like(self._user), 1)

    @staticmethod
    def _side_by_side(
        kept: KeysAndValues, prefix: KeysAndValues, lengths: Tensor, longest: int
    ) -> dict[int, tuple[Tensor, Tensor]]:
        """Return keys and values of prefix and trunks by user, each [users, key heads, prefix + longest, width]."""
        users = len(lengths)
        starts = lengths.cumsum(0) - lengths
        within = torch.arange(longest, device=lengths.device)
        # The last token of a shorter trunk stands in the columns after it, too, which no mask shows.
        rows = starts[:, None] + torch.minimum(within, lengths[:, None] - 1)
        found = {}
        for block, row in kept.items():
            parts = [
                torch.cat([before.expand(users, -1, -1, -1), own[0][:, rows].transpose(0, 1)], dim=2)
                for before, own in zip(prefix[block], row, strict=True)
            ]
            found[block] = (parts[0], parts[1])
        return found

    @torch.no_grad()
    def write(self, parents: Tensor, inputs: Tensor) -> Tensor:
        """Write one more token in each row and return the final states there, float32 [rows, width].

        Args:
            parents: Int64 [rows], the row that each goes on from: the user's number the first time, a row of the
                last call from then on. Rows of a user stand together, users in ascending order.
            inputs: Float [rows, width], the tokens' embeddings.
        """
        user, rows = self._user[parents], len(parents)
        users = len(self._column_positions)
        counts = torch.bincount(user, minlength=users)
        rank = torch.arange(rows, device=user.device) - (counts.cumsum(0) - counts)[user]
        added = int(counts.max())
        position = self._position[parents] + 1
        own = torch.zeros(rows, added, dtype=torch.bool, device=user.device)
        own[torch.arange(rows, device=user.device), rank] = True
        new_positions = self._column_positions.new_zeros(users, added)
        new_positions[user, rank] = position
        self._column_positions = torch.cat([self._column_positions, new_positions], dim=1)
        self._visible = torch.cat([self._visible[parents], own], dim=1)
        self._user, self._position, self._place, self._masks = user, position, (user, rank, added), {}
        self._backbone.attend_by(TREE_ATTENTION, _attend_tree)
        output = self._backbone.trunk(
            inputs_embeds=inputs[None].to(self._backbone.dtype),
            position_ids=position[None],
            use_cache=False,
            tree=self,
        )
        states: Tensor = output.last_hidden_state[0].float()
        return states

    def attend(
        self,
        block: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scale: float,
        window: int | None,
        softcap: float | None,
        sinks: Tensor | None,
    ) -> Tensor:
        """Attend from the tokens of a step; their keys and values join those of the block.

        Args:
            block: Its number.
            query: [1, heads, rows, width].
            key: [1, key heads, rows, width].
            value: Likewise.
            scale: Scores are multiplied by it.
            window: A token sees so many positions, its own the last of them; ``None`` is no limit.
            softcap: Scores are squashed to this size by tanh, before the mask.
            sinks: [heads], one more score for each query, of a key without a value.

        Returns:
            [1, rows, heads, width of the values].
        """
        user, rank, added = self._place
        users, heads, shared = len(self._column_positions), query.shape[1], key.shape[1]

        def by_user(values: Tensor) -> Tensor:
            table = values.new_zeros(users, added, values.shape[1], values.shape[3])
            table[user, rank] = values[0].transpose(0, 1)
            return table.transpose(1, 2)

        keys, values = (
            torch.cat([before, by_user(now)], dim=2)
            for before, now in zip(self._kept[block], (key, value), strict=True)
        )
        self._kept[block] = (keys, values)
        # Query heads that share keys stand below each other, so that keys are not copied for each of them.
        queries = by_user(query).reshape(users, shared, heads // shared * added, -1)
        scores = (queries @ keys.transpose(2, 3)) * scale
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        scores = scores.view(users, shared, heads // shared, added, -1)
        scores = scores + self._mask(window, scores.dtype)[:, None, None]
        if sinks is None:
            weights = scores.softmax(-1)
        else:
            further = sinks.to(scores.dtype).view(1, shared, -1, 1, 1).expand(users, -1, -1, added, 1)
            weights = torch.cat([scores, further], dim=-1).softmax(-1)[..., :-1]
        attended = weights.flatten(2, 3) @ values
        return attended.reshape(users, heads, added, -1)[user, :, rank][None]

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """Return [users, rows of a user at most, columns], what is added to scores; made once, not in every block."""
        if window not in self._masks:
            visible = self._visible
            if window is not None:
                visible = visible & (self._position[:, None] - self._column_positions[self._user] < window)
            user, rank, added = self._place
            seen = torch.zeros(
                (len(self._column_positions), added, visible.shape[1]),
                dtype=torch.bool,
                device=visible.device,
            )
            seen[:, :, 0] = True  # rows of nobody, so that no row of the softmax is empty
            seen[user, rank] = visible
            self._masks[window] = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(
                ~seen, -torch.inf
            )
        return self._masks[window]


def _attend_tree(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    tree: SharedTrunks | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention for transformers' registry: [1, heads, N, head width] in, [1, N, heads, value width] out.

    What else an LLM calls attention with changes nothing: the engine has checked it in packed rows.
    """
    if tree is None or attention_mask is not None:
        raise RuntimeError("attention of trees was called outside of them, or with a mask")
    attended = tree.attend(
        int(module.layer_idx),  # type: ignore[arg-type]
        query,
        key,
        value,
        scale=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        window=sliding_window,
        softcap=softcap,
        sinks=s_aux,
    )
    return attended.contiguous(), None
