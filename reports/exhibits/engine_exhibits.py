"""Exhibits of the engine: its pace beside plain passes, how time grows with size, and retrieval with indexes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.frames import retrieval, scaling, throughput
from bench.frames.selection import latest
from bench.store.cell import Record
from bench.store.store import Store
from reports.drawing.deferred import drawing
from reports.drawing.engine_figures import (
    AXIS_LABELS,
    INDEX_LOOKS,
    PATH_LOOKS,
    retrieval_figure,
    scaling_figure,
    throughput_figure,
)
from reports.exhibits.exhibits import Exhibit, Gap, Shown
from reports.sections.file_names import slug
from reports.sections.results import Section, llm_label
from reports.wording.engine_wording import paces
from reports.wording.origins import commands, fill_command, machine_words
from reports.wording.tables import Table, display, frame_table
from reports.wording.wording import words


def engine_exhibits(records: Sequence[Record], sections: Sequence[Section], store: Store) -> list[Shown]:
    """Return the exhibits of the engine's benchmarks, one for each data set, LLM and machine they ran on.

    Args:
        records: All cells of the store.
        sections: The sections of the page; the first one tells on what a missing benchmark should run.
        store: The store, for single timings.
    """
    benchmarks: dict[str, Callable[[Sequence[Record], Store, str], list[Exhibit]]] = {
        throughput.EXPERIMENT: _throughput,
        scaling.EXPERIMENT: _scaling,
        retrieval.EXPERIMENT: _retrieval,
    }
    shown: list[Shown] = []
    for experiment, make in benchmarks.items():
        own = latest(records, experiment)
        shown += make(own, store, _TITLES[experiment]) if own else [_gap(experiment, sections)]
    return shown


_TITLES = {
    "throughput": "Throughput. The engine beside plain padded passes",
    "scaling": "Scaling. Seconds against users, history and catalogue",
    "retrieval": "Retrieval. Recall and speed of indexes on a generated catalogue",
}


def _throughput(records: Sequence[Record], store: Store, title: str) -> list[Exhibit]:
    exhibits = []
    runs = _newest(records, place=_where, run=_without("method", "phase", "beside"))
    for suffix, run in _suffixes(runs):
        # A ratio holds among the paths that took turns.
        cells = [cell for phase in _newest(run, place=_phase, run=_beside) for cell in phase]
        frame = throughput.throughput_frame(cells)
        low, high = _range(cells, store)
        by_cell = pd.DataFrame(
            {
                "phase": [cell.config["phase"] for cell in cells],
                "path": [cell.method for cell in cells],
                "samples_low": [
                    cell.results["samples"] / seconds for cell, seconds in zip(cells, high, strict=True)
                ],
                "samples_high": [
                    cell.results["samples"] / seconds for cell, seconds in zip(cells, low, strict=True)
                ],
            }
        )
        frame = frame.merge(by_cell, on=["phase", "path"], validate="one_to_one")
        config = cells[0].config
        repeats = words(sorted({cell.results["repeats"] for cell in cells}))
        name = f"figure_throughput{suffix}"
        reading = " ".join(paces(frame)) or "The engine was not measured here."
        exhibits.append(
            Exhibit(
                name=name,
                title=title,
                reading=reading,
                notes=(
                    _conditions(cells[-1]),
                    f"{len(config['users'])} users with histories of {min(config['lengths'])} to"
                    f" {max(config['lengths'])} items; medians over {repeats} repeats, whiskers span the repeats."
                    " The paths of a phase took turns in one run.",
                    "Tokens were put through the LLM, padding included. Utilisation is useful work over time and the"
                    " matrix-product peak measured in the same run. Peak memory is that of the whole process on a CPU,"
                    " of tensors on CUDA.",
                    "The strongest peer, whose pace brackets compare with, is the fastest path with the same weights"
                    " and results that is not the engine. llama.cpp runs the prompts alone, with 4-bit weights.",
                ),
                commands=commands(cells),
                tables=(_labelled(name, f"Throughput, {_subject(config)}", frame, _PACE_TITLES),),
                figure=drawing(throughput_figure, frame, _subject(config)),
                alt=f"Bar charts of samples per second and of peak memory. {reading}",
            )
        )
    return exhibits


_PACE_TITLES = {
    "seconds_median": "median seconds",
    "samples_per_second": "samples/s",
    "tokens_per_second": "tokens/s",
    "peak_memory_mb": "peak memory (MB)",
    "speedup_vs_two_pass": "times two-pass",
    "speedup_vs_strongest": "times the strongest peer",
    "samples_low": "slowest repeat",
    "samples_high": "fastest repeat",
}


def _scaling(records: Sequence[Record], store: Store, title: str) -> list[Exhibit]:
    # Ranking a generated catalogue involves no data set and no LLM: it stands beside every run on its machine.
    ranked = [record for record in records if not record.config.get("dataset")]
    curves = _newest(ranked, place=_machine, run=_without("value"))
    runs: dict[str, list[Record]] = defaultdict(list)
    modelled = [record for record in records if record.config.get("dataset")]
    for curve in _newest(
        modelled, place=lambda cell: f"{_where(cell)} {cell.config['axis']}", run=_without("value")
    ):
        runs[_where(curve[0])] += curve
    machines = {_machine(members[0]) for members in runs.values()}
    beside = {_machine(curve[0]): curve for curve in curves}
    groups = [[*members, *beside.get(_machine(members[0]), ())] for members in runs.values()]
    groups += [curve for curve in curves if _machine(curve[0]) not in machines]
    exhibits = []
    for suffix, cells in _suffixes(groups):
        frame = scaling.scaling_frame(cells)
        low, high = _range(cells, store)
        by_cell = pd.DataFrame(
            {
                "axis": [cell.config["axis"] for cell in cells],
                "value": [cell.config["value"] for cell in cells],
                "seconds_low": low,
                "seconds_high": high,
            }
        )
        frame = frame.astype({"axis": str}).merge(by_cell, on=["axis", "value"], validate="one_to_one")
        name = f"figure_scaling{suffix}"
        reading = _growth(frame)
        exhibits.append(
            Exhibit(
                name=name,
                title=title,
                reading=reading,
                notes=(
                    _conditions(cells[0]),
                    "Users and history: from item ids to scores of the whole catalogue. Catalogue: scores and exact top"
                    " of random projections, without the LLM. Medians over repeats, whiskers span the repeats; dashed:"
                    " the power law fitted by least squares on logarithms.",
                ),
                commands=commands(cells),
                tables=(frame_table(name, f"Scaling, {_subject(cells[0].config)}", frame, _SECONDS_TITLES),),
                figure=drawing(scaling_figure, frame, _subject(cells[0].config)),
                alt=f"Line charts of seconds on logarithmic axes. {reading}",
            )
        )
    return exhibits


_SECONDS_TITLES = {
    "seconds_median": "median seconds",
    "exponent_stderr": "standard error of the exponent",
    "seconds_low": "fastest repeat",
    "seconds_high": "slowest repeat",
}


def _growth(frame: pd.DataFrame) -> str:
    """Return the fitted exponents, and what was measured where one point has none."""
    parts = []
    for axis, label in AXIS_LABELS.items():
        rows = frame[frame["axis"] == axis]
        if rows.empty:
            continue
        exponent, error = (float(rows[name].iloc[0]) for name in ("exponent", "exponent_stderr"))
        if not np.isfinite(exponent):
            parts.append(
                f"{label.lower()}: {display(rows['seconds_median'].iloc[0])} s at {rows['value'].iloc[0]:,}"
            )
            continue
        known = f" ± {error:.2f}" if np.isfinite(error) else ""
        parts.append(
            f"{label.lower()}: exponent {exponent:.2f}{known} from {rows['value'].min():,} to"
            f" {rows['value'].max():,} ({display(rows['seconds_median'].min())} to"
            f" {display(rows['seconds_median'].max())} s)"
        )
    return f"Seconds grow as a power of {'; '.join(parts)}."


def _retrieval(records: Sequence[Record], store: Store, title: str) -> list[Exhibit]:
    exhibits = []
    runs = _newest(records, place=_catalogue, run=_without("method", "effort", "library"))
    for suffix, cells in _suffixes(runs):
        frame = retrieval.retrieval_frame(cells)
        low, high = _range(cells, store, batched=True)
        by_cell = pd.DataFrame(
            {
                "kind": [cell.method for cell in cells],
                "effort": [
                    np.nan if cell.config["effort"] is None else cell.config["effort"] for cell in cells
                ],
                "queries_low": [
                    cell.results["queries"] / seconds for cell, seconds in zip(cells, high, strict=True)
                ],
                "queries_high": [
                    cell.results["queries"] / seconds for cell, seconds in zip(cells, low, strict=True)
                ],
            }
        )
        frame = frame.astype({"effort": float}).merge(by_cell, on=["kind", "effort"], validate="one_to_one")
        config = cells[0].config
        subject = f"{config['k']} of {config['items']:,} generated items, {config['width']} floats each"
        exact = frame.loc[frame["kind"] == "exact", "queries_per_second"]
        parts = [
            f"{INDEX_LOOKS[row['kind']].label} {row['recall']:.3f} at {row['queries_per_second']:,.0f} queries/s"
            + (f" ({row['queries_per_second'] / exact.iloc[0]:.1f} times exact)" if len(exact) else "")
            for row in frame.sort_values("recall").groupby("kind", sort=False).tail(1).to_dict("records")
        ]
        name = f"figure_retrieval{suffix}"
        reading = f"Best recall@{config['k']} of each kind of index: {'; '.join(parts)}."
        exhibits.append(
            Exhibit(
                name=name,
                title=title,
                reading=reading,
                notes=(
                    _conditions(cells[0]),
                    f"{config['queries']:,} users in one call. Numbers at the points: efforts of the search (HNSW:"
                    " candidates kept, IVF-PQ: lists read). Whiskers span the repeats.",
                ),
                commands=commands(cells),
                tables=(_labelled(name, f"Retrieval, {subject}", frame, _SEARCH_TITLES),),
                figure=drawing(retrieval_figure, frame, subject),
                alt=f"Line chart of queries per second against recall. {reading}",
            )
        )
    return exhibits


_SEARCH_TITLES = {
    "queries_per_second": "queries/s",
    "latency_ms_median": "median latency of one (ms)",
    "latency_ms_p95": "p95 latency of one (ms)",
    "build_seconds": "build (s)",
    "index_mb": "index (MB)",
    "search_memory_mb": "memory of a search (MB)",
    "queries_low": "slowest repeat",
    "queries_high": "fastest repeat",
}


def _gap(experiment: str, sections: Sequence[Section]) -> Gap:
    """Return what is missing with its command: on the data and LLM of the first section, where they matter."""
    generated = experiment == retrieval.EXPERIMENT or not sections
    return Gap(
        title=_TITLES[experiment],
        reason=f"no {experiment} cells",
        command=f"python -m bench.{experiment}" if generated else fill_command(experiment, sections[0]),
    )


def _newest(
    records: Iterable[Record], *, place: Callable[[Record], str], run: Callable[[Record], str]
) -> list[list[Record]]:
    """Return the cells of the newest run at each place, where a run's cells agree in all that ``run`` names."""
    runs: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        runs[place(record)][run(record)].append(record)
    return [
        max(found.values(), key=lambda members: max(record.created for record in members))
        for found in runs.values()
    ]


def _without(*names: str) -> Callable[[Record], str]:
    return lambda record: json.dumps(
        {name: value for name, value in record.config.items() if name not in names}, sort_keys=True
    )


def _machine(record: Record) -> str:
    """Return what sets the pace besides the code: device, machine and threads."""
    config = record.config
    return json.dumps([config.get("device"), config.get("machine"), config.get("threads")], sort_keys=True)


def _where(record: Record) -> str:
    return f"{record.config['dataset']['fingerprint']} {llm_label(record.config)} {_machine(record)}"


def _phase(record: Record) -> str:
    return str(record.config["phase"])


def _beside(record: Record) -> str:
    return json.dumps(record.config["beside"])


def _catalogue(record: Record) -> str:
    sizes = [record.config[name] for name in ("items", "width", "k")]
    return f"{sizes} {_machine(record)}"


def _suffixes(runs: Sequence[list[Record]]) -> list[tuple[str, list[Record]]]:
    """Return the runs, the newest first, each with the ending of its file names: none for a single one."""
    ordered = sorted(runs, key=lambda run: max(record.created for record in run), reverse=True)
    if len(ordered) < 2:
        return [("", run) for run in ordered]
    return [
        ("-" + "-".join(filter(None, (slug(_subject(run[0].config)), str(number)))), run)
        for number, run in enumerate(ordered, start=1)
    ]


def _subject(config: Mapping[str, Any]) -> str:
    """Return data set and LLM of a cell, or the generated catalogue."""
    if not config.get("dataset"):
        return "generated catalogue"
    return f"{config['dataset']['name']}, {llm_label(config)}"


def _conditions(record: Record) -> str:
    config = record.config
    dtype = f", {record.results['dtype']}" if record.results.get("dtype") else ""
    threads = f", {config['threads']} threads" if config.get("threads") else ""
    device = config.get("device") or "cpu"
    return f"Measured on {machine_words(record.machine)}; device {device}{dtype}{threads}."


def _range(
    cells: Sequence[Record], store: Store, *, batched: bool = False
) -> tuple[list[float], list[float]]:
    """Return the fastest and the slowest repeat of each cell in seconds.

    Args:
        cells: The cells.
        store: The store with the frame ``timings`` of each.
        batched: Count the runs over all queries only.
    """
    low, high = [], []
    for cell in cells:
        timings = store.read_frame(cell, "timings")
        seconds = timings.loc[timings["batched"], "seconds"] if batched else timings["seconds"]
        low.append(float(seconds.min()))
        high.append(float(seconds.max()))
    return low, high


def _labelled(name: str, caption: str, frame: pd.DataFrame, titles: dict[str, str]) -> Table:
    """Return a table in which readers see the labels of paths and kinds, and the CSV has the names."""
    looks = {**PATH_LOOKS, **INDEX_LOOKS}
    shown = frame.copy()
    for column in ("path", "kind"):
        if column in shown:
            shown[column] = [looks[value].label for value in shown[column]]
    readable = frame_table(name, caption, shown, titles)
    return Table(name=name, caption=caption, columns=readable.columns, rows=readable.rows, data=frame)
