"""Attention over packed prompts: user by user, so that no user can see another and nothing is spent on padding.

Registered with transformers, whose models call it in place of their own. A trunk sees the common prefix and, causally,
itself; branches see the prefix, their part of the trunk and themselves, by a mask. On CUDA, one call of
flex_attention over the whole row does the same (:mod:`illmrec.model.flex`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from illmrec.model.flex import FlexMask, attend_flex
from illmrec.prompts.packing import Packed

PACKED_ATTENTION = "illmrec_packed"

KeysAndValues = dict[int, tuple[Tensor, Tensor]]
"""Per block, keys and values of the prefix, each [1, key heads, P, head width]."""

DENSE_PAIRS = 512 * 512
"""On the CPU, attention goes by plain matrix products up to so many pairs: there the fused kernel took a third longer
forward and two to three times as long backward (bfloat16, 60 to 430 keys). Beyond, scores take too much memory."""


@dataclass(kw_only=True)
class Layout:
    """Where each user's tokens are and what they may see.

    Attributes:
        lengths: Per user, tokens of the prompt.
        trunks: Per user, how many of them, from the first, see all tokens up to themselves.
        branch_masks: Per user, [groups * (length - trunk), P + length], what is added to the branches' attention
            scores, once for each query head of a group that shares keys; ``None`` where the user has trunk only.
        prefix: Keys and values of the prefix that all users see; empty where the row is the prefix.
        kept: Where not ``None``, the keys and values of the row are put here.
        flex: Mask of the whole row, for attention in one call.
    """

    lengths: list[int]
    trunks: list[int]
    branch_masks: list[Tensor | None]
    prefix: KeysAndValues = field(default_factory=dict)
    kept: KeysAndValues | None = None
    flex: FlexMask | None = None
    _trunk_masks: dict[tuple[int, int, int], Tensor] = field(default_factory=dict)

    def trunk_mask(self, queries: int, keys: int, groups: int, like: Tensor) -> Tensor:
        """Return [groups * queries, keys], what is added for causal attention to the last keys.

        Made once per shape, not in every block.
        """
        found = self._trunk_masks.get((queries, keys, groups))
        if found is None:
            causal = torch.full((queries, keys), -torch.inf, dtype=like.dtype, device=like.device)
            found = causal.triu_(1 + keys - queries).repeat(groups, 1)
            self._trunk_masks[queries, keys, groups] = found
        return found


def prefix_layout(tokens: int, kept: KeysAndValues) -> Layout:
    """Return the layout of a row that is the prefix alone; its keys and values are put into ``kept``."""
    return Layout(lengths=[tokens], trunks=[tokens], branch_masks=[None], kept=kept)


def packed_layout(packed: Packed, prefix: KeysAndValues, *, groups: int, like: Tensor, flex: bool) -> Layout:
    """Return the layout of packed prompts.

    Args:
        packed: The prompts.
        prefix: Keys and values of their prefix.
        groups: Query heads for each key head.
        like: A tensor of the model's dtype on its device.
        flex: Attend in one call of flex_attention.
    """
    lengths = packed.lengths.tolist()
    if flex:
        mask = FlexMask.of(packed, device=like.device)
        return Layout(lengths=lengths, trunks=lengths, branch_masks=[], prefix=prefix, flex=mask)
    if packed.straight:
        return Layout(lengths=lengths, trunks=lengths, branch_masks=[None] * len(lengths), prefix=prefix)
    trunks = packed.trunk_lengths.tolist()
    masks: list[Tensor | None] = [
        _additive(packed.mask(user)[trunk:], len(packed.prefix), like).repeat(groups, 1)
        for user, trunk in enumerate(trunks)
    ]
    return Layout(lengths=lengths, trunks=trunks, branch_masks=masks, prefix=prefix)


def _additive(mask: np.ndarray, prefix: int, like: Tensor) -> Tensor:
    """Return a mask as what attention adds, in its dtype: made once, where every layer would convert a boolean."""
    visible = torch.from_numpy(np.pad(mask, ((0, 0), (prefix, 0)), constant_values=True)).to(like.device)
    return torch.zeros(visible.shape, dtype=like.dtype, device=like.device).masked_fill_(~visible, -torch.inf)


def _attend_packed(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention for transformers' registry: [1, heads, N, head width] in, [1, N, heads, head width] out."""
    if layout is None:
        raise RuntimeError("packed attention was called outside the engine")
    block = int(module.layer_idx)  # type: ignore[arg-type]
    if layout.kept is not None:
        layout.kept[block] = (key, value)
    prefix = layout.prefix.get(block)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if layout.flex is not None:
        if prefix is not None:
            key, value = torch.cat([prefix[0], key], dim=2), torch.cat([prefix[1], value], dim=2)
        return attend_flex(query, key, value, layout.flex, scale).transpose(1, 2), None
    outputs = []
    for q, k, v, trunk, mask in zip(
        query.split(layout.lengths, dim=2),
        key.split(layout.lengths, dim=2),
        value.split(layout.lengths, dim=2),
        layout.trunks,
        layout.branch_masks,
        strict=True,
    ):
        if prefix is not None:
            k, v = torch.cat([prefix[0], k], dim=2), torch.cat([prefix[1], v], dim=2)
        end = k.shape[2] - q.shape[2] + trunk
        outputs.append(_attend(q[:, :, :trunk], k[:, :, :end], v[:, :, :end], None, scale, layout))
        if mask is not None:
            outputs.append(_attend(q[:, :, trunk:], k, v, mask, scale, layout))
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, layout: Layout
) -> Tensor:
    """Attend causally to the last keys, or with a mask: [1, heads, queries, head width] in and out."""
    (heads, queries, width), keys = query.shape[1:], key.shape[2]
    groups = heads // key.shape[1]
    if query.device.type == "cpu" and queries * keys <= DENSE_PAIRS:
        # Query heads that share keys stand below each other, so that keys are not copied for each of them.
        added = layout.trunk_mask(queries, keys, groups, query) if mask is None else mask
        q = query[0].reshape(key.shape[1], groups * queries, width)
        scores = torch.baddbmm(added.expand(len(q), -1, -1), q, key[0].transpose(1, 2), alpha=scale)
        return torch.bmm(scores.softmax(-1), value[0]).view(1, heads, queries, width)
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    if mask is not None:
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:queries], scale=scale
        )
    # The kernels' own causal mask is for as many queries as keys: queries of zeros stand for the prefix.
    padded = functional.pad(query, (0, 0, keys - queries, 0))
    attended = functional.scaled_dot_product_attention(padded, key, value, is_causal=True, scale=scale)
    return attended[:, :, keys - queries :]


AttentionInterface.register(PACKED_ATTENTION, _attend_packed)
