"""Table 8 of the paper as a curve: accuracy by share of images removed and by what stands in; no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.cell import Record
from bench.frames.context_budget import FEATURES
from bench.frames.selection import (
    CANDIDATES,
    IDENTITY,
    METHOD_OPTIONS,
    METRIC_COLUMNS,
    comparable,
    identity,
    llm_cells,
    stored_metrics,
)
from bench.frames.variants import beside, variant_cells
from bench.store import Store

KIND = "missing-images"
METHOD = "illmrec"
REFERENCES = ("tallrec", "trsr")
"""Text methods, which no missing image changes."""

COLUMNS = (
    *IDENTITY, "method", "substitutes", "fraction", "seed", "candidates", "users", "prompt_tokens", *METRIC_COLUMNS,
)  # fmt: skip


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per method, substitute, share of images removed, seed and kind of candidates.

    Args:
        records: Cells, of any experiment; those of the sweep, and of illmrec, tallrec and trsr on the data set as
            it is, are picked.
        store: The store that holds them; the numbers are all in the cells.

    Returns:
        ``COLUMNS``: substitutes is what stands in for a missing image (description, zero or drop), empty for the
        text methods; fraction is the share of images removed, 0 to 1. Where a substitute has no cell of its own at
        0, since no image is missing there, the row of illmrec on the data set as it is stands there. Data sets without
        any cell with images removed are left out.
    """
    changed = {
        key: found
        for key, found in variant_cells(records, KIND).items()
        if found[0].config["features"] == FEATURES and found[0].config["risa"]
    }
    plain = [
        record
        for record in llm_cells(records)
        if record.method in (METHOD, *REFERENCES) and record.config["features"] == FEATURES
    ]

    def point(record: Record) -> tuple[str, float]:
        if record.key not in changed:
            return ("", 0.0)
        variant = changed[record.key][1]
        return (variant["substitutes"], variant["fraction"])

    swept_cells = [record for record, _ in changed.values()]
    candidates = [*beside(plain, swept_cells), *swept_cells]
    chosen = comparable(candidates, ignored=METHOD_OPTIONS, point=point)
    rows: list[dict[str, Any]] = []
    for record in chosen:
        substitutes, fraction = point(record)
        if substitutes:
            rows += _rows(record, METHOD, substitutes, fraction)
        elif record.method in REFERENCES:
            rows += _rows(record, record.method, "", 0.0)
        else:
            swept = [point(other) for other in chosen if other.key in changed and _same_sweep(other, record)]
            for name in dict.fromkeys(substitutes for substitutes, _ in swept):
                if (name, 0.0) not in swept:
                    rows += _rows(record, METHOD, name, 0.0)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    order = [*IDENTITY, "method", "substitutes", "seed", "candidates", "fraction"]
    return table.sort_values(order, kind="stable", ignore_index=True)


def _same_sweep(one: Record, other: Record) -> bool:
    return identity(one) == identity(other) and one.seed == other.seed


def _rows(record: Record, method: str, substitutes: str, fraction: float) -> list[dict[str, Any]]:
    labels = {
        **identity(record),
        "method": method,
        "substitutes": substitutes,
        "fraction": fraction,
        "seed": record.seed,
        "users": record.results["users"],
        "prompt_tokens": record.results["prompt"]["tokens"],
    }
    return [
        {**labels, "candidates": candidates, **stored_metrics(record.results[candidates])}
        for candidates in CANDIDATES
    ]
