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

from illmrec.prompts.packing import Packed

_BLOCK = 128


@dataclass(frozen=True, kw_only=True)
class FlexMask:
    """What each token of a row may see, as a block mask over queries and keys, those of the prefix first."""

    blocks: BlockMask

    @classmethod
    def of(
        cls,
        packed: Packed,
        *,
        window: int | None = None,
        device: torch.device,
        branches_alone: bool = False,
    ) -> FlexMask:
        """Return the mask of packed prompts; the rule is that of :meth:`~illmrec.prompts.packing.Packed.mask`.

        Args:
            packed: The prompts.
            window: A token sees so many positions, its own the last of them; ``None`` is no limit.
            device: Where attention runs.
            branches_alone: Only tokens of branches ask; keys are the prefix, all trunks, then all branches.
        """
        prefix = len(packed.prefix)
        in_trunk = packed.branch == 0
        tokens = np.arange(packed.tokens)
        order = np.concatenate([tokens[in_trunk], tokens[~in_trunk]]) if branches_alone else tokens
        behind = int(in_trunk.sum()) if branches_alone else 0
        user = np.repeat(np.arange(len(packed.lengths)), packed.lengths)
        local = np.arange(packed.tokens) - np.repeat(
            np.cumsum(packed.lengths) - packed.lengths, packed.lengths
        )
        users, branch, visible, place, position = (
            torch.from_numpy(np.ascontiguousarray(values[order])).to(device)
            for values in (user, packed.branch, packed.visible, local, packed.position_ids)
        )

        def may_see(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            own, asks = torch.clamp(key - prefix, min=0), query + behind
            trunk = (branch[own] == 0) & (place[own] < visible[asks])
            same_branch = (branch[asks] > 0) & (branch[own] == branch[asks]) & (place[own] <= place[asks])
            seen = (key < prefix) | ((users[own] == users[asks]) & (trunk | same_branch))
            if window is None:
                return seen
            key_position = torch.where(key < prefix, key, position[own])
            return seen & (position[asks] - key_position < window)

        parts = [user[order[:behind]], user[order[behind:]]]
        count, index = (torch.from_numpy(part).to(device) for part in _kv_blocks(prefix, *parts))
        return cls(
            blocks=BlockMask.from_kv_blocks(
                count,
                index,
                BLOCK_SIZE=_BLOCK,
                mask_mod=may_see,
                seq_lengths=(len(order) - behind, prefix + len(order)),
            )
        )


def _kv_blocks(prefix: int, known: np.ndarray, asking: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which blocks of keys each block of queries may see any of: a bound that the mask itself narrows.

    Those of the prefix, of the known tokens of its users, and from the beginning of the first query's user to the last
    query: nobody sees what comes later in the row. Read off the users, in N / 128 steps; asking the rule for all pairs
    takes N x (P + N).

    Args:
        prefix: Keys of the prefix.
        known: Int64 [known tokens], whose each is, ascending.
        asking: Int64 [queries], likewise; they are keys as well.

    Returns:
        int32 [1, 1, blocks of queries], how many; int32 [1, 1, blocks of queries, blocks of keys], their numbers first.
    """
    first_query = np.arange(0, len(asking), _BLOCK)
    last_query = np.minimum(first_query + _BLOCK, len(asking)) - 1
    first_user, last_user = asking[first_query], asking[last_query]
    own = prefix + len(known)
    ranges = [
        (np.zeros_like(first_query), np.full_like(first_query, prefix)),
        (
            prefix + np.searchsorted(known, first_user),
            prefix + np.searchsorted(known, last_user, side="right"),
        ),
        (own + np.searchsorted(asking, first_user), own + last_query + 1),
    ]
    keys = np.arange(-(-(own + len(asking)) // _BLOCK))
    seen = np.zeros((len(first_query), len(keys)), dtype=bool)
    for start, end in ranges:
        # An empty range has no last key.
        last = np.where(end > start, (end - 1) // _BLOCK, -1)
        seen |= (keys >= (start // _BLOCK)[:, None]) & (keys <= last[:, None])
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
