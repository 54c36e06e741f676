"""What a pass of the engine costs: FLOPs by the LLM's own operations, bytes from its shapes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from illmrec.model.backbone import Backbone
from illmrec.model.trunks import branches_alone, trunks_alone
from illmrec.prompts.packing import Packed

logger = logging.getLogger(__name__)

_UNCOUNTED = "illmrec_uncounted"
_LENGTHS = (2, 4, 6, 8)
"""Tokens of the passes that are counted: three say how FLOPs grow with a length, the fourth whether they do so."""
_REST, _USUAL = 0.0025, 256
"""FLOPs of no token or pair (the edge of a convolution) may be so large a share of those of a usual prompt's tokens."""


@dataclass(frozen=True, kw_only=True)
class PassFlops:
    """FLOPs of an LLM's forward pass without its head (multiply and add count as two), by what they grow with.

    Attributes:
        token: Of a token, attention to other tokens left out: of experts those that run, nothing that is looked up.
        last_block: The last block's share of ``token``.
        last_mlp: The share of its MLP, zero where the model's code has no part of that name.
        pairs: For each call of attention, FLOPs of a (query, key) pair, and how many tokens a query sees at most.
        by_block: Whether those calls are the blocks', the last one's the last.
        head: Of the LM head for one state.
    """

    token: float
    last_block: float
    last_mlp: float
    pairs: tuple[tuple[float, int | None], ...]
    by_block: bool
    head: float


def forward_flops(backbone: Backbone, *rows: Packed) -> float | None:
    """Return the FLOPs that one forward pass over each row of prompts needs (multiply and add count as two).

    Counted: matrix products of the blocks for every token, the last block's MLP only where its output is read, and
    queries against keys and weights against values for every pair that may attend, in the last block of the queries
    whose states are read. Neither the prefix, which is run
    once, nor the LM head, which retrieval never touches, is counted.

    Returns:
        ``None`` where it cannot be known; the log says why, once.
    """
    flops = pass_flops(backbone)
    if flops is None:
        return None
    return sum(_linear(flops, packed) + _attention(flops, packed) for packed in rows)


def training_flops(
    backbone: Backbone, packed: Packed, *, checkpointing: bool = False, read: np.ndarray | None = None
) -> float | None:
    """Return the FLOPs of one training pass through a frozen LLM: forward, backward to its inputs, head at answers.

    A frozen matrix is multiplied once in each direction. Attention's backward pass has four products for the two of
    its forward pass: the gradients of values, weights, queries and keys. The head's two products give the logits of
    answer tokens and the gradient of the states that predict them.

    Args:
        backbone: The frozen LLM.
        packed: The prompts.
        checkpointing: Whether all blocks but the last run forward a second time, each as a whole: a bound from above,
            since PyTorch leaves out what comes after the last tensor that is needed.
        read: Where nothing learns in trunks (:mod:`illmrec.model.trunks`): int64 [users], those whose trunks are read,
            forward alone; those of all others are known. ``None``: gradients go through all.

    Returns:
        ``None`` where it cannot be known; the log says why, once.
    """
    flops = pass_flops(backbone)
    if flops is None:
        return None
    total = 0.0
    if read is not None:
        once, packed = trunks_alone(packed, read), branches_alone(packed)
        total = _linear(flops, once) + _attention(flops, once)
    total += 2 * _linear(flops, packed) + 3 * _attention(flops, packed)
    total += 2 * flops.head * len(packed.answer_positions)
    if checkpointing:
        total += (flops.token - flops.last_block) * packed.tokens + _attention(flops, packed, but_last=True)
    return total


def _linear(flops: PassFlops, packed: Packed) -> float:
    read = len(packed.read_positions)
    return flops.token * packed.tokens - flops.last_mlp * (packed.tokens - read)


def _attention(flops: PassFlops, packed: Packed, *, but_last: bool = False) -> float:
    calls, last = (flops.pairs[:-1], flops.pairs[-1:]) if flops.by_block else (flops.pairs, ())
    windows = {window: packed.attended_pairs(window) for _, window in calls}
    total = sum(pair * windows[window] for pair, window in calls)
    if not but_last:
        total += sum(pair * packed.attended_pairs(window, read=True) for pair, window in last)
    return total


_COUNTED: WeakKeyDictionary[nn.Module, PassFlops | None] = WeakKeyDictionary()


def pass_flops(backbone: Backbone) -> PassFlops | None:
    """Count the LLM's FLOPs in four passes over a few tokens, once for each LLM that is loaded.

    PyTorch counts what the model's code multiplies, so that experts which do not run, tables that are looked up and
    matrices of any shape count as what they cost. Attention is replaced by nothing for the while, and noted.

    Returns:
        ``None`` where FLOPs are not so many for each token and each pair of tokens.
    """
    if backbone.model not in _COUNTED:
        counted = _count(backbone)
        if counted is None:
            logger.warning(
                "%s: FLOPs and utilisation are not reported: its operations are not so many for each token and for"
                " each pair of tokens",
                backbone.name,
            )
        _COUNTED[backbone.model] = counted
    return _COUNTED[backbone.model]


def _count(backbone: Backbone) -> PassFlops | None:
    head = sum(parameter.numel() for parameter in backbone.head.parameters() if parameter.ndim == 2)
    if not backbone.layers:
        return PassFlops(token=0.0, last_block=0.0, last_mlp=0.0, pairs=(), by_block=False, head=2.0 * head)
    calls: list[tuple[float, int | None]] = []
    replaceable = bool(getattr(backbone.model, "_supports_attention_backend", False))
    totals, blocks, mlps = [], [], []
    with _counting(backbone, replaceable):
        for length in _LENGTHS:
            calls.clear()
            counter = FlopCounterMode(display=False)
            with (
                counter,
                _share(backbone.blocks[-1], counter) as block,
                _share(backbone.last_mlp, counter) as mlp,
            ):
                _run(backbone, length, calls if replaceable else None)
            totals.append(counter.get_total_flops())
            blocks.append(sum(block))
            mlps.append(sum(mlp))
    fitted = [_fit(values) for values in (totals, blocks, mlps)]
    if None in fitted:
        return None
    (token, pair), (last_block, _), (last_mlp, _) = (found for found in fitted if found is not None)
    pairs = [*calls, *([(pair, None)] if pair else [])]
    by_block = bool(calls) and not pair
    return PassFlops(
        token=token,
        last_block=last_block,
        last_mlp=last_mlp,
        pairs=tuple(pairs),
        by_block=by_block,
        head=2.0 * head,
    )


def _fit(totals: list[int]) -> tuple[float, float] | None:
    """Return FLOPs of a token and of a pair of tokens, or ``None`` where the totals are not made of them."""
    one, two, three, four = totals
    step = _LENGTHS[0]
    second = two + two - one - three
    pair = -second / (2 * step**2)
    token = (two - one) / step - 3 * step * pair
    rest = one - token * step - pair * step**2
    if four - three != two - one - 2 * second or abs(rest) > _REST * max(1.0, token * _USUAL):
        return None
    return token, pair


def _run(backbone: Backbone, length: int, calls: list[tuple[float, int | None]] | None) -> None:
    """Run a few tokens; where ``calls`` is given, put what each call of attention would cost there."""
    ids = torch.arange(length, device=backbone.device) % backbone.embeddings.weight.shape[0]
    noted: dict[str, Any] = {} if calls is None else {"attention_calls": calls}
    backbone.trunk(
        inputs_embeds=backbone.embeddings(ids)[None],
        position_ids=torch.arange(length, device=backbone.device)[None],
        use_cache=False,
        **noted,
    )


@contextmanager
def _counting(backbone: Backbone, replaceable: bool) -> Iterator[None]:
    """Have the model run in plain operations that the counter sees: experts one by one, nothing compiled."""
    model = backbone.model
    experts = getattr(model.config, "_experts_implementation", None)
    attention = model.config._attn_implementation
    transformers.AttentionInterface.register(_UNCOUNTED, _attend_uncounted)
    model.set_attn_implementation(_UNCOUNTED if replaceable else "eager")
    if experts is not None:
        model.set_experts_implementation("eager")
    compiled = torch.compiler.set_stance("force_eager") if backbone.compiled else nullcontext()
    try:
        with torch.no_grad(), compiled:
            yield
    finally:
        model.set_attn_implementation(attention)
        if experts is not None:
            model.set_experts_implementation(experts)


@contextmanager
def _share(module: nn.Module | None, counter: FlopCounterMode) -> Iterator[list[int]]:
    """Collect the FLOPs of each call of a module."""
    found: list[int] = []
    if module is None:
        yield found
        return
    handles = [
        module.register_forward_pre_hook(lambda *_: found.append(-counter.get_total_flops())),
        module.register_forward_hook(lambda *_: found.append(counter.get_total_flops())),
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _attend_uncounted(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    attention_calls: list[tuple[float, int | None]] | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Note what attention would cost a pair: a product of query and key, and one of weight and value, each head."""
    if attention_calls is None:
        raise RuntimeError("the model's code does not hand arguments on to its attention")
    heads = query.shape[1]
    attention_calls.append((2.0 * heads * (query.shape[3] + value.shape[3]), sliding_window))
    return value.new_zeros(value.shape[0], query.shape[2], heads, value.shape[3]), None


def training_memory(backbone: Backbone, packed: Packed) -> int:
    """Return the bytes that a pass keeps for its backward pass through a frozen LLM, attention by matrix products.

    For each token and block: the inputs of two norms in float32, queries, keys and values as attention reads them, and
    three vectors of the MLP (gate, its activation, up), ``8 w + e (w + 2 k + 3 m)`` bytes for width w, key width k,
    MLP width m and e bytes a number; and ``e`` for each attention head and scored pair. A frozen linear layer keeps
    nothing, since the gradient of its input needs its weights alone. The whole peak adds the weights, the logits of one
    chunk of answers, and what a block holds for a moment.

    Where attention does not go by matrix products (on CUDA, without gradients, above
    :data:`~illmrec.model.attention.DENSE_PAIRS`), the scores are not kept and this is an upper bound.
    """
    config = backbone.model.config.get_text_config()
    size = backbone.dtype.itemsize
    heads = config.num_attention_heads
    head_width = getattr(config, "head_dim", None) or config.hidden_size // heads
    prefix, width = len(packed.prefix), config.hidden_size
    lengths, trunks = packed.lengths, packed.trunk_lengths
    pairs = int((trunks * (prefix + trunks) + (lengths - trunks) * (prefix + lengths)).sum())
    keys = (packed.tokens + prefix * len(lengths)) * head_width * heads // backbone.heads_per_key
    norms, queries = 8 * width, size * heads * head_width
    block = packed.tokens * (norms + queries) + 2 * size * keys + size * heads * pairs
    # In the last block none but the tokens that are read attend.
    positions = packed.read_positions
    read, user = len(positions), np.searchsorted(np.cumsum(lengths), positions, side="right")
    last = packed.tokens * norms + read * queries + 2 * size * keys
    last += size * heads * int((prefix + lengths[user]).sum())
    mlp = 3 * size * config.intermediate_size
    last_norm = 4 * width * packed.tokens
    whole = backbone.layers - 1
    return whole * block + last + mlp * (whole * packed.tokens + read) + last_norm
