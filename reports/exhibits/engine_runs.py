"""What the engine's benchmarks share: the newest run of each place, its name, its conditions and its repeats."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bench.store.cell import Record
from bench.store.store import Store
from reports.sections.file_names import slug
from reports.sections.section import llm_label
from reports.wording.cautions import machine_words


def newest_runs(
    records: Iterable[Record], *, place: Callable[[Record], str], run: Callable[[Record], str]
) -> list[list[Record]]:
    """Return the cells of the newest run at each place, where a run's cells agree in all that ``run`` names."""
    runs: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        runs[place(record)][run(record)].append(record)
    return [max(found.values(), key=_newest) for found in runs.values()]


def without(*names: str) -> Callable[[Record], str]:
    """Return a function of a cell: its configuration as text, but for these options."""
    return lambda record: json.dumps(
        {name: value for name, value in record.config.items() if name not in names}, sort_keys=True
    )


def machine(record: Record) -> str:
    """Return what sets the pace besides the code: device, machine and threads."""
    config = record.config
    return json.dumps([config.get("device"), config.get("machine"), config.get("threads")], sort_keys=True)


def where(record: Record) -> str:
    """Return data set, LLM and machine."""
    return f"{record.config['dataset']['fingerprint']} {llm_label(record.config)} {machine(record)}"


def with_suffixes(runs: Sequence[list[Record]]) -> list[tuple[str, list[Record]]]:
    """Return the runs, the newest first, each with the ending of its file names: none for a single one."""
    ordered = sorted(runs, key=_newest, reverse=True)
    if len(ordered) < 2:
        return [("", run) for run in ordered]
    return [
        ("-" + "-".join(filter(None, (slug(subject(run[0].config)), str(position)))), run)
        for position, run in enumerate(ordered, start=1)
    ]


def subject(config: Mapping[str, Any]) -> str:
    """Return data set and LLM of a cell, or the generated catalogue."""
    if not config.get("dataset"):
        return "generated catalogue"
    return f"{config['dataset']['name']}, {llm_label(config)}"


def conditions(record: Record) -> str:
    """Return what a cell was measured on, as a note."""
    config = record.config
    dtype = f", {record.results['dtype']}" if record.results.get("dtype") else ""
    threads = f", {config['threads']} threads" if config.get("threads") else ""
    device = config.get("device") or "cpu"
    return f"Measured on {machine_words(record.machine)}; device {device}{dtype}{threads}."


def fastest_and_slowest(
    cells: Sequence[Record], store: Store, *, batched: bool = False
) -> tuple[list[float], list[float]]:
    """Return the fastest and the slowest repeat of each cell in seconds.

    Args:
        cells: The cells.
        store: The store with the frame ``timings`` of each.
        batched: Count the runs over all queries only.
    """
    frames = [store.read_frame(cell, "timings") for cell in cells]
    seconds = [frame.loc[frame["batched"], "seconds"] if batched else frame["seconds"] for frame in frames]
    return [float(values.min()) for values in seconds], [float(values.max()) for values in seconds]


def _newest(run: Sequence[Record]) -> str:
    return max(record.created for record in run)
