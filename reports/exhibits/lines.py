"""Exhibits of lines: NDCG@10 against what an experiment varies, from its tidy table to figure, table and sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from reports.drawing.deferred import drawing
from reports.drawing.sweep_figures import Panel, lines_figure
from reports.exhibits.exhibit import Exhibit, table
from reports.sections.methods import MethodStyle
from reports.sections.section import Section
from reports.wording.tables import Table
from reports.wording.wording import signed, words

POINTS = {"series": "line", "x": "at", "mean": "NDCG@10", "stderr": "standard error"}
"""Columns of the points of lines, with their titles."""


def curves(frame: pd.DataFrame, series: str, x: str) -> pd.DataFrame:
    """Return NDCG@10 among sampled candidates by series and x, over the seeds.

    Args:
        frame: Of an experiment: columns candidates, seed, ndcg@10, stderr_ndcg@10 and those named.
        series: The column that tells lines apart.
        x: The column of what is varied.

    Returns:
        Columns series, x, mean, stderr (over seeds, or over users with one seed), seeds; in the order of the frame.
    """
    sampled = frame[frame["candidates"] == "sampled"]
    rows = []
    for (name, place), group in sampled.groupby([series, x], sort=False):
        values = group["ndcg@10"].astype(float)
        single = len(values) == 1
        error = group["stderr_ndcg@10"].astype(float).iloc[0] if single else values.sem()
        rows.append((name, place, values.mean(), error, len(values)))
    return pd.DataFrame(rows, columns=["series", "x", "mean", "stderr", "seeds"])


def lines_exhibit(
    section: Section,
    *,
    name: str,
    title: str,
    panels: Sequence[Panel],
    looks: Mapping[str, MethodStyle],
    varied: str = "",
    paper: str,
    experiment: str,
    notes: tuple[str, ...] = (),
    tables: tuple[Table, ...] = (),
) -> Exhibit:
    """Return an exhibit of lines with their points as the data of the figure.

    Args:
        section: The section.
        name: File name without its ending and the section's suffix.
        title: Heading.
        panels: The panels of the figure, one at least.
        looks: Look of each series.
        varied: What x counts, after two numbers; empty where that is each panel's axis.
        paper: What the paper says on the same.
        experiment: What computes the cells.
        notes: Besides that on means and errors.
        tables: Besides the points.
    """
    points = pd.concat([panel.curves.assign(varied=panel.xlabel) for panel in panels], ignore_index=True)
    reading = _change(panels, looks, varied)
    seeds = sorted(set(points["seeds"]))
    over = "seeds" if min(seeds) > 1 else "users"
    counted = (
        f"mean over {words(seeds)} seed{'s' * (seeds != [1])}; whiskers are standard errors over {over}."
    )
    return Exhibit(
        name=f"{name}{section.suffix}",
        title=title,
        reading=reading,
        paper=paper,
        notes=(f"NDCG@10 among sampled candidates, {counted}", *notes),
        commands=section.made_by(experiment),
        tables=(table(section, name, title, points, POINTS, {"series": looks}), *tables),
        figure=drawing(lines_figure, panels, looks, section.title, "NDCG@10, sampled"),
        alt=f"Line chart. {reading}",
    )


def _change(panels: Iterable[Panel], looks: Mapping[str, MethodStyle], varied: str) -> str:
    """Return how NDCG@10 changes from the first to the last point of every line."""
    sentences = []
    for panel in panels:
        parts = []
        for name in looks:
            line = panel.curves[panel.curves["series"] == name].sort_values("x")
            if len(line) > 1:
                first, last = line["mean"].iloc[0], line["mean"].iloc[-1]
                parts.append(f"{looks[name].label} {first:.4f} to {last:.4f} ({signed(last - first, 4)})")
        if parts:
            ends = (panel.curves["x"].min(), panel.curves["x"].max())
            span = f"from {ends[0]:g} to {ends[1]:g}"
            opening = f"NDCG@10 {span} {varied}" if varied else f"{panel.xlabel} {span}, NDCG@10"
            sentences.append(f"{opening}: {', '.join(parts)}.")
    return " ".join(sentences) or "One point a line."
