"""Table 8 of the paper as a curve: accuracy by share of images removed and by what stands in; no torch here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.selection import (
    CANDIDATES,
    IDENTITY,
    METHOD_OPTIONS,
    METRIC_COLUMNS,
    OURS,
    comparable,
    identity,
    llm_cells,
    scores_in_full,
    stored_metrics,
)
from bench.frames.variants import beside, variant_cells
from bench.store.cell import Record
from bench.store.store import Store

ABOUT = Experiment(
    name="missing_images",
    paper="Table 8",
    question="what if images are missing, and what should stand in",
    place=110,
    arguments={"smoke": ("--fractions", "0,0.5")},
)

KIND = "missing-images"
DROPPED = "baselines.image_prompts:ImageOrTitle"
"""I-LLMRec without the slots of items that have no image: no method of its own here."""

REFERENCES = ("tallrec", "trsr")
"""The text methods of Table 8, which no missing image changes."""

COLUMNS = (
    *IDENTITY, "method", "substitutes", "fraction", "seed", "candidates", "users", "prompt_tokens", *METRIC_COLUMNS,
)  # fmt: skip


def frame(records: Sequence[Record], store: Store, references: Collection[str] = REFERENCES) -> pd.DataFrame:
    """Return one row per method, substitute, share of images removed, seed and kind of candidates.

    Args:
        records: Cells, of any experiment; those of the sweep, and of its methods and the text methods on the data
            set as it is, are picked.
        store: The store that holds them; the numbers are all in the cells.
        references: Names of the text methods.

    Returns:
        ``COLUMNS``: substitutes is what stands in for a missing image (description, zero or drop), empty for the
        text methods; fraction is the share of images removed, 0 to 1. Where a substitute has no cell of its own at
        0, since no image is missing there, the row of the method on the data set as it is stands there. Data sets
        without any cell with images removed are left out.
    """
    changed = {
        key: found
        for key, found in variant_cells(records, KIND).items()
        if scores_in_full(found[0]) and found[0].config["risa"]
    }
    plain = [record for record in llm_cells(records) if scores_in_full(record)]

    def point(record: Record) -> tuple[str, float]:
        if record.key not in changed:
            return ("", 0.0)
        variant = changed[record.key][1]
        return (variant["substitutes"], variant["fraction"])

    swept: dict[str, list[Record]] = {}
    for record, _ in changed.values():
        swept.setdefault(OURS if record.method == DROPPED else record.method, []).append(record)
    rows: list[dict[str, Any]] = []
    for method, cells in swept.items():
        others = [record for record in plain if record.method in (method, *references)]
        chosen = comparable([*beside(others, cells), *cells], ignored=METHOD_OPTIONS, point=point)
        for record in chosen:
            substitutes, fraction = point(record)
            if substitutes:
                rows += _rows(record, method, substitutes, fraction)
            elif record.method != method:
                rows += _rows(record, record.method, "", 0.0)
            else:
                beside_it = [
                    point(other) for other in chosen if other.key in changed and _same(other, record)
                ]
                for name in dict.fromkeys(substitutes for substitutes, _ in beside_it):
                    if (name, 0.0) not in beside_it:
                        rows += _rows(record, method, name, 0.0)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    order = [*IDENTITY, "method", "substitutes", "seed", "candidates", "fraction"]
    return table.drop_duplicates().sort_values(order, kind="stable", ignore_index=True)


def _same(one: Record, other: Record) -> bool:
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
