"""Serving: the next recommendation after one more item, read on from what a session keeps, and anew."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.frames import serving
from bench.frames.selection import latest
from bench.store.cell import Record
from reports.drawing.deferred import drawing
from reports.drawing.engine_figures import WAY_LABELS, serving_figure
from reports.exhibits.engine_runs import conditions, newest_runs, subject, where, with_suffixes, without
from reports.exhibits.exhibit import Exhibit, Shown, gap
from reports.sections.commands import commands
from reports.sections.methods import method_styles
from reports.sections.section import Section
from reports.wording.tables import frame_table

_TITLE = "Serving. The next recommendation after one more item"
_COLUMNS = {
    "history_length": "items of history",
    "tokens": "tokens through the LLM",
    "latency_ms_median": "median latency (ms)",
    "latency_ms_p95": "95 % within (ms)",
    "speedup": "times anew",
    "users_per_second": "users/s",
    "megabytes_per_session": "MB a session",
}


def exhibits(section: Section) -> list[Shown]:
    """Return what appending costs against encoding anew, for each data set, LLM and machine."""
    records = latest(section.stored, serving.EXPERIMENT)
    if not records:
        return [gap(section, _TITLE, "no serving cells", serving.EXPERIMENT)]
    varied = ("method", "representation", "heads", "history_length", "summaries", "summarizer")
    runs = newest_runs(records, place=where, run=without(*varied))
    return [_serving(section, suffix, run) for suffix, run in with_suffixes(runs)]


def _serving(section: Section, suffix: str, cells: Sequence[Record]) -> Exhibit:
    frame, users = serving.serving_frame(cells), serving.users_frame(cells)
    config = cells[0].config
    styles = method_styles(frame["method"].unique())
    name, on = f"figure_serving{suffix}", subject(config)
    reading = _speedups(frame, {method: style.label for method, style in styles.items()})
    known = {"method": styles}
    return Exhibit(
        name=name,
        title=_TITLE,
        reading=reading,
        notes=(
            conditions(cells[0]),
            f"{len(config['users'])} users, each alone and {config['sessions']} together, in turns, medians over users"
            f" and {config['repeats']} repeats. Appended: the item and a branch go through the LLM, after the keys and"
            " values that a session keeps; anew: the whole history. Both end with the ten best items; scores are equal"
            " in float32. A window that moves is read anew.",
        ),
        commands=commands(cells),
        tables=(
            frame_table(name, f"One user, {on}", frame, _COLUMNS, known),
            frame_table(f"{name}_users", f"Many sessions at once, {on}", users, _COLUMNS, known),
        ),
        figure=drawing(serving_figure, frame, styles, on),
        alt=f"Line charts of latency against items of history, {' and '.join(WAY_LABELS.values())}. {reading}",
    )


def _speedups(frame: pd.DataFrame, labels: dict[str, str]) -> str:
    """Return how many times as fast appending is at the longest history, by method."""
    longest = frame["history_length"].max()
    rows = frame[(frame["history_length"] == longest) & (frame["way"] == serving.APPEND)]
    parts = [f"{row.speedup:.1f} for {labels[str(row.method)]}" for row in rows.itertuples()]
    return (
        f"Reading {longest} items anew takes so many times as long as appending the last: {', '.join(parts)}."
    )
