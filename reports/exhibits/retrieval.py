"""Retrieval: recall and speed of indexes on a generated catalogue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.frames import retrieval
from bench.frames.selection import latest
from bench.store.cell import Record
from reports.drawing.deferred import drawing
from reports.drawing.engine_figures import INDEX_LOOKS, retrieval_figure
from reports.exhibits.engine_runs import (
    conditions,
    fastest_and_slowest,
    machine,
    newest_runs,
    with_suffixes,
    without,
)
from reports.exhibits.exhibit import Exhibit, Gap, Shown
from reports.sections.commands import commands
from reports.sections.section import Section
from reports.wording.tables import frame_table

_TITLE = "Retrieval. Recall and speed of indexes on a generated catalogue"
_COLUMNS = {
    "queries_per_second": "queries/s",
    "latency_ms_median": "median latency of one (ms)",
    "latency_ms_p95": "p95 latency of one (ms)",
    "build_seconds": "build (s)",
    "index_mb": "index (MB)",
    "search_memory_mb": "memory of a search (MB)",
    "queries_low": "slowest repeat",
    "queries_high": "fastest repeat",
}


def exhibits(section: Section) -> list[Shown]:
    """Return recall and speed, for each size of the catalogue and machine."""
    records = latest(section.stored, retrieval.EXPERIMENT)
    if not records:
        # The catalogue is generated: data and LLM do not matter.
        return [Gap(title=_TITLE, reason="no retrieval cells", command="python -m bench.retrieval")]
    runs = newest_runs(records, place=_catalogue, run=without("method", "effort", "library"))
    return [_retrieval(section, suffix, run) for suffix, run in with_suffixes(runs)]


def _catalogue(record: Record) -> str:
    sizes = [record.config[name] for name in ("items", "width", "k")]
    return f"{sizes} {machine(record)}"


def _retrieval(section: Section, suffix: str, cells: Sequence[Record]) -> Exhibit:
    low, high = fastest_and_slowest(cells, section.store, batched=True)
    queries = [cell.results["queries"] for cell in cells]
    efforts = [cell.config["effort"] for cell in cells]
    by_cell = pd.DataFrame(
        {
            "kind": [cell.method for cell in cells],
            "effort": [np.nan if effort is None else effort for effort in efforts],
            "queries_low": [count / seconds for count, seconds in zip(queries, high, strict=True)],
            "queries_high": [count / seconds for count, seconds in zip(queries, low, strict=True)],
        }
    )
    frame = retrieval.retrieval_frame(cells).astype({"effort": float})
    frame = frame.merge(by_cell, on=["kind", "effort"], validate="one_to_one")
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
    return Exhibit(
        name=name,
        title=_TITLE,
        reading=reading,
        notes=(
            conditions(cells[0]),
            f"{config['queries']:,} users in one call. Numbers at the points: efforts of the search (HNSW:"
            " candidates kept, IVF-PQ: lists read). Whiskers span the repeats.",
        ),
        commands=commands(cells),
        tables=(frame_table(name, f"Retrieval, {subject}", frame, _COLUMNS, {"kind": INDEX_LOOKS}),),
        figure=drawing(retrieval_figure, frame, subject),
        alt=f"Line chart of queries per second against recall. {reading}",
    )
