"""Cells on changed items, brought back to the data set that they are variants of; no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench.frames.selection import ACCURACY, LIMITS, identity, latest
from bench.store.cell import Record


def variant_cells(records: Sequence[Record], kind: str) -> dict[str, tuple[Record, dict[str, Any]]]:
    """Return accuracy cells on one kind of changed items by key: the cell as one of the original data, its variant.

    The returned cells have name and fingerprint of the original data set and no variant, so that they stand in one
    group with the cells on the original.

    Args:
        records: Cells of any experiment.
        kind: ``kind`` of the variant.
    """
    found = {}
    for record in latest(records, ACCURACY):
        variant = record.config["dataset"].get("variant")
        if not variant or variant["kind"] != kind or set(LIMITS) & record.config["evaluation"].keys():
            continue
        found[record.key] = (
            of_dataset(record, name=record.config["dataset"]["name"], fingerprint=variant["of"]),
            variant,
        )
    return found


def beside(records: Sequence[Record], changed: Sequence[Record]) -> list[Record]:
    """Return the cells on data sets, and with LLMs, that some cell on changed items belongs to."""
    swept = [identity(record) for record in changed]
    return [record for record in records if identity(record) in swept]


def of_dataset(record: Record, *, name: str, fingerprint: str) -> Record:
    """Return a cell as if it were one of another data set; key, results and files are its own."""
    return replace(record, config={**record.config, "dataset": {"name": name, "fingerprint": fingerprint}})
