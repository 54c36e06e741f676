"""Table 2: what RISA and each feature type add."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from bench.frames.ablation import ROWS
from bench.frames.selection import OURS
from reports.exhibits.exhibit import Exhibit, Shown, gap
from reports.paper.published import ablation_value
from reports.sections.commands import commands
from reports.sections.file_names import method_suffixes
from reports.sections.section import FEATURES, Accuracy, Section
from reports.wording.cautions import variant_notes
from reports.wording.tables import CHECK, METRIC_TITLES, MISSING, Column, Table, mean_and_error
from reports.wording.wording import candidate_words

_METRICS = ("hit@5", "ndcg@5", "hit@10", "ndcg@10")
_PAPER = (("Sport", "Hit@5"), ("Sport", "NDCG@5"), ("Art", "Hit@5"), ("Art", "NDCG@5"))
_STEPS = (("a", "b", "RISA"), ("b", "d", "CF features"), ("d", "e", "text features"))


def exhibits(section: Section) -> list[Shown]:
    """Return rows (a) to (e), with the paper's numbers beside, and the rows of other methods."""
    title = "Table 2. Ablation"
    rows = section.ablation()
    if not rows:
        return [gap(section, title, "no cells of the ablation's rows", "ablation")]
    missing = [row for row in ROWS if row not in rows]
    notes = variant_notes(list(rows.values()), section.styles)
    if missing:
        command = section.command("ablation").replace("a-e", ",".join(missing))
        notes = (f"Missing rows: {', '.join(missing)}. Run {command}", *notes)
    return [
        Exhibit(
            name=f"table2{section.suffix}",
            title=title,
            reading=_changes(rows),
            paper="RISA and each further feature type improve both metrics on Sport and Art (Table 2).",
            notes=notes,
            commands=commands([record for entry in rows.values() for record in entry.records]),
            tables=(
                _table2(section, rows, "table2", "sampled"),
                _table2(section, rows, "table2_full", "full"),
                *_other_methods(section),
            ),
        )
    ]


def _changes(rows: Mapping[str, Accuracy]) -> str:
    """Return what RISA and the feature types change in NDCG@10, as far as the rows are there."""
    values = {row: entry.value("sampled", "ndcg@10")[0] for row, entry in rows.items()}
    steps = [
        f"{what} {values[last] - values[first]:+.4f} ({first} to {last})"
        for first, last, what in _STEPS
        if first in values and last in values
    ]
    if steps:
        return f"Change of NDCG@10 among sampled candidates: {', '.join(steps)}."
    best = max(values, key=lambda row: values[row])
    return f"Row ({best}) reaches NDCG@10 {values[best]:.4f} among sampled candidates."


def _other_methods(section: Section) -> Iterator[Table]:
    """Yield the table of each other method that several rows were trained of."""
    suffixes = method_suffixes(section.styles)
    for method, style in section.styles.items():
        rows = section.ablation(method)
        same = "a" not in rows and "b" in rows and _risa_left_out(rows["b"])
        if same:
            rows["a"] = rows["b"]
        if method != OURS and len(rows) > 1:
            table = _table2(section, rows, f"table2{suffixes[method]}", "sampled", style.label)
            if same:
                table = replace(
                    table, caption=f"{table.caption}. Nothing learns from RISA: (a) and (b) are one"
                )
            yield table


def _risa_left_out(entry: Accuracy) -> bool:
    return all((record.results.get("training") or {}).get("risa_left_out") for record in entry.records)


def _table2(
    section: Section, rows: Mapping[str, Accuracy], name: str, candidates: str, other: str = ""
) -> Table:
    """Return the ablation in the form of the paper's Table 2, the paper's numbers beside where they compare.

    Args:
        section: The section.
        rows: Variants of a method by row; missing rows show as dashes.
        name: File name without its ending and the section's.
        candidates: ``sampled``, which the paper uses, or ``full``.
        other: Label of the method where it is not I-LLMRec, whose ablation the paper does not have.
    """
    paper = _PAPER if candidates == "sampled" and not other else ()
    subject = f" of {other}" if other else ""
    columns = [
        Column(title="Row", align="c"),
        Column(title="RISA", align="c"),
        *(Column(title=title, align="c", group="RERI") for title in ("Image", "CF", "Text")),
        Column(title="Seeds"),
        *(Column(title=METRIC_TITLES[metric], group=section.dataset) for metric in _METRICS),
        *(Column(title=metric, group=f"Paper: {dataset}") for dataset, metric in paper),
    ]
    shown: list[list[str]] = []
    data: list[dict[str, Any]] = []
    for row, (risa, features) in ROWS.items():
        entry = rows.get(row)
        values = {
            metric: entry.value(candidates, metric) if entry else (math.nan,) * 2 for metric in _METRICS
        }
        marks = [risa, *(feature in features for feature in FEATURES)]
        published = {(dataset, metric): ablation_value(row, dataset, metric) for dataset, metric in paper}
        shown.append(
            [
                f"({row})",
                *(CHECK if mark else "" for mark in marks),
                str(len(entry.records)) if entry else MISSING,
                *(mean_and_error(*values[metric]) for metric in _METRICS),
                *(f"{value:.4f}" for value in published.values()),
            ]
        )
        record: dict[str, Any] = {"dataset": section.dataset, "row": row, "candidates": candidates}
        record |= dict(zip(("risa", *FEATURES), map(int, marks), strict=True))
        record["seeds"] = len(entry.records) if entry else 0
        record["stderr_over"] = entry.error_over(values["ndcg@10"][1]) if entry else ""
        for metric, (mean, error) in values.items():
            record |= {metric: mean, f"{metric}_stderr": error}
        record |= {
            f"paper_{dataset.lower()}_{metric.lower()}": value
            for (dataset, metric), value in published.items()
        }
        data.append(record)
    among = candidate_words(candidates, rows.values())
    return Table(
        name=f"{name}{section.suffix}",
        caption=f"Ablation{subject} of RISA and of RERI's features, {among}, {section.title}",
        columns=columns,
        rows=shown,
        data=pd.DataFrame(data),
    )
