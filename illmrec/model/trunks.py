"""Histories that nothing trains: their keys and values are constants, and only the branches behind them learn.

With a frozen LLM and no adaptor that learns, a gradient reaches ``[REC]`` and what follows it, never the history before
it. So the history goes through the LLM without a backward pass, and one that comes again does not go through it at all.
A step of T tokens in trunks and B in branches costs ``4 p B`` FLOPs in matrix products of p parameters where all trunks
are known, ``2 p T + 4 p B`` where none is, and ``4 p (T + B)`` otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import psutil
import torch

from illmrec.model.kv_cache import KeysAndValues
from illmrec.prompts.packing import Packed

_SHARE = 3
"""One part in so many of the free memory may hold keys and values."""


class Trunks:
    """Keys and values of trunks that came twice, while there is room for them.

    A token takes what it takes in a :class:`~illmrec.model.kv_cache.KVCache`. One that came once may never come again:
    windows of long histories are drawn anew in every epoch, those of short ones are the same.

    Args:
        limit: Bytes that may be held; ``None`` is a third of the memory that is free when the first one is kept.
    """

    def __init__(self, *, limit: int | None = None) -> None:
        self._limit = limit
        self._kept: dict[bytes, KeysAndValues] = {}
        self._seen: set[bytes] = set()
        self.nbytes = 0

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._kept)

    def of(
        self, packed: Packed, *, read: Callable[[np.ndarray], Sequence[KeysAndValues]]
    ) -> list[KeysAndValues]:
        """Return keys and values of each user's trunk.

        Args:
            packed: The prompts.
            read: Puts the trunks of some users, int64 [users], through the LLM.
        """
        keys = _keys(packed)
        missing = self._missing(keys)
        found = dict(zip(missing.tolist(), read(missing) if len(missing) else (), strict=True))
        for user, trunk in found.items():
            self._offer(keys[user], trunk)
        return [found[user] if user in found else self._kept[key] for user, key in enumerate(keys)]

    def missing(self, packed: Packed) -> np.ndarray:
        """Return int64 [users], whose trunks :meth:`of` would have read."""
        return self._missing(_keys(packed))

    def _missing(self, keys: Sequence[bytes]) -> np.ndarray:
        return np.array([user for user, key in enumerate(keys) if key not in self._kept], dtype=np.int64)

    def give_up(self) -> None:
        """Drop what is held and hold nothing any more: the memory is needed elsewhere."""
        self._kept.clear()
        self._seen.clear()
        self._limit, self.nbytes = 0, 0

    def _offer(self, key: bytes, trunk: KeysAndValues) -> None:
        if key in self._kept:
            return
        if key not in self._seen:
            self._seen.add(key)
            return
        size = sum(part.numel() * part.element_size() for pair in trunk.values() for part in pair)
        if self._limit is None:
            self._limit = _free(next(iter(trunk.values()))[0].device) // _SHARE
        if self.nbytes + size > self._limit:
            return
        # Copies: views would hold the whole row that they were read in.
        self._kept[key] = {block: (k.clone(), v.clone()) for block, (k, v) in trunk.items()}
        self.nbytes += size


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _keys(packed: Packed) -> list[bytes]:
    """Return what tells each user's trunk from others: its tokens and the items in its slots, behind the prefix."""
    ends = np.cumsum(packed.lengths)
    first = blake2b(packed.prefix.tobytes(), digest_size=16)
    keys = []
    for start, trunk in zip(ends - packed.lengths, packed.trunk_lengths, strict=True):
        key = first.copy()
        key.update(packed.ids[start : start + trunk].tobytes())
        for name, positions in packed.slot_positions.items():
            rows = slice(*np.searchsorted(positions, (start, start + trunk)))
            # A slot's id is zero, as a word's may be: where it stands tells them apart.
            key.update(b"%b " % name.encode())
            key.update(np.stack([positions[rows] - start, packed.slot_items[name][rows]]).tobytes())
        keys.append(key.digest())
    return keys


def trunk_tokens(packed: Packed, users: np.ndarray) -> np.ndarray:
    """Return int64 [n], where the trunks of some users stand in the row, user by user."""
    starts = (np.cumsum(packed.lengths) - packed.lengths)[users]
    lengths = packed.trunk_lengths[users]
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(starts, lengths) + within


def trunks_alone(packed: Packed, users: np.ndarray) -> Packed:
    """Return the row of some users' trunks: no slot, ``[REC]`` or answer is told."""
    return _rows(packed, trunk_tokens(packed, users), lengths=packed.trunk_lengths[users])


def branches_alone(packed: Packed) -> Packed:
    """Return the row of all branches, whose trunks are elsewhere: no slot is told."""
    at = np.flatnonzero(packed.branch > 0)
    return replace(
        _rows(packed, at, lengths=packed.lengths - packed.trunk_lengths),
        rec_positions=np.searchsorted(at, packed.rec_positions),
        answer_positions=np.searchsorted(at, packed.answer_positions),
        answer_ids=packed.answer_ids,
        straight=False,
    )


def _rows(packed: Packed, at: np.ndarray, *, lengths: np.ndarray) -> Packed:
    nothing = np.zeros(0, dtype=np.int64)
    return Packed(
        prefix=packed.prefix,
        ids=packed.ids[at],
        position_ids=packed.position_ids[at],
        lengths=lengths,
        branch=packed.branch[at],
        visible=packed.visible[at],
        slot_positions={},
        slot_items={},
        rec_positions=nothing,
        answer_positions=nothing,
        answer_ids=nothing,
        straight=True,
    )
