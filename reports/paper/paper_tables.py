"""Tables in the form of the paper's, measured numbers and published ones side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from reports.paper.published import published
from reports.sections.section import Section
from reports.wording.tables import MISSING, Column, Table, display, mean_and_error

METRICS = {"hit@5": "Hit@5", "ndcg@5": "NDCG@5", "hit@10": "Hit@10", "ndcg@10": "NDCG@10"}
"""Metrics of these tables, with their titles; the paper prints the first two."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of such a table.

    Attributes:
        labels: What tells lines apart, by the title of its column.
        measured: Mean and standard error by metric; empty for a line that only the paper has.
        seeds: Number of seeds behind them.
        costs: Further numbers, by the title of their column.
        paper: Published values by data set and title of the metric; empty for a line that the paper lacks.
    """

    labels: Mapping[str, str]
    measured: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    seeds: int = 0
    costs: Mapping[str, float] = field(default_factory=dict)
    paper: Mapping[tuple[str, str], float] = field(default_factory=dict)


def seed_means(frame: pd.DataFrame) -> tuple[dict[str, tuple[float, float]], int]:
    """Return mean and standard error of each of ``METRICS`` among sampled candidates, and the number of seeds.

    Args:
        frame: Rows of one setting, one per seed and kind of candidates: columns candidates, the metrics and their
            ``stderr_``. The error is that of the seeds, or over users where there is one seed.
    """
    rows = frame[frame["candidates"] == "sampled"]
    found = {}
    for metric in METRICS:
        values = rows[metric].astype(float)
        error = rows[f"stderr_{metric}"].astype(float).iloc[0] if len(values) == 1 else values.sem()
        found[metric] = (float(values.mean()), float(error))
    return found, len(rows)


def published_lines(name: str, keys: Sequence[str]) -> dict[tuple[str, ...], dict[tuple[str, str], float]]:
    """Return the values of a published table by data set and metric, for each of its lines.

    Args:
        name: A key of ``reports.paper.published.TABLES`` whose table has the columns dataset, metric and value.
        keys: Its columns that tell lines apart.
    """
    lines: dict[tuple[str, ...], dict[tuple[str, str], float]] = {}
    for row in published(name).to_dict("records"):
        line = lines.setdefault(tuple(str(row[key]) for key in keys), {})
        line[str(row["dataset"]), str(row["metric"])] = float(row["value"])
    return lines


def side_by_side(section: Section, name: str, caption: str, lines: Sequence[Line]) -> Table:
    """Return a table of lines, the paper's columns last.

    Args:
        section: Data set and LLM of what was measured.
        name: File name without its ending and the section's.
        caption: One line.
        lines: With the same labels and costs each.
    """
    labels = list(lines[0].labels)
    costs = list(dict.fromkeys(title for line in lines for title in line.costs))
    paper = list(dict.fromkeys(place for line in lines for place in line.paper))
    columns = [
        *(Column(title=title, align="l") for title in labels),
        Column(title="Seeds"),
        *(Column(title=title) for title in costs),
        *(Column(title=title, group=section.dataset) for title in METRICS.values()),
        *(Column(title=metric, group=f"Paper: {dataset}") for dataset, metric in paper),
    ]
    rows, data = [], []
    for line in lines:
        values = {metric: line.measured.get(metric, (math.nan, math.nan)) for metric in METRICS}
        rows.append(
            [
                *(line.labels[title] for title in labels),
                str(line.seeds) if line.seeds else MISSING,
                *(display(line.costs.get(title)) for title in costs),
                *(mean_and_error(*pair) for pair in values.values()),
                *(f"{line.paper[place]:.4f}" if place in line.paper else MISSING for place in paper),
            ]
        )
        record: dict[str, Any] = {_column(title): line.labels[title] for title in labels}
        record |= {"seeds": line.seeds} | {_column(title): line.costs.get(title) for title in costs}
        for metric, (mean, error) in values.items():
            record |= {metric: mean, f"{metric}_stderr": error}
        record |= {
            f"paper_{dataset.lower()}_{metric.lower()}": line.paper.get((dataset, metric))
            for dataset, metric in paper
        }
        data.append(record)
    return Table(
        name=f"{name}{section.suffix}", caption=caption, columns=columns, rows=rows, data=pd.DataFrame(data)
    )


def short_name(name: str) -> str:
    """Return the last part of a model's name, which may be a path or have an owner."""
    return name.rstrip("/").rsplit("/", 1)[-1]


def _column(title: str) -> str:
    return title.lower().replace(" ", "_").replace("(", "").replace(")", "")
