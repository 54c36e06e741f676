"""Scaling: seconds against users, history and catalogue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.frames import scaling
from bench.frames.selection import latest
from bench.store.cell import Record
from reports.drawing.deferred import drawing
from reports.drawing.engine_figures import AXIS_LABELS, scaling_figure
from reports.exhibits.engine_runs import (
    conditions,
    fastest_and_slowest,
    machine,
    newest_runs,
    subject,
    where,
    with_suffixes,
    without,
)
from reports.exhibits.exhibit import Exhibit, Shown, gap
from reports.sections.commands import commands
from reports.sections.section import Section
from reports.wording.tables import display, frame_table

_TITLE = "Scaling. Seconds against users, history and catalogue"
_COLUMNS = {
    "seconds_median": "median seconds",
    "exponent_stderr": "standard error of the exponent",
    "seconds_low": "fastest repeat",
    "seconds_high": "slowest repeat",
}


def exhibits(section: Section) -> list[Shown]:
    """Return the power laws, for each data set, LLM and machine."""
    records = latest(section.stored, scaling.EXPERIMENT)
    if not records:
        return [gap(section, _TITLE, "no scaling cells", scaling.EXPERIMENT)]
    return [_scaling(section, suffix, run) for suffix, run in with_suffixes(_runs(records))]


def _runs(records: Sequence[Record]) -> list[list[Record]]:
    """Return the newest curves of each place. A generated catalogue has no data and no LLM: it joins its machine's."""
    ranked = [record for record in records if not record.config.get("dataset")]
    modelled = [record for record in records if record.config.get("dataset")]
    curves = newest_runs(ranked, place=machine, run=without("value"))
    runs: dict[str, list[Record]] = defaultdict(list)
    for curve in newest_runs(
        modelled, place=lambda cell: f"{where(cell)} {cell.config['axis']}", run=without("value")
    ):
        runs[where(curve[0])] += curve
    machines = {machine(members[0]) for members in runs.values()}
    beside = {machine(curve[0]): curve for curve in curves}
    together = [[*members, *beside.get(machine(members[0]), ())] for members in runs.values()]
    return together + [curve for curve in curves if machine(curve[0]) not in machines]


def _scaling(section: Section, suffix: str, cells: Sequence[Record]) -> Exhibit:
    low, high = fastest_and_slowest(cells, section.store)
    by_cell = pd.DataFrame(
        {
            "axis": [cell.config["axis"] for cell in cells],
            "value": [cell.config["value"] for cell in cells],
            "seconds_low": low,
            "seconds_high": high,
        }
    )
    frame = scaling.scaling_frame(cells).astype({"axis": str})
    frame = frame.merge(by_cell, on=["axis", "value"], validate="one_to_one")
    name, on = f"figure_scaling{suffix}", subject(cells[0].config)
    reading = _growth(frame)
    return Exhibit(
        name=name,
        title=_TITLE,
        reading=reading,
        notes=(
            conditions(cells[0]),
            "Users and history: from item ids to scores of the whole catalogue. Catalogue: scores and exact top"
            " of random projections, without the LLM. Medians over repeats, whiskers span the repeats; dashed:"
            " the power law fitted by least squares on logarithms.",
        ),
        commands=commands(cells),
        tables=(frame_table(name, f"Scaling, {on}", frame, _COLUMNS),),
        figure=drawing(scaling_figure, frame, on),
        alt=f"Line charts of seconds on logarithmic axes. {reading}",
    )


def _growth(frame: pd.DataFrame) -> str:
    """Return the fitted exponents, and what was measured where one point has none."""
    parts = []
    for axis, label in AXIS_LABELS.items():
        rows = frame[frame["axis"] == axis]
        if rows.empty:
            continue
        exponent, error = (float(rows[name].iloc[0]) for name in ("exponent", "exponent_stderr"))
        if not np.isfinite(exponent):
            first = display(rows["seconds_median"].iloc[0])
            parts.append(f"{label.lower()}: {first} s at {rows['value'].iloc[0]:,}")
            continue
        known = f" ± {error:.2f}" if np.isfinite(error) else ""
        parts.append(
            f"{label.lower()}: exponent {exponent:.2f}{known} from {rows['value'].min():,} to"
            f" {rows['value'].max():,} ({display(rows['seconds_median'].min())} to"
            f" {display(rows['seconds_median'].max())} s)"
        )
    return f"Seconds grow as a power of {'; '.join(parts)}."
