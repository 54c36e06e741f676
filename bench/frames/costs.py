"""Costs that stand beside accuracy in a table: those of the machine that measured last; no torch here."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from bench.store.cell import Record


def newest_costs(
    records: Sequence[Record], names: Sequence[str], point: Callable[[Record], Hashable]
) -> dict[tuple[str, Hashable], dict[str, float]]:
    """Return costs by method and point, all from the machine and device of the newest cell.

    Args:
        records: Cells that measured costs, with machine and device in their config.
        names: Names of the costs among a cell's results.
        point: Where a cell stands, such as the length of history; of several at one place the newest counts.
    """
    ordered = sorted(records, key=lambda record: record.created)
    return {
        (record.method, point(record)): cost_values(record, names)
        for record in ordered
        if all(
            record.config.get(name) == ordered[-1].config.get(name)
            for name in ("machine", "device", "threads")
        )
    }


def cost_values(record: Record, names: Sequence[str]) -> dict[str, Any]:
    """Return costs of a cell by name; what was not measured, such as an interval over one repeat, is NaN."""
    return {name: math.nan if record.results[name] is None else record.results[name] for name in names}
