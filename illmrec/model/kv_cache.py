"""Keys and values of what an LLM has read, kept so that it can read on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

ROOM = 64
"""Tokens by which a cache grows at least, so that not every token moves what is there."""

KeysAndValues = dict[int, tuple[Tensor, Tensor]]
"""Per block, keys and values of some tokens, each [1, key heads, tokens, head width]."""


class KVCache:
    """Keys and values of a prompt's tokens in every block, with room for those that follow.

    A token takes ``2 * key heads * head width`` numbers a block: 23,040 bytes for SmolLM2-135M (30 blocks, 3 key heads
    of 64, bfloat16).

    Args:
        parts: What the prompt begins with, in its order, each per block ``(keys, values)`` of [1, key heads, tokens,
            head width].

    Attributes:
        length: Tokens that are kept. What :meth:`put` wrote beyond them is overwritten by what follows.
    """

    def __init__(self, *parts: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        self.length = 0
        self._blocks: KeysAndValues = {}
        for part in parts:
            for block, (keys, values) in part.items():
                self.put(block, keys, values)
            self.length += next(iter(part.values()))[0].shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes that are held, room for further tokens included."""
        return sum(kept.numel() * kept.element_size() for pair in self._blocks.values() for kept in pair)

    def put(self, block: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write keys and values of further tokens after those that are kept, and return all, as views.

        Args:
            block: Number of the block.
            keys: [1, key heads, tokens, head width].
            values: Likewise.

        Returns:
            Two of [1, key heads, length + tokens, head width].
        """
        end = self.length + keys.shape[2]
        held = self._blocks.get(block)
        if held is None or held[0].shape[2] < end:
            room = end + max(ROOM, end // 8)
            held = (
                _roomy(keys, held and held[0], self.length, room),
                _roomy(values, held and held[1], self.length, room),
            )
            self._blocks[block] = held
        found = []
        for kept, new in zip(held, (keys, values), strict=True):
            kept[:, :, self.length : end] = new
            found.append(kept[:, :, :end])
        return found[0], found[1]

    def keep(self, tokens: int) -> None:
        """Count the first so many of the tokens that were put last as kept."""
        self.length += tokens


def _roomy(like: Tensor, held: Tensor | None, length: int, room: int) -> Tensor:
    """Return [1, key heads, room, head width] that begins with what is held."""
    made = torch.empty((*like.shape[:2], room, like.shape[3]), dtype=like.dtype, device=like.device)
    if held is not None:
        made[:, :, :length] = held[:, :, :length]
    return made
