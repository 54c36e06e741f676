"""Costs that stand beside accuracy in a table, and what they are in energy and money; no torch here."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import pandas as pd

from bench.frames.energy import JOULES_PER_WH, assumed_watts
from bench.frames.pricing import SECONDS_PER_HOUR, Pricing
from bench.store.cell import Record

USERS = 1000
"""Users, each with one recommendation, for whom energy and money are told."""

USER_COSTS = ("watts", "energy_from", "wh_per_1000_users", "cost_per_1000_users", "currency")
"""Columns of what users cost: mean power in W, ``measured`` with what was read or ``estimated``, Wh, money."""

SPENT = ("experiment", "cells", "hours", "wh", "cost", "currency")

ESTIMATED = "estimated"


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


def user_costs(record: Record, pricing: Pricing) -> dict[str, Any]:
    """Return what 1,000 users cost by a timed cell, ``USER_COSTS``; what is not known is NaN or empty.

    They are served in batches, as ``users_per_second`` was measured. Energy is what counters have read, or time times
    the power that the machine is assumed to draw; money is time times the price of an hour.

    Args:
        record: A cell with ``users_per_second``, and ``joules_per_user`` with ``energy_read`` where a counter was read.
        pricing: The price, and the power that the user says.
    """
    rate = record.results.get("users_per_second")
    seconds = USERS / float(rate) if rate else None
    joules, watts = record.results.get("joules_per_user"), _watts(record, pricing)
    origin = ESTIMATED if watts is not None and seconds is not None else ""
    if joules is not None:
        watts = None if seconds is None else USERS * float(joules) / seconds
        wh, origin = USERS * float(joules) / JOULES_PER_WH, f"measured: {record.results.get('energy_read')}"
    else:
        wh = math.nan if watts is None or seconds is None else watts * seconds / JOULES_PER_WH
    return {
        "watts": math.nan if watts is None else watts,
        "energy_from": origin,
        "wh_per_1000_users": wh,
        "cost_per_1000_users": pricing.cost(seconds),
        "currency": pricing.code,
    }


def unknown_costs(table: pd.DataFrame) -> list[str]:
    """Return columns of ``USER_COSTS`` that say nothing in a table: without a price those of money."""
    return [name for name in USER_COSTS if table[name].isna().all() or (table[name] == "").all()]


def spent(records: Sequence[Record], pricing: Pricing) -> pd.DataFrame:
    """Return what computing the cells of each experiment has taken, ``SPENT``, in the order of the records.

    Energy is estimated from time; it is missing where the power of one of the machines cannot be told.
    """
    experiments: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        experiments[record.experiment].append(record)
    rows = []
    for name, cells in experiments.items():
        seconds = sum(cell.seconds for cell in cells)
        joules = [
            math.nan if (watts := _watts(cell, pricing)) is None else watts * cell.seconds for cell in cells
        ]
        values = (name, len(cells), seconds / SECONDS_PER_HOUR, sum(joules) / JOULES_PER_WH)
        rows.append((*values, pricing.cost(seconds), pricing.code))
    return pd.DataFrame(rows, columns=list(SPENT))


def assumed_powers(records: Sequence[Record], pricing: Pricing) -> list[float]:
    """Return the powers that the machines of cells are assumed to draw, in W, each once; none that cannot be told."""
    return sorted({watts for record in records if (watts := _watts(record, pricing)) is not None})


def energy_note(records: Sequence[Record], pricing: Pricing) -> str:
    """Return in words where the energy of cells is from, with the power that is assumed; nothing without cells."""
    read = sorted({str(cell.results["energy_read"]) for cell in records if cell.results.get("energy_read")})
    rest = [cell for cell in records if not cell.results.get("energy_read")]
    parts = [f"measured by counters ({'; '.join(read)})"] if read else []
    assumed = assumed_powers(rest, pricing)
    if assumed:
        who = "as --watts says" if pricing.watts is not None else "from cores and GPU"
        powers = " or ".join(f"{watts:g} W" for watts in assumed)
        parts.append(f"an estimate: time times {powers}, assumed {who}")
    if len(assumed) == 0 and rest:
        parts.append("not known for this machine: give its power with --watts")
    return f"Energy is {' or '.join(parts)}." if parts else ""


def _watts(record: Record, pricing: Pricing) -> float | None:
    """Return the power that a cell's machine is assumed to draw; a cell that names no device used a GPU if any."""
    machine = record.config.get("machine") or record.machine
    device = str(record.config.get("device") or ("cuda" if machine.get("gpus") else "cpu"))
    return assumed_watts(machine, device=device, watts=pricing.watts)
