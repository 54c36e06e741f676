"""Prompts of words and codes, packed for the engine: a code is a token that the LLM's vocabulary lacks.

A row is what stands after the prefix, int: a word is its token id, a code is ``-1 - token``. It may end in a branch,
which sees some of the row and itself, and which the row does not see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from illmrec.prompts.packing import Packed

CODES = "codes"
"""Name of the codes' slot."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What stands after the prefix for one user or item.

    Attributes:
        ids: Int [n], words and codes.
        read: Int [r], places in ``ids`` whose states are read, ascending; those in the branch count on.
        branch: Tokens of the branch, the last of ``ids``.
        hangs: The branch sees so many tokens of the row.
    """

    ids: np.ndarray
    read: np.ndarray
    branch: int = 0
    hangs: int = 0


def as_codes(tokens: np.ndarray) -> np.ndarray:
    """Return codes as they stand in a row, int64 of the same shape; ``tokens`` are 0 or more."""
    return -1 - np.asarray(tokens, dtype=np.int64)


def pack_rows(prefix: np.ndarray, rows: Sequence[Row]) -> Packed:
    """Lay out rows one after the other; ``answer_positions`` are what is read, row by row.

    Args:
        prefix: Int64 [P], token ids of words.
        rows: One or more.
    """
    lengths = np.array([len(row.ids) for row in rows], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    ids = np.concatenate([row.ids for row in rows]).astype(np.int64)
    local = np.arange(len(ids)) - np.repeat(starts, lengths)
    trunks = lengths - np.array([row.branch for row in rows])
    hangs = np.repeat([row.hangs for row in rows], lengths)
    within = local - np.repeat(trunks, lengths)
    branch = (within >= 0).astype(np.int64)
    codes = np.flatnonzero(ids < 0)
    nothing = np.zeros(0, dtype=np.int64)
    return Packed(
        prefix=np.asarray(prefix, dtype=np.int64),
        ids=np.maximum(ids, 0),
        position_ids=len(prefix) + np.where(branch, hangs + within, local),
        lengths=lengths,
        branch=branch,
        visible=np.where(branch, hangs, local + 1),
        slot_positions={CODES: codes},
        slot_items={CODES: -1 - ids[codes]},
        rec_positions=nothing,
        answer_positions=np.concatenate(
            [start + row.read for start, row in zip(starts, rows, strict=True)]
        ).astype(np.int64),
        answer_ids=nothing,
        straight=not branch.any(),
    )
