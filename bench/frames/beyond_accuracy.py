"""What recommended lists are like beyond being right, as a table: one row per method and seed; no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.store.cell import Record

EXPERIMENT = "list_similarity"
VERSION = 1

SIMILARITIES = ("image", "text")
"""Features by which the items of a list are compared."""

LISTS = ("coverage", "popularity", "novelty")
COLUMNS = ("dataset", "method", "seed", *LISTS, *(f"similarity_{name}" for name in SIMILARITIES))


def frame(accuracy: Sequence[Record], similarities: Sequence[Record]) -> pd.DataFrame:
    """Return one row for each accuracy cell that keeps its lists.

    Args:
        accuracy: Accuracy cells.
        similarities: Cells of ``list_similarity``, of which the newest of an accuracy cell and feature type counts.

    Returns:
        ``COLUMNS``: coverage is a share of the catalogue, popularity a multiple of an item drawn uniformly, novelty in
        bits (:func:`bench.protocol.lists.beyond_accuracy`), similarities are mean cosines, missing where they were not
        computed.
    """
    found: dict[str, dict[str, float]] = {}
    for record in sorted(similarities, key=lambda cell: cell.created):
        found.setdefault(record.config["accuracy"], {}).update(record.results["similarity"])
    rows: list[dict[str, Any]] = []
    for record in accuracy:
        if "lists" not in record.results:
            continue
        similar = {f"similarity_{name}": value for name, value in found.get(record.key, {}).items()}
        labels = {"dataset": record.config["dataset"]["name"], "method": record.method, "seed": record.seed}
        rows.append({**labels, **record.results["lists"], **similar})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype(dict.fromkeys(COLUMNS[3:], float))
