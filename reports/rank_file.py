"""The ranks behind a gallery's comparison as one small file, from which others compute its numbers again."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow
from pyarrow import parquet

from bench.frames.beyond_accuracy import EXPERIMENT as LIST_SIMILARITY
from bench.store.cell import Record
from bench.store.published import CELLS, INTERVALS, RANKS, users_digest
from bench.store.store import Store
from reports.sections.section import Section, has_ranks

_TYPES = {
    "dataset": pyarrow.string(),
    "method": pyarrow.string(),
    "seed": pyarrow.int64(),
    "cell": pyarrow.string(),
    "user": pyarrow.int32(),
    "target": pyarrow.int32(),
    "rank_sampled": pyarrow.int32(),
    "rank_full": pyarrow.int32(),
    "later_day": pyarrow.bool_(),
}
_ORDER = ("dataset", "method", "seed", "cell", "user", "target")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RankFile:
    """The file and what the manifest says of it.

    Attributes:
        content: The file; None where no cell has ranks.
        cells: The results of its cells, from which :mod:`bench.suite.restore` makes a store again: columns key and cell
            (the text of ``cell.json``).
        facts: Its name, number of rows and SHA-256; the cells of each method by the name of the table that shows them,
            one per seed; the cells that have no ranks; the SHA-256 of ``cells``; and of each data set a digest of its
            users in the order of their numbers, which tells whether others have the same ones.
    """

    content: bytes | None
    cells: bytes | None
    facts: dict[str, Any]


def rank_file(
    store: Store, records: Sequence[Record], sections: Sequence[Section], tables: Collection[str]
) -> RankFile:
    """Collect the ranks of the accuracy cells that the comparison shows, without the users' ids.

    Users are numbers, from 0 in the order in which a data set's cells first name them, so that one number is one user
    in all cells of a data set; where a user has several targets, they have numbers as well. Where a cell's ranks tell
    days, a column says whether the target came on a later day than the item before it, and nothing more of times. Cells
    without ranks are left out, and the log says so.

    Args:
        store: The store of the cells.
        records: All cells, as they may be passed on.
        sections: The sections of the report.
        tables: Names of the tables that were written; what no table shows is left out.

    Raises:
        InputError: If ranks cannot be read.
    """
    shown: dict[str, dict[str, list[str]]] = {}
    cells: dict[str, tuple[Section, Record]] = {}
    for section in sections:
        name = f"accuracy{section.suffix}"
        if name in tables:
            entries = sorted(section.headline.items())
            shown[name] = {method: [record.key for record in entry.records] for method, entry in entries}
            cells |= {record.key: (section, record) for _, entry in entries for record in entry.records}
    ordered = sorted(
        cells.values(), key=lambda cell: (cell[0].dataset, cell[1].method, cell[1].seed, cell[1].key)
    )
    lacking = [record for _, record in ordered if not has_ranks(record)]
    if lacking:
        named = ", ".join(f"{record.method} seed {record.seed}" for record in lacking)
        logger.warning(
            "%d cells of the comparison have no ranks and are not in %s: %s", len(lacking), RANKS, named
        )
    numbers: dict[str, dict[str, int]] = {}
    frame = _numbered(store, [cell for cell in ordered if has_ranks(cell[1])], numbers)
    content = _parquet(frame) if len(frame) else None
    facts: dict[str, Any] = {}
    results = None
    if content is not None:
        results = _cells(records, set(frame["cell"]))
        facts = {
            "file": RANKS,
            "rows": len(frame),
            "sha256": hashlib.sha256(content).hexdigest(),
            "intervals": INTERVALS,
            "cells": {"file": CELLS, "sha256": hashlib.sha256(results).hexdigest()},
            "users": {fingerprint: users_digest(known) for fingerprint, known in numbers.items()},
        }
    facts |= {"tables": shown, "without_ranks": [record.key for record in lacking]}
    return RankFile(content=content, cells=results, facts=facts)


def _cells(records: Sequence[Record], ranked: Collection[str]) -> bytes:
    """Return the results of the cells with these keys, and what was found of their lists, as Parquet."""
    shown = [
        record
        for record in records
        if record.key in ranked
        or (record.experiment == LIST_SIMILARITY and record.config["accuracy"] in ranked)
    ]
    rows = {"key": [record.key for record in shown], "cell": [record.to_json() for record in shown]}
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(rows), file, compression="zstd", compression_level=19)
    return file.getvalue()


def _numbered(
    store: Store, cells: Sequence[tuple[Section, Record]], numbers: dict[str, dict[str, int]]
) -> pd.DataFrame:
    """Return the ranks of some cells with numbers in place of user ids, sorted by all that comes before the ranks.

    Args:
        store: The store of the cells.
        cells: With their sections.
        numbers: Is given the users of each data set, by fingerprint, with their numbers, ascending.
    """
    frames = []
    for section, record in cells:
        ranks = store.read_frame(record, "ranks")
        known = numbers.setdefault(section.fingerprint, {})
        frame = pd.DataFrame(
            {
                "dataset": section.dataset,
                "method": record.method,
                "seed": record.seed,
                "cell": record.key,
                "user": [known.setdefault(str(user), len(known)) for user in ranks["user_id"]],
                "rank_sampled": ranks["rank_sampled"],
                "rank_full": ranks["rank_full"],
            }
        )
        if "target" in ranks:
            frame["target"] = ranks["target"]
        if "days" in ranks:
            frame["later_day"] = ranks["days"] > 0
        frames.append(frame)
    if not frames:
        return pd.DataFrame(columns=list(_TYPES))
    together = pd.concat(frames, ignore_index=True)
    order = [name for name in _ORDER if name in together]
    return together.sort_values(order, ignore_index=True)


def _parquet(frame: pd.DataFrame) -> bytes:
    """Return a table as Parquet: repeated texts and ranks once each, ascending numbers as their differences."""
    types = {name: kind for name, kind in _TYPES.items() if name in frame}
    # Another data set's users may have one target each, which has no number, or no times.
    nullable = {"target": "Int32", "later_day": "boolean"}
    frame = frame.astype({name: kind for name, kind in nullable.items() if name in frame})
    table = pyarrow.table({name: pyarrow.array(frame[name], type=kind) for name, kind in types.items()})
    file = io.BytesIO()
    parquet.write_table(
        table,
        file,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in types if name not in ("user", "later_day")],
        column_encoding={"user": "DELTA_BINARY_PACKED"},
    )
    return file.getvalue()
