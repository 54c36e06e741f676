"""What a session keeps of a user, and how it was read last."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from illmrec.model.kv_cache import KVCache

Way = Literal["append", "anew", "nothing"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the LLM read for the last recommendation of a user.

    Attributes:
        way: ``append``, the items that came since; ``anew``, the whole window; ``nothing``, where none came.
        tokens: Tokens that went through the LLM, those of the shared prefix left out.
        reason: Why ``anew``: ``first``, ``moved`` (the window), ``evicted`` (to keep within the memory); else empty.
    """

    way: Way
    tokens: int
    reason: str = ""


@dataclass(kw_only=True)
class SessionUser:
    """A user's history and what is kept of it.

    Attributes:
        history: Item row numbers, the most recent last.
        first: Place in the history of the first item that was read.
        read: Items of the history that were read, those before ``first`` counted.
        cache: Keys and values of prefix and trunk; ``None`` where nothing can be gone on from.
        states: Float32 [states, width], the ``[REC]`` state, or one after each item where their mean is read.
        projected: Float32 [heads * shared], for scores.
        reading: How it was read last.
        evicted: Whether keys and values were dropped since.
    """

    history: list[int]
    first: int = 0
    read: int = 0
    cache: KVCache | None = None
    states: Tensor | None = None
    projected: Tensor | None = None
    reading: Reading = field(default_factory=lambda: Reading(way="nothing", tokens=0))
    evicted: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values, room for more included."""
        return 0 if self.cache is None else self.cache.nbytes
