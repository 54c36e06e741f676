"""Table 1: the accuracy of all methods."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from bench.frames.selection import CANDIDATES
from bench.protocol.metrics import METRICS
from bench.protocol.statistics import LEAST_RUNS, paired_interval
from reports.drawing.deferred import drawing
from reports.drawing.figures import accuracy_figure
from reports.exhibits import comparison_estimated, headline
from reports.exhibits.exhibit import Exhibit, Shown, gap, table
from reports.sections.commands import commands
from reports.sections.methods import GROUPS, MethodStyle, is_floor
from reports.sections.section import Accuracy, Section
from reports.wording.cautions import variant_notes
from reports.wording.tables import DAGGER, METRIC_TITLES, Column, Table, mean_and_error
from reports.wording.wording import candidate_words, label, listing, runs_said, signed

_CANDIDATES = {"sampled": "NDCG@10, sampled candidates", "full": "NDCG@10, whole catalogue"}
_MARKS: tuple[Literal["best", "second"], ...] = ("best", "second")


def exhibits(section: Section) -> list[Shown]:
    """Return the accuracy of all methods: bars with standard errors and the table in the form of Table 1."""
    title = "Table 1. Accuracy of the methods"
    styles, variants = section.styles, section.headline
    if len(variants) < 2:
        return [gap(section, title, "accuracy cells of fewer than two methods", "comparison")]
    shown = [variants[name] for name in styles if name in variants]
    frame = _accuracy(shown)
    ndcg = frame[frame["metric"] == "ndcg@10"]
    sampled = ndcg[ndcg["candidates"] == "sampled"].sort_values("mean", ascending=False)
    first, second = sampled.iloc[0], sampled.iloc[1]
    over = {"stderr_over": "standard error over"}
    return [
        *headline.exhibits(section),
        Exhibit(
            name=f"accuracy{section.suffix}",
            title=title,
            reading=(
                f"The two highest means of NDCG@10 among sampled candidates are those of {label(first, styles)}"
                f" ({first['mean']:.4f}) and {label(second, styles)} ({second['mean']:.4f}):"
                f" {_told_apart(section, first['method'], second['method'])}."
            ),
            paper="The published Table 1 is below, under Published numbers.",
            notes=(
                *variant_notes(shown, styles),
                *dropped_notes(shown, styles),
                *summary_notes(shown, styles),
                *scores_notes(shown, styles),
            ),
            commands=commands([record for entry in shown for record in entry.records]),
            tables=(
                table(section, "accuracy", "Accuracy of the methods", frame, over, {"method": styles}),
                _table1(section, shown, "table1", "sampled"),
                _table1(section, shown, "table1_full", "full"),
            ),
            figure=drawing(accuracy_figure, ndcg, styles, section.title, _CANDIDATES),
            alt=listing("Bar chart of NDCG@10 among sampled candidates", sampled, "mean", styles, "{:.3f}"),
        ),
        *comparison_estimated.exhibits(section),
    ]


def _told_apart(section: Section, first: str, second: str) -> str:
    """Say whether two methods differ among sampled candidates, over training runs and users."""
    left, right = (section.headline[name].records for name in (first, second))
    both = section.ranks.paired(left, right, "sampled")
    if both is None:
        return "without ranks nothing tells whether they differ"
    found = paired_interval(both)
    ends = f"{signed(found.low, 4)} to {signed(found.high, 4)}"
    decided = found.low > 0 or found.high < 0
    if decided and found.seeds < LEAST_RUNS and not all(map(is_floor, (first, second))):
        return f"the difference is {ends}, of {runs_said(found.seeds)}, which decides nothing"
    return f"the difference is {ends}, so that they {'differ' if decided else 'cannot be told apart'}"


def _accuracy(variants: Iterable[Accuracy]) -> pd.DataFrame:
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
                        "stderr_over": entry.error_over(error),
                        "seeds": len(entry.records),
                        "users": entry.users,
                    }
                )
    return pd.DataFrame(rows)


def _table1(section: Section, variants: Sequence[Accuracy], name: str, candidates: str) -> Table:
    """Return the comparison in the form of the paper's Table 1: a row per metric, a column per method.

    The best method of each row is bold, the second underlined. A dagger at NDCG@10 says that the two differ over
    users; the p value is in the data, in the row of the best.
    """
    styles = section.styles
    entries = sorted(variants, key=lambda entry: GROUPS.index(styles[entry.method].group))
    columns = [Column(title="Dataset", align="l"), Column(title="Metric", align="l")]
    columns += [
        Column(title=styles[entry.method].label, group=styles[entry.method].group) for entry in entries
    ]
    rows = [
        [section.dataset, title, *(mean_and_error(*entry.value(candidates, metric)) for entry in entries)]
        for metric, title in METRIC_TITLES.items()
    ]
    frame = _accuracy(entries)
    frame = frame[frame["candidates"] == candidates].reset_index(drop=True)
    frame.insert(0, "dataset", section.dataset)
    frame["p_against_second"] = math.nan
    marks: dict[tuple[int, int], Literal["best", "second"]] = {}
    tested = False
    for line, metric in enumerate(METRIC_TITLES):
        means = [entry.value(candidates, metric)[0] for entry in entries]
        known = [place for place, mean in enumerate(means) if math.isfinite(mean)]
        order = sorted(known, key=lambda place: means[place], reverse=True)
        marks |= {(line, place + 2): mark for place, mark in zip(order, _MARKS, strict=False)}
        if metric != "ndcg@10" or len(order) < 2:
            continue
        best, second = (entries[place] for place in order[:2])
        both = section.ranks.paired(best.records, second.records, candidates)
        found = None if both is None else paired_interval(both)
        # One training run or two decide nothing; floors are not trained.
        if found is not None and (
            found.seeds >= LEAST_RUNS or all(is_floor(e.method) for e in (best, second))
        ):
            tested, p = True, found.p_value
            frame.loc[(frame["method"] == best.method) & (frame["metric"] == metric), "p_against_second"] = p
            if p < 0.05:
                number, sign, error = rows[line][order[0] + 2].partition(" ± ")
                rows[line][order[0] + 2] = f"{number}{DAGGER}{sign}{error}"
    caption = f"Accuracy of the methods, {candidate_words(candidates, variants)}, {section.title}"
    caption += ". Best bold, second underlined"
    if tested:
        caption += f"; {DAGGER} the best NDCG@10 differs from the second: p < 0.05, paired over training runs and users"
    return Table(
        name=f"{name}{section.suffix}", caption=caption, columns=columns, rows=rows, data=frame, marks=marks
    )


def dropped_notes(entries: Sequence[Accuracy], styles: Mapping[str, MethodStyle]) -> tuple[str, ...]:
    """Return a sentence on the methods whose histories the LLM's positions cut, where nobody asked for a budget."""
    cut = []
    for entry in entries:
        costs = [
            record.results.get("prompt") or {} for record in entry.records if not record.config.get("context")
        ]
        found = [float(each.get("dropped_items") or 0) for each in costs]
        if found and (mean := sum(found) / len(found)):
            length = entry.records[-1].config.get("history_length")
            cut.append(f"{styles[entry.method].label} {mean:{'.1f' if mean >= 0.1 else '.1g'}} of {length}")
    if not cut:
        return ()
    return (
        "Caution. Histories are cut to the LLM's positions, the oldest items first; dropped of each user's items, on"
        f" average: {', '.join(cut)}.",
    )


def summary_notes(entries: Sequence[Accuracy], styles: Mapping[str, MethodStyle]) -> tuple[str, ...]:
    """Return a sentence on the summaries of each method that shows some; on those of several methods, once."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        # Cells of before say nothing of their summaries.
        report = entry.records[-1].results.get("summaries")
        if report:
            found.setdefault(_summaries(report), []).append(styles[entry.method].label)
    return tuple(f"Summaries of {' and '.join(labels)}: {sentence}" for sentence, labels in found.items())


def scores_notes(entries: Sequence[Accuracy], styles: Mapping[str, MethodStyle]) -> tuple[str, ...]:
    """Return a sentence on each method whose scores were made elsewhere: of how many users they lack."""
    found = []
    for entry in entries:
        report = entry.records[-1].results.get("scores")
        if report:
            lacking = report["users_without_rows"]
            said = f"{styles[entry.method].label}: {report['rows']:,} scores made elsewhere"
            if lacking:
                said += f"; {lacking:,} of {entry.users:,} users have none, and their target is ranked last"
            found.append(f"{said}.")
    return tuple(found)


def _summaries(report: Mapping[str, Any]) -> str:
    written = f"{report['generated']:,} were written by {report['summarizer']}" if report["generated"] else ""
    if written:
        written += (
            f" in {report['seconds']:,.0f} s ({report['cut']:,} of them cut at a limit or read in chunks)"
        )
    parts = (
        f"{report['given']:,} came with the data" if report["given"] else "",
        f"{report['kept']:,} are short descriptions, kept as they are" if report["kept"] else "",
        written,
        f"{report['attributes_only']:,} are title and attributes alone" if report["attributes_only"] else "",
    )
    length = f"{report['mean_words']:.0f} words"
    if report["mean_tokens"] is not None:
        length += f" or {report['mean_tokens']:.0f} tokens"
    return f"of {report['items']:,}, {', '.join(filter(None, parts))}; {length} on average."
