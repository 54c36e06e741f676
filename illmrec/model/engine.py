"""One forward pass of the frozen LLM over packed prompts: trunks with branches, no padding.

Linear layers see one row of N tokens, so no position is wasted on padding; attention runs user by user, so no user
can see another: plain causal attention within the trunk, and the branches with a mask over trunk and branches. Cost
of a forward pass: ``2 * block parameters * N`` FLOPs for the linear layers and ``4 * heads * head width * layers``
for each attended pair.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from illmrec.model.backbone import Backbone
from illmrec.prompts.packing import Packed

logger = logging.getLogger(__name__)

_ATTENTION = "illmrec_packed"
_DENSE_PAIRS = 512 * 512
"""On the CPU, training attends by plain matrix products up to so many pairs: there the fused kernel's backward pass
took two to three times as long (bfloat16, 240 to 430 keys). Beyond, the scores would take too much memory."""


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where each user's tokens are and what they may see.

    Attributes:
        lengths: Per user, tokens of the prompt.
        trunks: Per user, how many of them, from the first, see all tokens up to themselves.
        masks: Per user, [length - trunk, length], what is added to the others' attention scores.
    """

    lengths: list[int]
    trunks: list[int]
    masks: list[Tensor | None]


class Engine:
    """Runs a frozen backbone over packed prompts and returns only the hidden states that are read.

    Args:
        backbone: The frozen LLM.
        packed: ``None`` uses packed rows where the model's code lets attention be replaced and padded rows
            elsewhere; ``False`` forces padded rows. Both give equal results.
    """

    def __init__(self, backbone: Backbone, *, packed: bool | None = None) -> None:
        self.backbone = backbone
        supported = bool(getattr(backbone.model, "_supports_attention_backend", False))
        self.packed = supported if packed is None else packed
        if packed is None and not supported:
            logger.info(
                "%s: its code does not let attention be replaced; using padded rows, slower, same results",
                backbone.name,
            )

    def hidden(
        self,
        packed: Packed,
        *,
        slots: Mapping[str, Tensor],
        rec: Tensor,
        positions: Tensor,
    ) -> Tensor:
        """Return final hidden states at some positions.

        Args:
            packed: The prompts.
            slots: For each slot feature, [slots, width], vectors in the order of ``packed.slot_positions``.
            rec: [width], the embedding of ``[REC]``.
            positions: Int64 [n], positions in the row.

        Returns:
            Float32 [n, width]; gradients flow to ``slots`` and ``rec``.
        """
        device = self.backbone.device
        inputs = self.backbone.embeddings(torch.from_numpy(packed.ids).to(device))
        for name, vectors in slots.items():
            at = torch.from_numpy(packed.slot_positions[name]).to(device)
            inputs = inputs.index_copy(0, at, vectors.to(inputs.dtype))
        rec_at = torch.from_numpy(packed.rec_positions).to(device)
        inputs = inputs.index_copy(0, rec_at, rec.to(inputs.dtype).expand(len(rec_at), -1))
        states = self._packed_rows(packed, inputs) if self.packed else self._padded_rows(packed, inputs)
        return states[positions.to(device)].float()

    def _packed_rows(self, packed: Packed, inputs: Tensor) -> Tensor:
        lengths = packed.lengths.tolist()
        trunks = lengths
        masks: list[Tensor | None] = [None] * len(lengths)
        if not packed.straight:
            trunks = packed.trunk_lengths.tolist()
            masks = [self._additive(packed.mask(user)[trunk:], inputs) for user, trunk in enumerate(trunks)]
        layout = _Layout(lengths=lengths, trunks=trunks, masks=masks)
        self.backbone.model.set_attn_implementation(_ATTENTION)
        output = self.backbone.trunk(
            inputs_embeds=inputs[None],
            position_ids=torch.from_numpy(packed.position_ids).to(inputs.device)[None],
            use_cache=False,
            layout=layout,
        )
        return output.last_hidden_state[0]

    @staticmethod
    def _additive(mask: np.ndarray, inputs: Tensor) -> Tensor:
        """Return a mask as what attention adds, in its dtype: made once, where every layer would convert a boolean."""
        visible = torch.from_numpy(mask).to(inputs.device)
        return torch.zeros(mask.shape, dtype=inputs.dtype, device=inputs.device).masked_fill_(
            ~visible, -torch.inf
        )

    def _padded_rows(self, packed: Packed, inputs: Tensor) -> Tensor:
        """The plain way, for models whose attention cannot be replaced: one row per user, padded on the right."""
        device, users, longest = inputs.device, len(packed.lengths), int(packed.lengths.max())
        user = np.repeat(np.arange(users), packed.lengths)
        column = np.arange(packed.tokens) - np.repeat(
            np.cumsum(packed.lengths) - packed.lengths, packed.lengths
        )
        at = torch.from_numpy(user * longest + column).to(device)
        rows = inputs.new_zeros(users * longest, inputs.shape[1]).index_copy(0, at, inputs)
        position_ids = torch.zeros(users * longest, dtype=torch.long, device=device)
        position_ids[at] = torch.from_numpy(packed.position_ids).to(device)
        # A padding token sees itself only, so that no row of the softmax is empty.
        mask = np.broadcast_to(np.eye(longest, dtype=bool), (users, longest, longest)).copy()
        for index, length in enumerate(packed.lengths):
            mask[index, :length, :length] = packed.mask(index)
        self.backbone.model.set_attn_implementation("sdpa")
        output = self.backbone.trunk(
            inputs_embeds=rows.view(users, longest, -1),
            position_ids=position_ids.view(users, longest),
            attention_mask=torch.from_numpy(mask)[:, None].to(device),
            use_cache=False,
        )
        return output.last_hidden_state.reshape(users * longest, -1)[at]


def forward_flops(backbone: Backbone, packed: Packed) -> float:
    """Return the FLOPs of one forward pass over packed prompts (multiply and add count as two).

    Counted: matrices of the blocks for every token, and queries against keys and weights against values for every
    pair that may attend. The LM head is not counted: retrieval never touches it.
    """
    config = backbone.model.config.get_text_config()
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    pairs = 4.0 * config.num_attention_heads * head_width * backbone.layers * packed.attended_pairs()
    return 2.0 * backbone.block_parameters * packed.tokens + pairs


def _attend_per_user(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    layout: _Layout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention for transformers' registry: [1, heads, N, head width] in, [1, N, heads, head width] out."""
    if layout is None:
        raise RuntimeError("packed attention was called outside the engine")
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    outputs = []
    for q, k, v, trunk, mask in zip(
        query.split(layout.lengths, dim=2),
        key.split(layout.lengths, dim=2),
        value.split(layout.lengths, dim=2),
        layout.trunks,
        layout.masks,
        strict=True,
    ):
        outputs.append(_attend(q[:, :, :trunk], k[:, :, :trunk], v[:, :, :trunk], None, scaling))
        if mask is not None:
            outputs.append(_attend(q[:, :, trunk:], k, v, mask, scaling))
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """Attend causally, or with what is added to the scores: [1, heads, queries, head width] in and out."""
    pairs = query.shape[2] * key.shape[2]
    if query.device.type != "cpu" or not torch.is_grad_enabled() or pairs > _DENSE_PAIRS:
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling
        )
    if mask is None:
        mask = torch.full((query.shape[2], key.shape[2]), -torch.inf, dtype=query.dtype).triu_(1)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.baddbmm(mask.expand(query.shape[1], -1, -1), query[0], key[0].transpose(1, 2), alpha=scale)
    return torch.bmm(scores.softmax(-1), value[0])[None]


AttentionInterface.register(_ATTENTION, _attend_per_user)
