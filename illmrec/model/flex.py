"""Packed prompts in one call of flex_attention: a block mask skips what no token may see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from illmrec.prompts.packing import Packed, branch_starts

_BLOCK = 128


@dataclass(frozen=True, kw_only=True)
class FlexMask:
    """What each token of a row may see, as a block mask over [N, P + N] queries and keys."""

    blocks: BlockMask

    @classmethod
    def of(cls, packed: Packed, *, window: int | None = None, device: torch.device) -> FlexMask:
        """Return the mask of packed prompts; the rule is that of :meth:`~illmrec.prompts.packing.Packed.mask`.

        Args:
            packed: The prompts.
            window: A token sees so many positions, its own the last of them; ``None`` is no limit.
            device: Where attention runs.
        """
        prefix, n = len(packed.prefix), packed.tokens
        starts = np.repeat(np.cumsum(packed.lengths) - packed.lengths, packed.lengths)
        # What a token sees of its trunk, and of its branch, is a stretch of the row: nothing is looked up for a key.
        own_branch = np.where(packed.branch > 0, branch_starts(packed), n)
        trunk_start, trunk_end, branch_start, position = (
            torch.from_numpy(np.ascontiguousarray(values)).to(device)
            for values in (starts, starts + packed.visible, own_branch, packed.position_ids)
        )

        def may_see(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            own = key - prefix
            trunk = (own >= trunk_start[query]) & (own < trunk_end[query])
            seen = (own < 0) | trunk | ((own >= branch_start[query]) & (own <= query))
            if window is None:
                return seen
            key_position = torch.where(own < 0, key, position[torch.clamp(own, min=0)])
            return seen & (position[query] - key_position < window)

        count, index = (torch.from_numpy(part).to(device) for part in _kv_blocks(packed))
        return cls(
            blocks=BlockMask.from_kv_blocks(
                count, index, BLOCK_SIZE=_BLOCK, mask_mod=may_see, seq_lengths=(n, prefix + n)
            )
        )


def _kv_blocks(packed: Packed) -> tuple[np.ndarray, np.ndarray]:
    """Return which blocks of keys each block of queries may see any of: a bound that the mask itself narrows.

    Those of the prefix, and from the beginning of the first query's user to the last query: nobody sees what comes
    later in the row. Read off the lengths, in N / 128 steps; asking the rule for all pairs takes N x (P + N).

    Returns:
        int32 [1, 1, blocks of queries], how many; int32 [1, 1, blocks of queries, blocks of keys], their numbers first.
    """
    prefix, n = len(packed.prefix), packed.tokens
    ends = np.cumsum(packed.lengths)
    first_query = np.arange(0, n, _BLOCK)
    last_query = np.minimum(first_query + _BLOCK, n) - 1
    starts = (ends - packed.lengths)[np.searchsorted(ends, first_query, side="right")]
    keys = np.arange(-(-(prefix + n) // _BLOCK))
    own = (keys >= ((prefix + starts) // _BLOCK)[:, None]) & (
        keys <= ((prefix + last_query) // _BLOCK)[:, None]
    )
    seen = own | (keys * _BLOCK < prefix)
    index = np.argsort(~seen, axis=1, kind="stable").astype(np.int32)
    return seen.sum(axis=1, dtype=np.int32)[None, None], index[None, None]


@cache
def _compiled() -> Callable[..., Any]:
    """Return flex_attention as a fused kernel; not compiled, it would hold all scores."""
    compiled: Callable[..., Any] = torch.compile(flex_attention, dynamic=True)
    return compiled


@cache
def _squash(softcap: float) -> Callable[..., Tensor]:
    """Return the same function for the same cap, so that the kernel is compiled once."""

    def squashed(score: Tensor, batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return squashed


def attend_flex(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: FlexMask,
    scale: float,
    *,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attend by a block mask: [1, heads, N, head width] in and out, keys of fewer heads are shared.

    Args:
        query: Queries.
        key: Keys, those of the prefix first.
        value: Values.
        mask: Who may see whom.
        scale: Scores are multiplied by it.
        softcap: They are squashed to this size by tanh.
        sinks: [heads], one more score for each query, of a key without a value.
    """
    kernel: Any = _compiled() if query.device.type == "cuda" else flex_attention
    options: dict[str, Any] = {"enable_gqa": key.shape[1] != query.shape[1]}
    if softcap is not None:
        options["score_mod"] = _squash(softcap)
    if sinks is None:
        attended: Tensor = kernel(query, key, value, block_mask=mask.blocks, scale=scale, **options)
        return attended
    attended, more = kernel(
        query, key, value, block_mask=mask.blocks, scale=scale, return_aux=AuxRequest(lse=True), **options
    )
    # The sink takes its share of the softmax: exp(lse) of exp(lse) + exp(sink) is left.
    share = torch.sigmoid(more.lse - sinks.float()[None, :, None])
    return attended * share[..., None].to(attended.dtype)
