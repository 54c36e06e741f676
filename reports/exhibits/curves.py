"""Exhibits of lines: NDCG@10 against what an experiment varies, from its tidy table to figure, table and sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from bench.frames.selection import OURS, latest
from bench.store.cell import Record
from bench.store.store import Store
from reports.drawing.deferred import drawing
from reports.drawing.sweep_figures import Panel, lines_figure
from reports.evidence.evidence import signed
from reports.exhibits.exhibits import Exhibit, Gap, Shown
from reports.sections.file_names import method_suffixes
from reports.sections.methods import MethodStyle
from reports.sections.results import Section
from reports.wording.origins import commands, fill_command
from reports.wording.tables import Table, frame_table
from reports.wording.wording import words

NDCG = "NDCG@10, sampled"
_TITLES = {"series": "line", "x": "at", "mean": "NDCG@10", "stderr": "standard error"}


@dataclass(frozen=True, kw_only=True)
class Source:
    """What the exhibits of a section are made from.

    Attributes:
        section: Data set and LLM.
        records: The cells of the data set and LLM, of any experiment.
        store: The store.
        styles: Look of each method.
        suffix: Ending of the file names.
    """

    section: Section
    records: Sequence[Record]
    store: Store
    styles: Mapping[str, MethodStyle]
    suffix: str

    @property
    def with_prompts(self) -> list[Record]:
        """The cells without accuracy cells of LLM methods that were stored before prompts were counted."""
        return [record for record in self.records if has_prompt(record)]

    def cells(self, records: Sequence[Record], experiment: str) -> list[Record]:
        """Return an experiment's cells on the section's data: with its LLM, and of methods without one.

        Args:
            records: All cells of the store.
            experiment: Its name.
        """
        return [
            record
            for record in latest(records, experiment)
            if record.config["dataset"]["fingerprint"] == self.section.fingerprint
            and (record in self.records or not record.config.get("llm"))
        ]

    def made_by(self, experiment: str) -> tuple[str, ...]:
        """Return the commands of an experiment that left cells, else those of all cells of the section."""
        own = [record for record in self.records if f"bench.{experiment}" in record.command]
        return commands(own or self.records)

    def gap(self, title: str, reason: str, experiment: str) -> Gap:
        """Return what is missing with the command that fills it in."""
        return Gap(title=title, reason=reason, command=fill_command(experiment, self.section))


def has_prompt(record: Record) -> bool:
    """Tell whether a cell says what prompts cost, or is none of an LLM method's accuracy."""
    return record.experiment != "accuracy" or "prompt" in record.results or not record.config.get("llm")


def each_method(
    source: Source, frame: pd.DataFrame, exhibit: Callable[[Source, pd.DataFrame, str], Shown]
) -> list[Shown]:
    """Return an exhibit on I-LLMRec, or the gap that stands for it, and one on each other method that has enough cells.

    Args:
        source: The section.
        frame: Of an experiment, with a column method.
        exhibit: Takes the section, with a suffix of the method's own, the rows of the method and what its title ends
            with; returns the exhibit or a gap.
    """
    shown = [exhibit(source, frame[frame["method"] == OURS], "")]
    suffixes = method_suffixes(source.styles)
    for method, rows in frame[frame["method"] != OURS].groupby("method"):
        own = replace(source, suffix=f"{suffixes[str(method)]}{source.suffix}")
        other = exhibit(own, rows, f", {source.styles[str(method)].label}")
        if isinstance(other, Exhibit):
            shown.append(replace(other, paper=""))  # which has I-LLMRec alone
    return shown


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
    source: Source,
    *,
    name: str,
    title: str,
    panels: Sequence[Panel],
    looks: Mapping[str, MethodStyle],
    varied: str,
    paper: str,
    experiment: str,
    notes: tuple[str, ...] = (),
    tables: tuple[Table, ...] = (),
) -> Exhibit:
    """Return an exhibit of lines with their points as the data of the figure.

    Args:
        source: The section.
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
    reading = change(panels, looks, varied)
    seeds = sorted(set(points["seeds"]))
    over = "seeds" if min(seeds) > 1 else "users"
    return Exhibit(
        name=f"{name}{source.suffix}",
        title=title,
        reading=reading,
        paper=paper,
        notes=(
            f"NDCG@10 among sampled candidates, mean over {words(seeds)} seed{'s' * (seeds != [1])}; whiskers are"
            f" standard errors over {over}.",
            *notes,
        ),
        commands=source.made_by(experiment),
        tables=(
            points_table(f"{name}{source.suffix}", f"{title}, {source.section.title}", points, looks),
            *tables,
        ),
        figure=drawing(lines_figure, panels, looks, source.section.title, NDCG),
        alt=f"Line chart. {reading}",
    )


def change(panels: Iterable[Panel], looks: Mapping[str, MethodStyle], varied: str) -> str:
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


def points_table(name: str, caption: str, points: pd.DataFrame, looks: Mapping[str, MethodStyle]) -> Table:
    """Return the points of lines as a table: readers see the labels, the CSV has the names."""
    shown = points.assign(series=[looks[series].label for series in points["series"]])
    readable = frame_table(name, caption, shown, _TITLES)
    return Table(name=name, caption=caption, columns=readable.columns, rows=readable.rows, data=points)


def no_levels() -> pd.DataFrame:
    """Return no horizontal lines."""
    return pd.DataFrame({"series": [], "mean": []})
