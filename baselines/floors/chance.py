"""Chance."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


class Chance:
    """Scores by chance: a function of seed, history and item only, whatever else is in the batch.

    Args:
        n_items: Size of the catalogue.
        seed: Of the scores.
    """

    def __init__(self, *, n_items: int, seed: int = 0) -> None:
        self._n_items, self._seed = n_items, seed

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [histories, n_items], uniform in [0, 1)."""
        digests = b"".join(
            hashlib.blake2b(
                np.ascontiguousarray(history, dtype="<i8").tobytes(),
                digest_size=8,
                salt=self._seed.to_bytes(16, "little", signed=True),
            ).digest()
            for history in histories
        )
        keys = np.frombuffer(digests, dtype="<u8").astype(np.uint64)
        items = np.arange(1, self._n_items + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = _splitmix(keys[:, None] + items)
        # The upper 24 bits are what a float32 in [0, 1) can hold exactly.
        return (mixed >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _splitmix(state: np.ndarray) -> np.ndarray:
    """Mix uint64 states into uniform bits: the finaliser of the SplitMix64 generator (wraps by design)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
