"""Table 9 of the paper as a curve: accuracy by how much worse the pictures are; no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.selection import (
    CANDIDATES,
    FEATURE_OPTIONS,
    IDENTITY,
    METRIC_COLUMNS,
    by_method,
    comparable,
    identity,
    llm_cells,
    stored_metrics,
)
from bench.frames.variants import beside, variant_cells
from bench.store.cell import Record
from bench.store.store import Store

ABOUT = Experiment(
    name="image_quality",
    paper="Table 9",
    question="how small, compressed or blurred may pictures be",
    place=120,
    arguments={"smoke": ("--resolutions", "32", "--jpeg-qualities", "20", "--blurs", "4")},
)

KIND = "image-quality"
ORIGINAL = "original"
LOW_RESOLUTION = "low-resolution"
"""The source's own smaller pictures, as in the paper's Table 9."""

FEATURE_SETS: dict[str, tuple[str, ...]] = {"image": ("image",), "all": ("image", "cf", "text")}
"""Feature types that score items, by the name of the set."""

COLUMNS = (
    *IDENTITY, "method", "features", "degradation", "amount", "seed", "candidates", "users", *METRIC_COLUMNS,
)  # fmt: skip


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per method, feature set, degradation, amount, seed and kind of candidates.

    Args:
        records: Cells, of any experiment; those of the sweep, and of its methods on the pictures as they are, are
            picked.
        store: The store that holds them; the numbers are all in the cells.

    Returns:
        ``COLUMNS``: features is image or all; degradation is original or low-resolution, the source's own smaller
        pictures (amount is then missing), resolution (longer side in pixels), jpeg (quality) or blur (radius in pixels
        at 224).
    """
    sets = {features: name for name, features in FEATURE_SETS.items()}
    changed = {key: found for key, found in variant_cells(records, KIND).items() if found[0].config["risa"]}
    swept = [record for record, _ in changed.values()]
    cells = [record for record in (*llm_cells(records), *swept) if tuple(record.config["features"]) in sets]

    def point(record: Record) -> tuple[str, str, float | None]:
        features = sets[tuple(record.config["features"])]
        if record.key not in changed:
            return (features, ORIGINAL, None)
        variant = changed[record.key][1]
        amount = variant["amount"]
        return (features, variant["degradation"], None if amount is None else float(amount))

    chosen: list[Record] = []
    for own in by_method(cells).values():
        worse = [record for record in own if record.key in changed]
        chosen += comparable(beside(own, worse), ignored=FEATURE_OPTIONS, point=point)
    rows: list[dict[str, Any]] = []
    for record in chosen:
        features, degradation, amount = point(record)
        labels = {
            **identity(record),
            "method": record.method,
            "features": features,
            "degradation": degradation,
            "amount": amount,
            "seed": record.seed,
            "users": record.results["users"],
        }
        rows += [
            {**labels, "candidates": kind, **stored_metrics(record.results[kind])} for kind in CANDIDATES
        ]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"amount": float})
    order = [*IDENTITY, "method", "features", "degradation", "seed", "candidates", "amount"]
    return table.sort_values(order, kind="stable", ignore_index=True)
