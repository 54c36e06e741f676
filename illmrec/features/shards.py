"""Parts of a feature table that several processes, or machines with a common cache, compute side by side."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from illmrec.errors import InputError
from illmrec.features.table import FeatureTable

logger = logging.getLogger(__name__)

Shard = tuple[int, int]
"""``(i, n)``: the i-th of n, counted from 1."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a shard has computed.

    Attributes:
        folder: Where it lies, beside the table that it is a part of.
        table: Its rows, one after the other.
        rows: int64, which rows of the whole table these are.
    """

    folder: Path
    table: FeatureTable
    rows: np.ndarray


def part_folder(directory: Path, shard: Shard) -> Path:
    """Return where the part of a shard goes, beside the table's own folder."""
    return directory.with_name(f"{directory.name}.shard-{shard[0]}-of-{shard[1]}")


def split(rows: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Return rows in batches, in order."""
    return [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]


def owned(rows: np.ndarray, *, batch_size: int, shard: Shard) -> np.ndarray:
    """Return the rows of a shard: every n-th batch, so that batches are those of one process, to the last bit.

    Raises:
        InputError: If there are fewer batches than shards.
    """
    mine = split(rows, batch_size)[shard[0] - 1 :: shard[1]]
    if not mine:
        raise InputError(
            f"--shard {shard[0]}/{shard[1]}: nothing is left for it, {len(rows):,} items are fewer than "
            f"{shard[0]} batches; take fewer shards"
        )
    return np.concatenate(mine)


def finished_parts(directory: Path, rows: np.ndarray) -> list[Part]:
    """Return the parts of a table that are whole; those that another shard still computes are named in the log.

    Args:
        directory: The table's folder.
        rows: int64, the rows that are to be computed, in order.
    """
    parts: list[Part] = []
    taken = np.zeros(int(rows.max(initial=-1)) + 1, dtype=bool)
    for folder in sorted(directory.parent.glob(f"{directory.name}.shard-*-of-*")):
        if folder.suffix == ".partial":
            logger.warning("%s is not finished; what it was to compute is computed here", folder.stem)
        elif folder.is_dir():
            table = FeatureTable.found(folder)
            own = None if table is None else _rows(table, rows)
            if (
                table is not None and own is not None and not taken[own].any()
            ):  # not one of another number of shards as well
                taken[own] = True
                parts.append(Part(folder=folder, table=table, rows=own))
    return parts


def remove(parts: Sequence[Part]) -> None:
    """Delete parts that the whole table holds."""
    for part in parts:
        shutil.rmtree(part.folder)
        for left in part.folder.parent.glob(f"{part.folder.name}.lock*"):
            left.unlink(missing_ok=True)


def _rows(table: FeatureTable, rows: np.ndarray) -> np.ndarray | None:
    noted = table.meta.get("part")
    if not isinstance(noted, dict):
        return None
    index, of = noted["shard"]
    own = owned(rows, batch_size=int(noted["batch_size"]), shard=(index, of))
    return own if len(own) == len(table.present) else None
