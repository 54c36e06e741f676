"""Exhibits of the sweeps: what changes as the context, the history, the images or the groups of users do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pandas as pd

from bench.frames import (
    context_budget,
    item_popularity,
    sequence_length,
    token_cost,
    tradeoff,
    unseen_items,
    user_activity,
)
from bench.frames.selection import ACCURACY, OURS
from bench.store.cell import Record
from bench.store.store import Store
from reports.drawing.deferred import drawing
from reports.drawing.sweep_figures import Panel, ranges_figure
from reports.exhibits.curves import (
    Source,
    curves,
    each_method,
    has_prompt,
    lines_exhibit,
    no_levels,
    points_table,
)
from reports.exhibits.exhibits import Exhibit, Shown
from reports.exhibits.growth_exhibit import growth_exhibits
from reports.exhibits.picture_exhibits import (
    figure_types_exhibit,
    missing_exhibits,
    overlap_exhibits,
    quality_exhibits,
)
from reports.exhibits.preparation_exhibit import preparation_exhibit
from reports.exhibits.result_tables import data_table, in_order
from reports.exhibits.robustness import robustness_exhibits
from reports.exhibits.strategy_exhibits import backbone_exhibits, strategy_exhibits
from reports.exhibits.time_to_accuracy_exhibit import time_to_accuracy_exhibit
from reports.exhibits.tune_exhibit import tune_exhibit
from reports.sections.methods import FEATURE_LOOKS, MethodStyle
from reports.sections.results import Section, llm_label
from reports.wording.origins import session_notes
from reports.wording.tables import Table, frame_table
from reports.wording.wording import words

_BUDGETS = {
    "method": "method",
    "context": "budget (tokens)",
    "prompt_tokens": "tokens of a prompt",
    "dropped_items": "items dropped",
    "dropped_tokens": "tokens dropped",
    "latency_ms_median": "latency of one user (ms)",
    "ndcg@10": "NDCG@10",
}
"""Columns of the context budgets, with their titles."""

_TRADEOFF = {
    "history_length": "|S_u|",
    "method": "method",
    "latency_ms_median": "latency of one user (ms)",
    "ndcg@10": "NDCG@10",
    "stderr_ndcg@10": "standard error",
    "tokens_per_item": "tokens an item",
    "users_per_second": "users a second",
    "peak_memory_mb": "peak memory (MB)",
    "on_front": "Pareto front",
}
"""Columns of the trade-off at each length of history, with their titles."""


def sweep_exhibits(
    section: Section,
    records: Sequence[Record],
    styles: Mapping[str, MethodStyle],
    suffix: str,
    store: Store,
) -> list[Shown]:
    """Return the exhibits of the sweeps in the order of the page; a section without an LLM has none.

    Args:
        section: What the store holds on one data set and LLM.
        records: All cells of the store.
        styles: Look of each method of the store.
        suffix: Ending of the file names, which tells sections apart.
        store: The store, for ranks and distributions.
    """
    if not section.llm:
        return []
    own = tuple(record for record in records if _belongs(record, section))
    compared = _of_several_sets(own)
    source = Source(section=section, records=own, store=store, styles=styles, suffix=suffix)
    return [
        _tokens(source),
        *_tradeoff(source),
        *overlap_exhibits(source, [record for record in records if has_prompt(record)]),
        _length(source),
        _context(source),
        *robustness_exhibits(source),
        *strategy_exhibits(source),
        *each_method(source, item_popularity.frame(compared, store), _popularity),
        *each_method(source, user_activity.frame(compared, store), _activity),
        *each_method(source, unseen_items.frame(compared, store), _unseen),
        *missing_exhibits(source),
        *quality_exhibits(source),
        figure_types_exhibit(source),
        *backbone_exhibits(source, records),
        *growth_exhibits(source),
        time_to_accuracy_exhibit(source, records),
        tune_exhibit(source, records),
        preparation_exhibit(source),
    ]


def _tradeoff(source: Source) -> list[Shown]:
    """Return the front of Figure 1(b) at each length of history; nothing where that figure itself is a gap."""
    frame = tradeoff.frame(source.with_prompts, source.store)
    frame = frame[(frame["candidates"] == "sampled") & frame["method"].isin(list(source.styles))]
    frame = frame[frame["llm"] == source.section.llm]
    if frame.empty:
        return []
    lengths = frame["history_length"].nunique()
    places = []
    for name, rows in frame[frame["on_front"]].groupby("method"):
        where = (
            "at every length" if len(rows) == lengths else f"at |S_u| = {words(list(rows['history_length']))}"
        )
        places.append(f"{source.styles[str(name)].label} {where}")
    name = f"figure1b_lengths{source.suffix}"
    title = "Figure 1(b) at each length of history"
    shown = in_order(frame, source.styles, "history_length")[[*_TRADEOFF]]
    return [
        Exhibit(
            name=name,
            title=title,
            reading=f"On the Pareto front of latency and NDCG@10: {', '.join(places)}.",
            paper="The paper draws one point a representation (Figure 1(b)).",
            notes=session_notes(frame["session"]),
            commands=source.made_by("tradeoff"),
            tables=(data_table(name, f"{title}, {source.section.title}", shown, _TRADEOFF, source.styles),),
        )
    ]


def _context(source: Source) -> Shown:
    title = "Figure 4. Accuracy within a context budget"
    frame = context_budget.frame(source.with_prompts, source.store)
    points = curves(frame, "method", "context")
    if points["x"].nunique() < 2:
        return source.gap(title, "no accuracy cells at several context budgets", "context_budget")
    return lines_exhibit(
        source,
        name="figure4",
        title=title,
        panels=[Panel(curves=points, levels=no_levels(), xlabel="Context budget in tokens", doubling=True)],
        looks=source.styles,
        varied="tokens of context",
        paper=(
            "Below 512 tokens TRSR and I-LLMRec+ decline sharply; I-LLMRec and TALLRec stay stable down to 256, TALLRec"
            " at a lower level (Section 4.3)."
        ),
        experiment="context_budget",
        notes=session_notes(frame["session"]),
        tables=(_budget_table(source, frame),),
    )


def _budget_table(source: Source, frame: pd.DataFrame) -> Table:
    """Return what each budget leaves of a prompt, what it drops, and the latency, as means over seeds."""
    sampled = frame[frame["candidates"] == "sampled"]
    means = sampled.groupby(["method", "context"], sort=False)[list(_BUDGETS)[2:]].mean().reset_index()
    # Of old cells, whose latency was not measured, that column says nothing.
    shown = in_order(means, source.styles, "context")[[*_BUDGETS]].dropna(axis="columns", how="all")
    name = f"figure4_budgets{source.suffix}"
    return data_table(
        name, f"Within a context budget, {source.section.title}", shown, _BUDGETS, source.styles
    )


def _length(source: Source) -> Shown:
    title = "Figure 3 with accuracy. NDCG@10 against the length of history that is read"
    points = curves(sequence_length.frame(source.records, source.store), "method", "history_length")
    # A method that was read at one length only, as it was trained, is in no sweep.
    points = points[points.groupby("series")["x"].transform("nunique") > 1]
    if points["x"].nunique() < 2:
        return source.gap(title, "no accuracy cells at several lengths of history", "sequence_length")
    return lines_exhibit(
        source,
        name="figure3_accuracy",
        title=title,
        panels=[Panel(curves=points, levels=no_levels(), xlabel="Items of the history that are read, |S_u|")],
        looks=source.styles,
        varied="items of history",
        paper="Figure 3 has latency only; TALLRec's surpasses that of I-LLMRec at long histories (Section 4.3).",
        experiment="sequence_length",
    )


def _popularity(source: Source, frame: pd.DataFrame, of: str) -> Shown:
    return _by_group(
        source,
        frame,
        name="figure6",
        title=f"Figure 6. Accuracy by popularity of the test item{of}",
        groups="Group of items, 1 = coldest fifth of the catalogue",
        lacking="no popularity of the test items for several feature sets",
        paper=(
            "Image features beat CF features for cold items, CF features pass them in group 5; together they help in"
            " both, and text features help everywhere (Section 4.4)."
        ),
        experiment="item_popularity",
    )


def _activity(source: Source, frame: pd.DataFrame, of: str) -> Shown:
    return _by_group(
        source,
        frame,
        name="figure11",
        title=f"Figure 11. Accuracy by length of the user's sequence{of}",
        groups="Group of users, 1 = shortest fifth of the histories",
        lacking="no cells of several feature sets",
        paper=(
            "Image features beat CF features in every group, each further feature type helps, and all decline as"
            " sequences get longer (Appendix E.7)."
        ),
        experiment="user_activity",
    )


def _by_group(
    source: Source,
    frame: pd.DataFrame,
    *,
    name: str,
    title: str,
    groups: str,
    lacking: str,
    paper: str,
    experiment: str,
) -> Shown:
    """Return accuracy by feature set in the five groups of a frame, or a gap with fewer than two feature sets."""
    points = curves(frame, "features", "group")
    if points["series"].nunique() < 2:
        return source.gap(title, lacking, experiment)
    return lines_exhibit(
        source,
        name=name,
        title=title,
        panels=[Panel(curves=points, levels=no_levels(), xlabel=groups)],
        looks=FEATURE_LOOKS,
        varied="",
        paper=paper,
        experiment=experiment,
    )


def _unseen(source: Source, frame: pd.DataFrame, of: str) -> Shown:
    title = f"Appendix E.6. Users whose test item is not in training{of}"
    points = curves(frame, "features", "group")
    unseen = points[points["x"] == "unseen"]
    # Of another method, one feature set is what the comparison leaves behind.
    if unseen.empty or (of and points["series"].nunique() < 2):
        return source.gap(title, "no user with a test item that is not in training", "unseen_items")
    users = frame.loc[frame["group"] == "unseen", "users"].max()
    shown = [f"{FEATURE_LOOKS[row['series']].label} {row['mean']:.4f}" for row in unseen.to_dict("records")]
    return Exhibit(
        name=f"table_unseen{source.suffix}",
        title=title,
        reading=f"NDCG@10 of the {users} users whose test item is not in training: {', '.join(shown)}.",
        paper="CF features alone are near zero; image features reach Hit@5 0.3245 on Sport and 0.0689 on Art.",
        commands=source.made_by("unseen_items"),
        tables=(
            points_table(
                f"table_unseen{source.suffix}", f"{title}, {source.section.title}", points, FEATURE_LOOKS
            ),
        ),
    )


def _of_several_sets(records: Sequence[Record]) -> list[Record]:
    """Return cells without those of methods that the comparison alone has left, whose ranks need not be read here."""
    sets: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for record in records:
        if record.experiment == ACCURACY:
            sets[record.method].add(tuple(record.config.get("features") or ()))
    return [
        record
        for record in records
        if record.experiment != ACCURACY or record.method == OURS or len(sets[record.method]) > 1
    ]


def _tokens(source: Source) -> Shown:
    title = "Figure 1(a) as distributions. Tokens of an item and of a prompt"
    frame = token_cost.frame(source.records, source.store)
    frame = frame[frame["method"].isin(list(source.styles))].drop_duplicates(["method", "unit"], keep="last")
    if frame.empty:
        return source.gap(title, "no distributions of tokens for this LLM", "token_cost")
    parts = [
        (label, frame[frame["unit"] == unit])
        for unit, label in (("item", "Tokens of an item"), ("prompt", "Tokens of a prompt"))
    ]
    item = parts[0][1].sort_values("median")
    values = [
        f"{source.styles[row['method']].label} {row['median']:.0f} (95th percentile {row['p95']:.0f})"
        for row in item.to_dict("records")
    ]
    shown = frame.assign(method=[source.styles[name].label for name in frame["method"]])
    shown = shown.drop(columns=["dataset", "fingerprint", "llm"])
    name = f"figure1a_distribution{source.suffix}"
    table = frame_table(name, f"Distribution of tokens, {source.section.title}", shown)
    return Exhibit(
        name=name,
        title=title,
        reading=f"Median tokens of an item: {', '.join(values)}.",
        paper=(
            "About 10 tokens for attributes, 160 for a summary and 209 for a full description"
            " (Section 2, Appendix D.3)."
        ),
        notes=("Thin lines: 5th to 95th percentile; bars: the middle half; dots: the median.",),
        commands=source.made_by("token_cost"),
        tables=(table,),
        figure=drawing(ranges_figure, parts, source.styles, source.section.title),
        alt=f"Ranges of tokens. Median tokens of an item: {', '.join(values)}.",
    )


def _belongs(record: Record, section: Section) -> bool:
    """Tell whether a cell is on the section's data set, or items changed of it, and its LLM, or none."""
    dataset = record.config.get("dataset") or {}
    origin = (dataset.get("variant") or {}).get("of") or dataset.get("fingerprint")
    label = llm_label(record.config)
    # Where an experiment needs the tokeniser alone, the LLM stands without its layers.
    return (
        origin == section.fingerprint
        and (label in ("", section.llm) or section.llm.startswith(f"{label} ("))
        and _has_ranks(record)
    )


def _has_ranks(record: Record) -> bool:
    return record.experiment != "accuracy" or (record.folder / "ranks.parquet").is_file()
