"""Prompts one by one, as the LLM's own code runs them: each branch with its trunk, without cache, padding or masks.

The slowest way, since a trunk is run again for each of its branches, and right for every LLM that takes embeddings,
layers that carry a state and distances that are counted along the row included.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from illmrec.model.backbone import Backbone
from illmrec.prompts.packing import Packed

BATCH_TOKENS = 4096
"""Tokens of prompts of one length that go together."""


def separate_prompts(packed: Packed, positions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the prompts in which positions of a packed row are read.

    Args:
        packed: The prompts.
        positions: Int64 [n], positions in the row.

    Yields:
        Int64 [length], where in the row the prompt's tokens after the prefix stand; and int [read], which of
        ``positions`` are read in it. A branch's prompt is the trunk up to where it hangs, and the branch.
    """
    user = np.repeat(np.arange(len(packed.lengths)), packed.lengths)
    start = np.cumsum(packed.lengths) - packed.lengths
    owner, branch = user[positions], packed.branch[positions]
    for u, b in sorted(set(zip(owner.tolist(), branch.tolist(), strict=True))):
        own = np.flatnonzero((user == u) & (packed.branch == b))
        if b:
            own = np.concatenate([start[u] + np.arange(packed.visible[own[0]]), own])
        yield own, np.flatnonzero((owner == u) & (branch == b))


def separate_states(
    backbone: Backbone, packed: Packed, inputs: Tensor, positions: np.ndarray, *, attention: str
) -> Tensor:
    """Return final hidden states at some positions, [n, width] in the LLM's dtype.

    Prompts of one length share a pass; no other prompt is in it, so that nothing has to be padded.

    Args:
        backbone: The LLM.
        packed: The prompts.
        inputs: [N, width], their embeddings.
        positions: Int64 [n], positions in the row, each once.
        attention: transformers' implementation.
    """
    device, prefix = inputs.device, len(packed.prefix)
    first = backbone.embeddings(torch.from_numpy(packed.prefix).to(device))
    by_length: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for prompt in separate_prompts(packed, positions):
        by_length.setdefault(len(prompt[0]), []).append(prompt)
    backbone.attend_by(attention)
    states, order = [], []
    for length, prompts in sorted(by_length.items()):
        size = max(1, BATCH_TOKENS // (prefix + length))
        for begin in range(0, len(prompts), size):
            batch = prompts[begin : begin + size]
            rows = torch.from_numpy(np.stack([own for own, _ in batch])).to(device)
            whole = torch.cat([first.expand(len(batch), -1, -1), inputs[rows]], dim=1)
            forget_stretching(backbone.model)
            final = backbone.trunk(inputs_embeds=whole, use_cache=False)[0]
            for row, (own, read) in enumerate(batch):
                at = prefix + np.searchsorted(own, positions[read])
                states.append(final[row, torch.from_numpy(at).to(device)])
                order.append(read)
    back = np.argsort(np.concatenate(order)) if order else np.zeros(0, dtype=np.int64)
    if not states:
        return inputs[:0]
    return torch.cat(states)[torch.from_numpy(back).to(device)]


def longest_unstretched(model: Any) -> int | None:
    """Return up to how many positions rotary frequencies do not depend on the prompt's length, ``None`` for any.

    Dynamic NTK scaling and LongRoPE change them for all tokens of a pass once its longest prompt is longer.
    """
    limits = []
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        for layer, kind in (kinds if isinstance(kinds, dict) else {None: kinds}).items():
            if kind == "longrope":
                parameters = module.config.rope_parameters
                own = parameters if layer is None else parameters[layer]
                limits.append(int(own["original_max_position_embeddings"]))
            elif isinstance(kind, str) and "dynamic" in kind:
                limits.append(int(module.original_max_seq_len))
    return min(limits, default=None)


def forget_stretching(model: Any) -> None:
    """Undo what a longer prompt left in dynamic NTK scaling: frequencies must be those of the prompt at hand."""
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        for layer, kind in (kinds if isinstance(kinds, dict) else {None: kinds}).items():
            if not isinstance(kind, str) or "dynamic" not in kind:
                continue
            name = "" if layer is None else f"{layer}_"
            frequencies = getattr(module, f"{name}original_inv_freq").to(
                getattr(module, f"{name}inv_freq").device
            )
            module.register_buffer(f"{name}inv_freq", frequencies, persistent=False)
            setattr(module, f"{name}max_seq_len_cached", module.original_max_seq_len)
