"""The result tables: Table 1 (methods), Table 2 (ablation), Table 4 (data sets), and data of figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from reports.evidence.paired import Ranks
from reports.paper.published import ablation_value
from reports.sections.methods import GROUPS, MethodStyle
from reports.sections.results import ABLATION_ROWS, CANDIDATES, FEATURES, METRICS, Accuracy, Section
from reports.wording.tables import CHECK, DAGGER, MISSING, Column, Table, display, frame_table, mean_and_error
from reports.wording.wording import words

_METRIC_TITLES = {
    "ndcg@5": "NDCG@5",
    "hit@5": "Hit@5",
    "ndcg@10": "NDCG@10",
    "hit@10": "Hit@10",
    "ndcg@20": "NDCG@20",
    "hit@20": "Hit@20",
    "mrr": "MRR",
}
_MARKS: tuple[Literal["best", "second"], ...] = ("best", "second")
_PAPER_COLUMNS = (("Sport", "Hit@5"), ("Sport", "NDCG@5"), ("Art", "Hit@5"), ("Art", "NDCG@5"))


def candidate_words(candidates: str, entries: Iterable[Accuracy]) -> str:
    """Return what the target is ranked among, such as ``target among 100 sampled items``.

    Args:
        candidates: ``sampled`` or ``full``.
        entries: What was evaluated.
    """
    if candidates == "full":
        return "whole catalogue"
    records = [record for entry in entries for record in entry.records]
    numbers = sorted({int(record.config.get("evaluation", {}).get("negatives", 100)) for record in records})
    return f"target among {words(numbers)} sampled items"


def in_order(frame: pd.DataFrame, styles: Mapping[str, MethodStyle], *then: str) -> pd.DataFrame:
    """Return the rows in the order of the methods, then of further columns.

    Args:
        frame: Has a column method.
        styles: Look of each method, in order.
        then: Further columns to sort by.
    """
    places = {name: place for place, name in enumerate(styles)}
    ordered = frame.assign(_place=frame["method"].map(places)).sort_values(["_place", *then])
    return ordered.drop(columns="_place").reset_index(drop=True)


def data_table(
    name: str, caption: str, frame: pd.DataFrame, titles: dict[str, str], styles: Mapping[str, MethodStyle]
) -> Table:
    """Return the data of a figure as a table: readers see the methods' labels, the CSV has their names.

    Args:
        name: File name without its ending.
        caption: One line.
        frame: Tidy data with a column method.
        titles: Titles that replace column names.
        styles: Look of each method.
    """
    shown = frame.assign(method=[styles[method].label for method in frame["method"]])
    readable = frame_table(name, caption, shown, titles)
    return Table(name=name, caption=caption, columns=readable.columns, rows=readable.rows, data=frame)


def accuracy_frame(variants: Iterable[Accuracy]) -> pd.DataFrame:
    """Return all metrics in tidy form: one row per method, candidates and metric."""
    rows: list[dict[str, Any]] = []
    for entry in variants:
        for candidates in CANDIDATES:
            for metric in METRICS:
                mean, error = entry.value(candidates, metric)
                rows.append(
                    {
                        "method": entry.method,
                        "candidates": candidates,
                        "metric": metric,
                        "mean": mean,
                        "stderr": error,
                        "stderr_over": _error_source(entry, error),
                        "seeds": len(entry.records),
                        "users": entry.users,
                    }
                )
    return pd.DataFrame(rows)


def table1(
    variants: Sequence[Accuracy],
    styles: Mapping[str, MethodStyle],
    section: Section,
    name: str,
    candidates: str,
    ranks: Ranks,
) -> Table:
    """Return the comparison in the form of the paper's Table 1: a row per metric, a column per method.

    The best method of each row is bold, the second underlined. A dagger at NDCG@10 says that the two differ over
    users; the p value is in the data, in the row of the best.

    Args:
        variants: One per method.
        styles: Look of each method.
        section: Data set and LLM.
        name: File name without its ending.
        candidates: ``sampled`` or ``full``.
        ranks: The stored ranks of the variants' cells.
    """
    entries = sorted(variants, key=lambda entry: GROUPS.index(styles[entry.method].group))
    columns = [Column(title="Dataset", align="l"), Column(title="Metric", align="l")]
    columns += [
        Column(title=styles[entry.method].label, group=styles[entry.method].group) for entry in entries
    ]
    rows = [
        [section.dataset, title, *(mean_and_error(*entry.value(candidates, metric)) for entry in entries)]
        for metric, title in _METRIC_TITLES.items()
    ]
    frame = accuracy_frame(entries)
    frame = frame[frame["candidates"] == candidates].reset_index(drop=True)
    frame.insert(0, "dataset", section.dataset)
    frame["p_against_second"] = math.nan
    marks: dict[tuple[int, int], Literal["best", "second"]] = {}
    tested = False
    for line, metric in enumerate(_METRIC_TITLES):
        means = [entry.value(candidates, metric)[0] for entry in entries]
        known = [place for place, mean in enumerate(means) if math.isfinite(mean)]
        order = sorted(known, key=lambda place: means[place], reverse=True)
        marks |= {(line, place + 2): mark for place, mark in zip(order, _MARKS, strict=False)}
        if metric != "ndcg@10" or len(order) < 2:
            continue
        best, second = (entries[place] for place in order[:2])
        p = ranks.p_value(best.records, second.records, candidates)
        if p is not None:
            tested = True
            frame.loc[(frame["method"] == best.method) & (frame["metric"] == metric), "p_against_second"] = p
            if p < 0.05:
                number, sign, error = rows[line][order[0] + 2].partition(" ± ")
                rows[line][order[0] + 2] = f"{number}{DAGGER}{sign}{error}"
    caption = f"Accuracy of the methods, {candidate_words(candidates, variants)}, {section.title}"
    caption += ". Best bold, second underlined"
    if tested:
        caption += f"; {DAGGER} the best NDCG@10 differs from the second: p < 0.05, paired permutation test over users"
    return Table(name=name, caption=caption, columns=columns, rows=rows, data=frame, marks=marks)


def table2(
    rows: Mapping[str, Accuracy], section: Section, name: str, candidates: str, other: str = ""
) -> Table:
    """Return the ablation in the form of the paper's Table 2, the paper's numbers beside where they compare.

    Args:
        rows: Variants of a method by row; missing rows show as dashes.
        section: Data set and LLM.
        name: File name without its ending.
        candidates: ``sampled``, which the paper uses, or ``full``.
        other: Label of the method where it is not I-LLMRec, whose ablation the paper does not have.
    """
    metrics = ("hit@5", "ndcg@5", "hit@10", "ndcg@10")
    paper = _PAPER_COLUMNS if candidates == "sampled" and not other else ()
    subject = f" of {other}" if other else ""
    columns = [
        Column(title="Row", align="c"),
        Column(title="RISA", align="c"),
        Column(title="Image", align="c", group="RERI"),
        Column(title="CF", align="c", group="RERI"),
        Column(title="Text", align="c", group="RERI"),
        Column(title="Seeds", group=""),
        *(Column(title=_METRIC_TITLES[metric], group=section.dataset) for metric in metrics),
        *(Column(title=metric, group=f"Paper: {dataset}") for dataset, metric in paper),
    ]
    shown: list[list[str]] = []
    data: list[dict[str, Any]] = []
    for row, (risa, features) in ABLATION_ROWS.items():
        entry = rows.get(row)
        values = {metric: entry.value(candidates, metric) if entry else (math.nan,) * 2 for metric in metrics}
        marks = [risa, *(feature in features for feature in FEATURES)]
        published = {(dataset, metric): ablation_value(row, dataset, metric) for dataset, metric in paper}
        shown.append(
            [
                f"({row})",
                *(CHECK if mark else "" for mark in marks),
                str(len(entry.records)) if entry else MISSING,
                *(mean_and_error(*values[metric]) for metric in metrics),
                *(f"{value:.4f}" for value in published.values()),
            ]
        )
        record: dict[str, Any] = {"dataset": section.dataset, "row": row, "candidates": candidates}
        record |= dict(zip(("risa", *FEATURES), map(int, marks), strict=True))
        record["seeds"] = len(entry.records) if entry else 0
        record["stderr_over"] = _error_source(entry, values["ndcg@10"][1]) if entry else ""
        for metric, (mean, error) in values.items():
            record |= {metric: mean, f"{metric}_stderr": error}
        record |= {
            f"paper_{dataset.lower()}_{metric.lower()}": value
            for (dataset, metric), value in published.items()
        }
        data.append(record)
    return Table(
        name=name,
        caption=(
            f"Ablation{subject} of RISA and of RERI's features, {candidate_words(candidates, rows.values())},"
            f" {section.title}"
        ),
        columns=columns,
        rows=shown,
        data=pd.DataFrame(data),
    )


def table4(sections: Sequence[Section]) -> Table:
    """Return the statistics of the data sets in the form of the paper's Table 4.

    Args:
        sections: Sections of the store; each data set is listed once.
    """
    once = {section.fingerprint: section for section in sections}
    keys = ("users", "items", "interactions", "avg_length", "images", "descriptions")
    data = pd.DataFrame(
        [
            {"dataset": section.dataset, "fingerprint": section.fingerprint}
            | {key: section.statistics.get(key) for key in keys}
            for section in once.values()
        ]
    )
    titles = ("# Users", "# Items", "# Interactions", "Avg. Len", "With image", "With description")
    rows = []
    for record in data.to_dict("records"):
        counts = [display(record[key]) for key in keys[:3]]
        length = MISSING if pd.isna(record["avg_length"]) else f"{record['avg_length']:.2f}"
        shares = [MISSING if pd.isna(record[key]) else f"{record[key]:.0%}" for key in keys[4:]]
        rows.append([record["dataset"], *counts, length, *shares])
    return Table(
        name="table4",
        caption="Statistics of the data sets",
        columns=[Column(title="Dataset", align="l"), *(Column(title=title) for title in titles)],
        rows=rows,
        data=data,
    )


def _error_source(entry: Accuracy, error: float) -> str:
    if not math.isfinite(error):
        return ""
    return "seeds" if len(entry.records) > 1 else "users"
