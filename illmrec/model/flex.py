"""Packed prompts in one call of flex_attention: a block mask skips what no token may see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from illmrec.prompts.packing import Packed


@dataclass(frozen=True, kw_only=True)
class FlexMask:
    """What each token of a row may see, as a block mask over [N, P + N] queries and keys."""

    blocks: BlockMask

    @classmethod
    def of(cls, packed: Packed, *, device: torch.device) -> FlexMask:
        """Return the mask of packed prompts; the rule is that of :meth:`~illmrec.prompts.packing.Packed.mask`.

        Args:
            packed: The prompts.
            device: Where attention runs.
        """
        prefix, n = len(packed.prefix), packed.tokens
        user = np.repeat(np.arange(len(packed.lengths)), packed.lengths)
        local = np.arange(n) - np.repeat(np.cumsum(packed.lengths) - packed.lengths, packed.lengths)
        users, branch, visible, place = (
            torch.from_numpy(np.ascontiguousarray(values)).to(device)
            for values in (user, packed.branch, packed.visible, local)
        )

        def may_see(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            own = torch.clamp(key - prefix, min=0)
            trunk = (branch[own] == 0) & (place[own] < visible[query])
            same_branch = (branch[query] > 0) & (branch[own] == branch[query]) & (place[own] <= place[query])
            return (key < prefix) | ((users[own] == users[query]) & (trunk | same_branch))

        return cls(blocks=create_block_mask(may_see, None, None, n, prefix + n, device=device))


@cache
def _compiled() -> Callable[..., Any]:
    """Return flex_attention as a fused kernel; not compiled, it would hold all scores."""
    compiled: Callable[..., Any] = torch.compile(flex_attention, dynamic=True)
    return compiled


def attend_flex(query: Tensor, key: Tensor, value: Tensor, mask: FlexMask, scale: float) -> Tensor:
    """Attend by a block mask: [1, heads, N, head width] in and out, keys of fewer heads are shared."""
    kernel: Any = _compiled() if query.device.type == "cuda" else flex_attention
    shared = key.shape[1] != query.shape[1]
    attended: Tensor = kernel(query, key, value, block_mask=mask.blocks, scale=scale, enable_gqa=shared)
    return attended
