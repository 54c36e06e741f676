"""What a tracker is told of a cell, and what a tracker is; no torch here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from matplotlib.figure import Figure

from bench.store.cell import Record
from bench.store.store import Store
from bench.trackers.figures import figures
from bench.trackers.names import TrackerName
from illmrec.errors import InputError
from illmrec.files import hash_json


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """A cell as one run of a tracker.

    Attributes:
        experiment: Name of the experiment.
        name: For people.
        id: 16 hexadecimal digits of this result; a cell that was computed anew is another run.
        parameters: The cell's configuration with nested names joined by dots; numbers, texts, booleans.
        metrics: Its results, all numbers among them, likewise.
        tags: Key, commit, command and time.
        figures: By name.
    """

    experiment: str
    name: str
    id: str
    parameters: Mapping[str, str | int | float | bool]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    figures: Mapping[str, Figure]


class Tracker(Protocol):
    """Where runs go.

    Attributes:
        destination: What tells it from others of its kind: a folder or an address.
    """

    destination: str

    def check(self) -> None:
        """Raise whatever tells that it cannot be reached, within some seconds."""

    def log(self, run: Tracked) -> None:
        """Write a run; what is left of an earlier try under the same id is replaced."""


def run_id(record: Record) -> str:
    """Return what identifies a result: the cell and when it was computed."""
    return hash_json([record.experiment, record.key, record.created])


def tracked(record: Record, store: Store) -> Tracked:
    """Return a result as a run, with its figures drawn."""
    config = flat(record.config)
    results = flat(record.results)
    tags = {
        "cell": record.key,
        "created": record.created,
        "command": record.command,
        "git_commit": record.git_commit or "",
        "version": str(record.version),
    }
    return Tracked(
        experiment=record.experiment,
        name=f"{record.method} seed {record.seed} {record.key[:8]}",
        id=run_id(record),
        parameters={name: "none" if value is None else value for name, value in config.items()},
        metrics={
            **{
                name: float(value)
                for name, value in results.items()
                if isinstance(value, int | float) and not isinstance(value, bool)
            },
            "cell_seconds": float(record.seconds),
        },
        tags=tags,
        figures=figures(record, store),
    )


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested values with their names joined by dots; lists as text."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = str(value) if isinstance(value, list) else value
    return found


def imported(package: str, extra: TrackerName) -> Any:
    """Import a tracker's package.

    Raises:
        InputError: If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"--track {extra}: the package {error.name} is not installed: pip install 'illmrec[{extra}]'"
        ) from error


def tracking_folder(out: Path, name: TrackerName) -> Path:
    """Return where a tracker writes if nothing else is said: ``OUT/tracking/NAME``."""
    return (out / "tracking" / name).absolute()
