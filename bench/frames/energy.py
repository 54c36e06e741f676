"""Energy from time: the power that a machine is assumed to draw where no counter was read; no torch here."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

JOULES_PER_WH = 3600.0
WATTS_PER_CORE = 3.5
"""Of a virtual core at full load, memory and board included: the average of AWS's processors in SPECpower, as Cloud
Carbon Footprint has it (docs/costs.md)."""
_TABLE = Path(__file__).with_name("gpu_power.csv")


def assumed_watts(machine: Mapping[str, Any], *, device: str, watts: float | None = None) -> float | None:
    """Return the power that a machine is assumed to draw at work, in W; None where it cannot be told.

    That is ``WATTS_PER_CORE`` for each of its cores, and where the work runs on a GPU the board power of one.

    Args:
        machine: As :func:`bench.store.provenance.machine` describes it.
        device: Where the work runs, such as ``cpu`` or ``cuda``.
        watts: What the user says, which counts alone.
    """
    if watts is not None:
        return watts
    cores = machine.get("cores")
    kind = device.partition(":")[0]
    if not cores or kind not in ("cpu", "cuda"):
        return None
    power = WATTS_PER_CORE * int(cores)
    if kind == "cpu":
        return power
    gpus = machine.get("gpus") or ()
    board = gpu_watts(str(gpus[0])) if gpus else None
    return None if board is None else power + board


def gpu_watts(name: str) -> float | None:
    """Return the board power of a GPU by the driver's name of it, in W; None where the table lacks it.

    Of rows whose words all stand in the name, that with most words counts: ``H100 PCIe`` before ``H100``.
    """
    words = set(_words(name))
    fitting = [(len(row), watts) for row, watts in _boards().items() if set(row) <= words]
    return max(fitting)[1] if fitting else None


@cache
def _boards() -> dict[tuple[str, ...], float]:
    with _TABLE.open(encoding="utf-8", newline="") as file:
        return {_words(row["gpu"]): float(row["watts"]) for row in csv.DictReader(file)}


def _words(name: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z0-9]+", name.lower()))
