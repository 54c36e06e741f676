"""Figure 4 of the paper as a table: accuracy and what is dropped, by context budget; no torch here."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.cell import Record
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
from bench.store import Store

FEATURES = ["image", "cf", "text"]

COLUMNS = (
    *IDENTITY, "method", "seed", "context", "candidates", "users",
    "prompt_tokens", "dropped_items", "dropped_tokens", *METRIC_COLUMNS,
)  # fmt: skip


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per method, seed, context budget and kind of candidates.

    Args:
        records: Cells, of any experiment; accuracy cells that were evaluated within a budget are picked.
        store: The store that holds them; the numbers are all in the cells.

    Returns:
        ``COLUMNS``: context in tokens; prompt_tokens, dropped_items and dropped_tokens are means over users.
    """
    limited = [
        record
        for record in llm_cells(records, limits=("context",))
        if "context" in record.config["evaluation"] and record.config["features"] == FEATURES
    ]
    rows = []
    for record in comparable(limited, ignored=METHOD_OPTIONS, point=budget):
        prompt = record.results["prompt"]
        labels = {
            **identity(record),
            "method": record.method,
            "seed": record.seed,
            "context": budget(record),
            "users": record.results["users"],
            "prompt_tokens": prompt["tokens"],
            "dropped_items": prompt["dropped_items"],
            "dropped_tokens": prompt["dropped_tokens"],
        }
        rows += [
            {**labels, "candidates": candidates, **stored_metrics(record.results[candidates])}
            for candidates in CANDIDATES
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def budget(record: Record) -> int:
    """Return the context budget that a cell was evaluated under, in tokens."""
    return int(record.config["evaluation"]["context"])
