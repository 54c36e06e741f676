"""Keys and values of one user's trunk, kept between passes, so that a pass runs only what was added to it.

The trunk is causal: keys and values of its tokens depend on no later token, so those of a longer history begin with
those of a shorter one. A branch sees the trunk and is seen by nobody; its keys and values are written behind the trunk
for the time of a pass and overwritten by the next one.
"""

from __future__ import annotations

from torch import Tensor

from illmrec.model.attention import KeysAndValues

SPARE = 64
"""Tokens at least for which room is made at a time: a buffer that grew with every item would be copied as often."""


class TrunkCache:
    """Buffers of keys and values, a pair for each block, with room behind what is kept.

    Memory: ``2 * blocks * key heads * head width * bytes a number`` for each token there is room for, the prefix's
    included. SmolLM2-135M: 46,080 bytes in float32 and 23,040 in bfloat16.

    Args:
        prefix: Keys and values of the prompts' common prefix; they are copied.
        tokens: Its length.
        most: Tokens that there is ever need for, prefix and branches included: no more room is made than that.

    Attributes:
        tokens: Tokens that are kept, the prefix's included.
    """

    def __init__(self, prefix: KeysAndValues, *, tokens: int, most: int) -> None:
        self.tokens, self._most = tokens, most
        self._buffers = dict(prefix)

    @property
    def room(self) -> int:
        """Tokens that the buffers have room for."""
        return min((keys.shape[2] for keys, _ in self._buffers.values()), default=0)

    @property
    def bytes_a_token(self) -> int:
        """Bytes that one token takes in all blocks."""
        return bytes_a_token(self._buffers)

    def room_for(self, more: int) -> int:
        """Return the tokens that the buffers have room for once so many more are to be written."""
        needed = self.tokens + more
        return self.room if needed <= self.room else room_of(needed, most=self._most)

    def make_room(self, more: int) -> None:
        """Grow the buffers so that ``more`` tokens can be written behind those that are kept."""
        room = self.room_for(more)
        if room > self.room:
            for block, (
                keys,
                values,
            ) in self._buffers.items():  # block by block: the old buffer is free by then
                self._buffers[block] = (self._grown(keys, room), self._grown(values, room))

    def _grown(self, buffer: Tensor, room: int) -> Tensor:
        grown = buffer.new_empty(*buffer.shape[:2], room, buffer.shape[3])
        grown[:, :, : self.tokens] = buffer[:, :, : self.tokens]
        return grown

    def written(self, block: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write a block's keys and values behind those that are kept, and return all of them, without a copy.

        Args:
            block: Its number.
            keys: [1, key heads, new tokens, head width]; :meth:`make_room` was called for them.
            values: Likewise.
        """
        end = self.tokens + keys.shape[2]
        kept_keys, kept_values = self._buffers[block]
        kept_keys[:, :, self.tokens : end] = keys
        kept_values[:, :, self.tokens : end] = values
        return kept_keys[:, :, :end], kept_values[:, :, :end]

    def keep(self, tokens: int) -> None:
        """Keep the first of the tokens that were written last: those of the trunk, not those of branches."""
        self.tokens += tokens


def room_of(tokens: int, *, most: int) -> int:
    """Return the tokens that room is made for when so many are to be kept: a quarter more, at most ``most``."""
    return max(tokens, min(most, tokens + max(SPARE, tokens // 4)))


def bytes_a_token(kept: KeysAndValues) -> int:
    """Return the bytes that keys and values of one token take in all blocks."""
    buffers = [buffer for pair in kept.values() for buffer in pair]
    return sum(buffer.shape[1] * buffer.shape[3] * buffer.element_size() for buffer in buffers)
