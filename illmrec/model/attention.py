"""Attention over packed prompts: user by user, so that no user can see another and nothing is spent on padding.

Models of transformers call it in place of their own. A trunk sees the common prefix and, causally, itself; branches see
the prefix, their part of the trunk and themselves, by a mask. A block may add a sliding window, a soft-cap of its
scores and sinks. On CUDA, one call of flex_attention over the whole row does the same (:mod:`illmrec.model.flex`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from illmrec.model.flex import FlexMask, attend_flex
from illmrec.model.kv_cache import KeysAndValues, KVCache
from illmrec.prompts.packing import Packed

PACKED_ATTENTION = "illmrec_packed"

DENSE_PAIRS = 512 * 512
"""On the CPU, attention goes by plain matrix products up to so many pairs: there the fused kernel took a third longer
forward and two to three times as long backward (bfloat16, 60 to 430 keys). Beyond, scores take too much memory."""

_WITHOUT_EFFECT = {
    "cache_position",
    "is_causal",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "position_ids",
    "return_dict",
}
"""Keywords that models hand on to attention and that change nothing here: causality and positions are the layout's."""


@dataclass(kw_only=True)
class Layout:
    """Where each user's tokens are and what they may see.

    Attributes:
        lengths: Per user, tokens of the prompt.
        trunks: Per user, how many of them, from the first, see all tokens up to themselves.
        packed: The prompts; ``None`` where the row is the prefix.
        prefix: Keys and values of the prefix that all users see; empty where the row is the prefix.
        kept: Where not ``None``, the keys and values of the row are put here.
        caches: Per user, what stands before the user's tokens in place of the prefix; those of the row are put there.
        known: Per user, keys and values of a trunk that is not in the row, where branches are alone.
        flex: Attend in one call of flex_attention.
        longest: Positions of the longest prompt: a window of as many or more hides nothing.
        last: Number of the last block, after which nothing attends.
        read: Per user, the tokens whose states are read after it; ``None`` where all may be. In the last block no
            other token's attention is computed: it gives zeros.
    """

    lengths: list[int]
    trunks: list[int]
    packed: Packed | None = None
    prefix: KeysAndValues = field(default_factory=dict)
    kept: KeysAndValues | None = None
    caches: Sequence[KVCache] | None = None
    known: Sequence[KeysAndValues] | None = None
    flex: bool = False
    longest: int
    last: int = -1
    read: list[np.ndarray] | None = None
    _masks: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def trunk_mask(self, queries: int, keys: int, groups: int, window: int | None, like: Tensor) -> Tensor:
        """Return [groups * queries, keys], what is added for causal attention to the last keys.

        Made once per shape, not in every block.
        """
        at = (queries, keys, groups, window, like.dtype)
        if at not in self._masks:
            self._masks[at] = _causal_mask(queries, keys, window, like).repeat(groups, 1)
        mask: Tensor = self._masks[at]
        return mask

    def branch_mask(self, user: int, groups: int, window: int | None, like: Tensor) -> Tensor:
        """Return [groups * (length - trunk), P + length], what is added to the scores of a user's branches.

        Once for each query head of a group that shares keys. Made once, not in every block.
        """
        at = ("branches", user, groups, window, like.dtype)
        if at not in self._masks:
            visible = self._packed.mask(user, prefix=True, window=window)[self.trunks[user] :]
            self._masks[at] = _additive(visible, like).repeat(groups, 1)
        mask: Tensor = self._masks[at]
        return mask

    def read_mask(self, user: int, groups: int, window: int | None, like: Tensor) -> Tensor:
        """Return [groups * read, P + length], the same of the tokens of a user that are read."""
        rows = np.zeros(0, dtype=np.int64) if self.read is None else self.read[user]
        visible = self._packed.mask(user, prefix=True, window=window)[rows]
        return _additive(visible, like).repeat(groups, 1)

    @property
    def _packed(self) -> Packed:
        if self.packed is None:
            raise RuntimeError("the prefix has no users")
        return self.packed

    def flex_mask(self, window: int | None, device: torch.device) -> FlexMask:
        """Return the mask of the whole row for flex_attention."""
        if ("flex", window) not in self._masks:
            self._masks["flex", window] = FlexMask.of(self._packed, window=window, device=device)
        mask: FlexMask = self._masks["flex", window]
        return mask


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What a block does with the scores of queries against keys.

    Attributes:
        scale: They are multiplied by it.
        window: A token sees so many positions, its own the last of them; ``None`` is no limit.
        softcap: They are squashed to this size by tanh, before the mask.
        sinks: [heads], one more score for each query, of a key without a value.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None

    @property
    def plain(self) -> bool:
        """Whether the fused kernels can do it."""
        return self.softcap is None and self.sinks is None


def prefix_layout(tokens: int, kept: KeysAndValues) -> Layout:
    """Return the layout of a row that is the prefix alone; its keys and values are put into ``kept``."""
    return Layout(lengths=[tokens], trunks=[tokens], kept=kept, longest=tokens)


def packed_layout(
    packed: Packed, prefix: KeysAndValues, *, flex: bool, read: np.ndarray, last: int
) -> Layout:
    """Return the layout of packed prompts.

    Args:
        packed: The prompts.
        prefix: Keys and values of their prefix.
        flex: Attend in one call of flex_attention.
        read: Int64 [n], positions in the row whose states are read.
        last: Number of the last block.
    """
    lengths = packed.lengths.tolist()
    ends = np.cumsum(packed.lengths)
    ordered = np.sort(read)
    starts = np.searchsorted(ordered, ends - packed.lengths)
    per_user = np.split(ordered, starts[1:])
    return Layout(
        lengths=lengths,
        trunks=lengths if packed.straight else packed.trunk_lengths.tolist(),
        packed=packed,
        prefix=prefix,
        flex=flex,
        longest=packed.longest,
        last=last,
        read=[rows - start for rows, start in zip(per_user, ends - packed.lengths, strict=True)],
    )


def branches_layout(packed: Packed, prefix: KeysAndValues, known: Sequence[KeysAndValues]) -> Layout:
    """Return the layout of a row of all branches of packed prompts, behind trunks that are known.

    Args:
        packed: The prompts, their trunks included.
        prefix: Keys and values of their prefix.
        known: Per user, keys and values of the trunk.
    """
    trunks = packed.trunk_lengths
    return Layout(
        lengths=(packed.lengths - trunks).tolist(),
        trunks=trunks.tolist(),
        packed=packed,
        prefix=prefix,
        known=known,
        longest=packed.longest,
    )


def continued_layout(packed: Packed, caches: Sequence[KVCache]) -> Layout:
    """Return the layout of rows that go on from what was read before, each token seeing all before it.

    Args:
        packed: The rows, without branches but one at the end of each.
        caches: Per user, what was read before, the prefix included.
    """
    lengths = packed.lengths.tolist()
    return Layout(lengths=lengths, trunks=lengths, caches=caches, longest=packed.longest)


def _additive(visible: np.ndarray, like: Tensor) -> Tensor:
    """Return a mask as what attention adds, in its dtype: made once, where every layer would convert a boolean."""
    mask = torch.from_numpy(visible).to(like.device)
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill_(~mask, -torch.inf)


def _causal_mask(queries: int, keys: int, window: int | None, like: Tensor) -> Tensor:
    """Return [queries, keys], what hides from the last queries the keys after them and those before their window."""
    hidden = torch.full((queries, keys), -torch.inf, dtype=like.dtype, device=like.device)
    mask = hidden.triu(1 + keys - queries)
    return mask if window is None else mask + hidden.tril(keys - queries - window)


def attend_packed(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    layout: Layout | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention for transformers' registry: [1, heads, N, head width] in, [1, N, heads, value width] out.

    Raises:
        RuntimeError: If it is called with a mask, or with a keyword that would be lost here.
    """
    if layout is None:
        raise RuntimeError("packed attention was called outside the engine")
    _nothing_lost(attention_mask, others)
    block = int(module.layer_idx)  # type: ignore[arg-type]
    if layout.kept is not None:
        layout.kept[block] = (key, value)
    prefix = layout.prefix.get(block)
    scoring = Scoring(
        scale=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        window=sliding_window if sliding_window is not None and sliding_window < layout.longest else None,
        softcap=softcap,
        sinks=s_aux,
    )
    if layout.flex:
        if prefix is not None:
            key, value = torch.cat([prefix[0], key], dim=2), torch.cat([prefix[1], value], dim=2)
        mask = layout.flex_mask(scoring.window, query.device)
        attended = attend_flex(query, key, value, mask, scoring.scale, softcap=softcap, sinks=s_aux)
        return attended.transpose(1, 2).contiguous(), None
    groups = query.shape[1] // key.shape[1]
    outputs = []
    for user, (q, k, v, trunk) in enumerate(
        zip(
            query.split(layout.lengths, dim=2),
            key.split(layout.lengths, dim=2),
            value.split(layout.lengths, dim=2),
            layout.trunks,
            strict=True,
        )
    ):
        if layout.caches is not None:
            k, v = layout.caches[user].put(block, k, v)
            outputs.append(_attend_behind(q, k, v, scoring, layout))
            continue
        before = [] if prefix is None else [prefix]
        if layout.known is not None:
            before.append(layout.known[user][block])
        if before:
            k = torch.cat([*(pair[0] for pair in before), k], dim=2)
            v = torch.cat([*(pair[1] for pair in before), v], dim=2)
        if layout.known is not None:
            outputs.append(
                _attend_masked(q, k, v, layout.branch_mask(user, groups, scoring.window, q), scoring)
            )
            continue
        if block == layout.last and layout.read is not None:
            outputs.append(_attend_where_read(q, k, v, scoring, layout, user))
            continue
        end = k.shape[2] - q.shape[2] + trunk
        outputs.append(_attend_causally(q[:, :, :trunk], k[:, :, :end], v[:, :, :end], scoring, layout))
        if trunk < q.shape[2]:
            added = layout.branch_mask(user, groups, scoring.window, q)
            outputs.append(_attend_masked(q[:, :, trunk:], k, v, added, scoring))
    # Models that ask for a view of it would fail otherwise; the others would copy it in their next step.
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _nothing_lost(attention_mask: Tensor | None, others: Mapping[str, Any]) -> None:
    if attention_mask is not None:
        raise RuntimeError("the model makes masks of its own")
    for name, value in others.items():
        if (
            name not in _WITHOUT_EFFECT
            and value is not None
            and not (isinstance(value, bool | int | float) and value == 0)
        ):
            raise RuntimeError(f"attention is called with {name}")


def _dense(query: Tensor, keys: int) -> bool:
    return query.device.type == "cpu" and query.shape[2] * keys <= DENSE_PAIRS


def _attend_causally(query: Tensor, key: Tensor, value: Tensor, scoring: Scoring, layout: Layout) -> Tensor:
    """Attend causally to the last keys: [1, heads, queries, head width] in and out."""
    queries, keys = query.shape[2], key.shape[2]
    groups = query.shape[1] // key.shape[1]
    if _dense(query, keys):
        added = layout.trunk_mask(queries, keys, groups, scoring.window, query)
        return _by_products(query, key, value, added, scoring)
    if scoring.plain and scoring.window is None:
        key, value = _for_each_head(key, groups), _for_each_head(value, groups)
        # The kernels' own causal mask is for as many queries as keys: queries of zeros stand for the prefix.
        padded = functional.pad(query, (0, 0, keys - queries, 0))
        attended = functional.scaled_dot_product_attention(
            padded, key, value, is_causal=True, scale=scoring.scale
        )
        return attended[:, :, keys - queries :]
    # A stretch of queries at a time, against the keys that it can see.
    attended_parts = []
    for start in range(0, queries, _STRETCH):
        part = query[:, :, start : start + _STRETCH]
        end = keys - queries + start + part.shape[2]
        begin = 0 if scoring.window is None else max(0, end - part.shape[2] + 1 - scoring.window)
        added = _causal_mask(part.shape[2], end - begin, scoring.window, query).repeat(groups, 1)
        attended_parts.append(
            _by_products(part, key[:, :, begin:end], value[:, :, begin:end], added, scoring)
        )
    return torch.cat(attended_parts, dim=2)


def _attend_behind(query: Tensor, key: Tensor, value: Tensor, scoring: Scoring, layout: Layout) -> Tensor:
    """Attend causally from a few queries to many keys before them: [1, heads, queries, head width] in and out.

    Query heads that share keys stand below each other as more queries of one head. By the fused kernel that took two
    fifths of the time of plain products on the CPU (bfloat16, 75 queries and 1,370 keys).
    """
    if not scoring.plain:
        return _attend_causally(query, key, value, scoring, layout)
    heads, queries, width = query.shape[1:]
    shared = key.shape[1]
    groups = heads // shared
    added = layout.trunk_mask(queries, key.shape[2], groups, scoring.window, query)
    attended = functional.scaled_dot_product_attention(
        query.reshape(1, shared, groups * queries, width), key, value, attn_mask=added, scale=scoring.scale
    )
    return attended.view(1, heads, queries, value.shape[-1])


_STRETCH = 256
"""Queries that are scored at a time where no fused kernel does what a block asks for."""


def _attend_masked(query: Tensor, key: Tensor, value: Tensor, added: Tensor, scoring: Scoring) -> Tensor:
    """Attend by a mask [groups * queries, keys] that is added: [1, heads, queries, head width] in and out."""
    queries, keys = query.shape[2], key.shape[2]
    groups = query.shape[1] // key.shape[1]
    if _dense(query, keys):
        return _by_products(query, key, value, added, scoring)
    if scoring.plain:
        return functional.scaled_dot_product_attention(
            query,
            _for_each_head(key, groups),
            _for_each_head(value, groups),
            attn_mask=added[:queries],
            scale=scoring.scale,
        )
    parts = zip(query.split(_STRETCH, dim=2), added[:queries].split(_STRETCH), strict=True)
    return torch.cat(
        [_by_products(part, key, value, mask.repeat(groups, 1), scoring) for part, mask in parts], dim=2
    )


def _attend_where_read(
    query: Tensor, key: Tensor, value: Tensor, scoring: Scoring, layout: Layout, user: int
) -> Tensor:
    """Attend from the tokens of a user that are read; the others get zeros."""
    rows = torch.from_numpy(layout.read[user] if layout.read else np.zeros(0, np.int64)).to(query.device)
    nothing = query.new_zeros(*query.shape[:3], value.shape[-1])
    if not len(rows):
        return nothing
    added = layout.read_mask(user, query.shape[1] // key.shape[1], scoring.window, query)
    return nothing.index_copy(2, rows, _attend_masked(query[:, :, rows], key, value, added, scoring))


def _for_each_head(values: Tensor, groups: int) -> Tensor:
    return values.repeat_interleave(groups, dim=1) if groups > 1 else values


def _by_products(query: Tensor, key: Tensor, value: Tensor, added: Tensor, scoring: Scoring) -> Tensor:
    """Attend by plain matrix products.

    Query heads that share keys stand below each other, so that keys are not copied for each of them.
    """
    heads, queries, width = query.shape[1:]
    shared = key.shape[1]
    q, k = query[0].reshape(shared, heads // shared * queries, width), key[0].transpose(1, 2)
    if scoring.softcap is None:
        scores = torch.baddbmm(added.expand(len(q), -1, -1), q, k, alpha=scoring.scale)
    else:
        scores = torch.tanh(torch.bmm(q, k) * (scoring.scale / scoring.softcap)) * scoring.softcap + added
    if scoring.sinks is None:
        weights = scores.softmax(-1)
    else:
        sinks = scoring.sinks.to(scores.dtype).repeat_interleave(queries).view(shared, -1, 1)
        weights = torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1]
    return torch.bmm(weights, value[0]).view(1, heads, queries, value.shape[-1])
