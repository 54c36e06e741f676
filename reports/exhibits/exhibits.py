"""Exhibits: each figure and table of a section with its reading, its data and the commands that made it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pandas as pd

from bench.frames.selection import OURS
from bench.frames.tradeoff import on_front
from reports.drawing.deferred import Drawing, drawing
from reports.drawing.figures import accuracy_figure, latency_figure, tokens_figure, tradeoff_figure
from reports.evidence.paired import Ranks
from reports.exhibits.result_tables import (
    accuracy_frame,
    candidate_words,
    data_table,
    in_order,
    table1,
    table2,
)
from reports.paper.published import fact
from reports.sections.file_names import method_suffixes
from reports.sections.methods import MethodStyle
from reports.sections.results import Accuracy, Section
from reports.wording.origins import commands, fill_command, timing_notes, variant_notes
from reports.wording.summary_notes import summary_notes
from reports.wording.tables import Table
from reports.wording.wording import ablation_reading, growth, label, listing, token_reading, words

_CANDIDATE_LABELS = {
    "sampled": "NDCG@10, sampled candidates",
    "full": "NDCG@10, whole catalogue",
}


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One figure or table of the report.

    Attributes:
        name: File name without its ending, also its anchor in the page.
        title: Heading.
        reading: One sentence that says what is to be seen.
        paper: What the paper says on the same, with its source; empty where it says nothing.
        notes: What readers must know before they compare numbers.
        commands: What makes it again, or what else ``commands_title`` says.
        tables: Tables to show; the first one's data is also the data of the figure.
        figure: The figure, or None for a table alone.
        alt: The figure in words.
        shows_items: Whether pictures or descriptions of items are shown, which their licence may not allow to pass on;
            the gallery leaves it out.
    """

    name: str
    title: str
    reading: str
    paper: str = ""
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...]
    tables: tuple[Table, ...]
    figure: Drawing | None = field(default=None, compare=False)
    alt: str = ""
    commands_title: str = "Commands"
    shows_items: bool = False


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Figures or tables for which the store lacks cells, why, and the command that fills them in."""

    title: str
    reason: str
    command: str


Shown = Exhibit | Gap


def section_exhibits(
    section: Section, styles: Mapping[str, MethodStyle], suffix: str, ranks: Ranks
) -> list[Shown]:
    """Return the exhibits of a section in the order of the page.

    Args:
        section: What the store holds on one data set and LLM.
        styles: Look of each method of the store.
        suffix: Ending of the file names, which tells sections apart.
        ranks: The stored ranks, for tests of significance.
    """
    makers: tuple[Callable[[Section, Mapping[str, MethodStyle], str], Shown], ...] = (
        tokens_exhibit,
        tradeoff_exhibit,
        latency_exhibit,
        partial(comparison_exhibit, ranks=ranks),
        ablation_exhibit,
    )
    return [make(section, styles, suffix) for make in makers]


def tokens_exhibit(section: Section, styles: Mapping[str, MethodStyle], suffix: str) -> Shown:
    """Return Figure 1(a): tokens an item, averaged over the histories of all groups."""
    title = "Figure 1(a). Tokens an item"
    if not section.efficiency:
        return Gap(
            title=title,
            reason="no efficiency cells for this LLM",
            command=fill_command("efficiency", section),
        )
    timings = section.efficiency_frame()
    timings["items"] = timings["users"] * timings["history_length"]
    timings["tokens"] = timings["tokens_per_item"] * timings["items"]
    sums = timings.groupby("method", sort=False)[["tokens", "items"]].sum()
    frame = pd.DataFrame(
        {"method": sums.index, "tokens_per_item": (sums["tokens"] / sums["items"]).to_numpy()}
    )
    frame = in_order(frame, styles)
    ours = frame.loc[frame["method"] == "illmrec", "tokens_per_item"]
    frame["relative_to_illmrec"] = frame["tokens_per_item"] / ours.iloc[0] if len(ours) else np.nan
    image, attributes, summary = (fact(f"tokens_{kind}") for kind in ("image", "attributes", "summary"))
    return Exhibit(
        name=f"figure1a{suffix}",
        title=title,
        reading=token_reading(frame, styles),
        paper=(
            f"{image[0]:.0f} token for the image, about {attributes[0]:.0f} for the attributes and"
            f" {summary[0]:.0f} for the summary ({attributes[1]}); here the title and the template's words"
            " count too."
        ),
        commands=commands(section.efficiency),
        tables=(
            data_table(
                f"figure1a{suffix}",
                f"Tokens an item, {section.title}",
                frame,
                {"tokens_per_item": "tokens an item", "relative_to_illmrec": "relative to I-LLMRec"},
                styles,
            ),
        ),
        figure=drawing(tokens_figure, frame, styles, section.title),
        alt=listing("Bar chart of tokens an item", frame, "tokens_per_item", styles, "{:.1f}"),
    )


def tradeoff_exhibit(section: Section, styles: Mapping[str, MethodStyle], suffix: str) -> Shown:
    """Return Figure 1(b): latency against NDCG@10 of the methods that have both for the same data and LLM."""
    title = "Figure 1(b). Latency against accuracy"
    timings = section.efficiency_frame()
    variants = section.headline()
    both = [name for name in styles if name in set(timings["method"]) and name in variants]
    timings = timings[timings["method"].isin(both)]
    measured = [set(group["history_length"]) for _, group in timings.groupby("method")]
    lengths = sorted(set.intersection(*measured)) if measured else []
    if not lengths:
        missing = [
            kind
            for kind, there in (("efficiency", section.efficiency), ("comparison", section.accuracy))
            if not there
        ]
        names = {"efficiency": "efficiency", "comparison": "accuracy"}
        reason = (
            f"no {' and no '.join(names[kind] for kind in missing)} cells for this LLM"
            if missing
            else "no method has both accuracy and latency at the history lengths of the others"
        )
        command = " && ".join(fill_command(kind, section) for kind in missing or ["efficiency", "comparison"])
        return Gap(title=title, reason=reason, command=command)
    kept = timings[timings["history_length"].isin(lengths)]
    latency = kept.groupby("method")["latency_ms_median"].mean()
    rows = []
    for name in both:
        mean, error = variants[name].value("sampled", "ndcg@10")
        rows.append((name, latency[name], mean, error, len(variants[name].records)))
    frame = pd.DataFrame(rows, columns=["method", "latency_ms", "ndcg@10", "stderr", "seeds"])
    frame["pareto"] = on_front(frame["latency_ms"], frame["ndcg@10"])
    front = [styles[name].label for name in frame.loc[frame["pareto"], "method"]]
    beaten = [styles[name].label for name in frame.loc[~frame["pareto"], "method"]]
    speedup, source = fact("speedup_over_description")
    gain, _ = fact("gain_over_attributes")
    used = [record for name in both for record in variants[name].records]
    return Exhibit(
        name=f"figure1b{suffix}",
        title=title,
        reading=(
            f"On the Pareto front {'stands' if len(front) == 1 else 'stand'} {words(front)}"
            + (
                f"; for {words(beaten)} another method is at least as fast and as accurate."
                if beaten
                else "."
            )
        ),
        paper=(
            f"I-LLMRec is about {speedup:g} times as fast as the description-based representation and"
            f" {gain:g} % better than the attribute-based one ({source})."
        ),
        notes=(
            f"Latency: mean over |S_u| = {words(lengths)} of the median latency a user. NDCG@10 over all test users,"
            f" {candidate_words('sampled', [variants[name] for name in both])}.",
            *timing_notes(section.efficiency),
            *variant_notes([variants[name] for name in both], styles),
        ),
        commands=commands([*section.efficiency, *used]),
        tables=(
            data_table(
                f"figure1b{suffix}",
                f"Latency a user and NDCG@10, {section.title}",
                frame,
                {"latency_ms": "latency (ms)", "ndcg@10": "NDCG@10", "pareto": "Pareto front"},
                styles,
            ),
        ),
        figure=drawing(tradeoff_figure, frame, styles, section.title),
        alt=listing("Scatter plot of latency in ms a user", frame, "latency_ms", styles, "{:.1f}")
        + listing(" NDCG@10", frame, "ndcg@10", styles, "{:.3f}"),
    )


def latency_exhibit(section: Section, styles: Mapping[str, MethodStyle], suffix: str) -> Shown:
    """Return Figure 3: latency a user against history length, with the whole efficiency table as its data."""
    title = "Figure 3. Latency against history length"
    if not section.efficiency:
        return Gap(
            title=title,
            reason="no efficiency cells for this LLM",
            command=fill_command("efficiency", section),
        )
    frame = in_order(section.efficiency_frame(), styles, "history_length")
    users, source = fact("users_per_length_group")
    return Exhibit(
        name=f"figure3{suffix}",
        title=title,
        reading=growth(frame, styles),
        paper=(
            "TRSR and I-LLMRec+ rise sharply with |S_u|, I-LLMRec stays low, TALLRec rises slowly and ends"
            f" above it ({source}, {users:.0f} users a group)."
        ),
        notes=(
            f"One user at a time: median over {_span(frame['users'])} users, geometric mean of"
            f" {_span(frame['repeats'])} repeats in which all methods and lengths take turns; whiskers reach the 95th"
            " percentile over users. In the table, 95 % intervals are over repeats; throughput is measured in batches,"
            " and memory is that of the method by itself.",
            *timing_notes(section.efficiency),
        ),
        commands=commands(section.efficiency),
        tables=(
            data_table(
                f"figure3{suffix}",
                f"Efficiency by history length, {section.title}",
                frame,
                {
                    "history_length": "|S_u|",
                    "tokens_per_item": "tokens an item",
                    "latency_ms_median": "latency of one user (ms)",
                    "latency_ms_low": "95 % from",
                    "latency_ms_high": "to",
                    "latency_ms_p95_users": "p95 over users (ms)",
                    "latency_ms_p95_repeats": "p95 over repeats (ms)",
                    "users_per_second": "users a second, in batches",
                    "weights_mb": "LLM (MB)",
                    "features_mb": "features and heads (MB)",
                    "activations_mb": "activations (MB)",
                    "peak_memory_mb": "memory in all (MB)",
                    "model_gflops": "model GFLOPs",
                },
                styles,
            ),
        ),
        figure=drawing(latency_figure, frame, styles, section.title),
        alt=listing(
            f"Line chart of latency against history length. Median ms a user at |S_u| = "
            f"{frame['history_length'].max()}",
            frame[frame["history_length"] == frame["history_length"].max()],
            "latency_ms_median",
            styles,
            "{:.1f}",
        ),
    )


def _span(values: pd.Series) -> str:
    """Return a number that all rows share, or the least and the largest; nothing of it is known in old cells."""
    known = values.dropna().astype(int)
    if known.empty:
        return "an unknown number of"
    least, largest = known.min(), known.max()
    return f"{least}" if least == largest else f"{least} to {largest}"


def comparison_exhibit(
    section: Section, styles: Mapping[str, MethodStyle], suffix: str, *, ranks: Ranks
) -> Shown:
    """Return the accuracy of all methods: bars with standard errors and the table in the form of Table 1."""
    title = "Table 1. Accuracy of the methods"
    variants = section.headline()
    if len(variants) < 2:
        return Gap(
            title=title,
            reason="accuracy cells of fewer than two methods",
            command=fill_command("comparison", section),
        )
    shown = [variants[name] for name in styles if name in variants]
    frame = accuracy_frame(shown)
    ndcg = frame[frame["metric"] == "ndcg@10"]
    sampled = ndcg[ndcg["candidates"] == "sampled"].sort_values("mean", ascending=False)
    first, second = sampled.iloc[0], sampled.iloc[1]
    tables = tuple(
        table1(shown, styles, section, f"{name}{suffix}", candidates, ranks)
        for name, candidates in (("table1", "sampled"), ("table1_full", "full"))
    )
    return Exhibit(
        name=f"accuracy{suffix}",
        title=title,
        reading=(
            f"Among sampled candidates {label(first, styles)} has the highest NDCG@10 ({first['mean']:.4f}),"
            f" followed by {label(second, styles)} ({second['mean']:.4f})."
        ),
        paper="The published Table 1 is below, under Published numbers.",
        notes=(*variant_notes(shown, styles), *summary_notes(shown, styles)),
        commands=commands([record for entry in shown for record in entry.records]),
        tables=(
            data_table(
                f"accuracy{suffix}",
                f"Accuracy of the methods, {section.title}",
                frame,
                {"stderr_over": "standard error over"},
                styles,
            ),
            *tables,
        ),
        figure=drawing(accuracy_figure, ndcg, styles, section.title, _CANDIDATE_LABELS),
        alt=listing("Bar chart of NDCG@10 among sampled candidates", sampled, "mean", styles, "{:.3f}"),
    )


def ablation_exhibit(section: Section, styles: Mapping[str, MethodStyle], suffix: str) -> Shown:
    """Return Table 2: rows (a) to (e), with the paper's numbers beside."""
    title = "Table 2. Ablation"
    rows = {entry.row: entry for entry in section.accuracy if entry.row}
    if not rows:
        return Gap(
            title=title, reason="no cells of the ablation's rows", command=fill_command("ablation", section)
        )
    missing = [row for row in "abcde" if row not in rows]
    notes = variant_notes(list(rows.values()), styles)
    if missing:
        command = fill_command("ablation", section).replace("a-e", ",".join(missing))
        notes = (f"Missing rows: {', '.join(missing)}. Run {command}", *notes)
    return Exhibit(
        name=f"table2{suffix}",
        title=title,
        reading=ablation_reading(rows),
        paper="RISA and each further feature type improve both metrics on Sport and Art (Table 2).",
        notes=notes,
        commands=commands([record for entry in rows.values() for record in entry.records]),
        tables=(
            table2(rows, section, f"table2{suffix}", "sampled"),
            table2(rows, section, f"table2_full{suffix}", "full"),
            *_other_ablations(section, styles, suffix),
        ),
    )


def _other_ablations(section: Section, styles: Mapping[str, MethodStyle], suffix: str) -> Iterator[Table]:
    """Yield the table of each other method that several rows were trained of."""
    suffixes = method_suffixes(styles)
    for method in styles:
        rows = {
            entry.variant: entry for entry in section.accuracy if entry.method == method and entry.variant
        }
        same = "a" not in rows and "b" in rows and _risa_left_out(rows["b"])
        if same:
            rows["a"] = rows["b"]
        if method != OURS and len(rows) > 1:
            name = f"table2{suffixes[method]}{suffix}"
            table = table2(rows, section, name, "sampled", styles[method].label)
            if same:
                table = replace(
                    table, caption=f"{table.caption}. Nothing learns from RISA: (a) and (b) are one"
                )
            yield table


def _risa_left_out(entry: Accuracy) -> bool:
    return all((record.results.get("training") or {}).get("risa_left_out") for record in entry.records)
