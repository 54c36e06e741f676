"""Figure 1(a), tokens an item, and Figure 3, latency against the length of the history."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bench.frames.selection import OURS
from bench.frames.sequence_length import crossing
from reports.drawing.deferred import drawing
from reports.drawing.figures import latency_figure, tokens_figure
from reports.exhibits.exhibit import Exhibit, Shown, gap, in_order, table
from reports.paper.published import fact
from reports.sections.commands import commands
from reports.sections.methods import MethodStyle
from reports.sections.section import Section
from reports.wording.cautions import timing_notes
from reports.wording.wording import label, listing, words

_TOKENS = "Figure 1(a). Tokens an item"
_LATENCY = "Figure 3. Latency against history length"
_COLUMNS = {
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
    "wh_per_1000_users": "Wh for 1,000 users",
    "cost_per_1000_users": "money for 1,000 users",
    "currency": "currency",
}


def exhibits(section: Section) -> list[Shown]:
    """Return Figures 1(a) and 3."""
    if not section.efficiency:
        reason = "no efficiency cells for this LLM"
        return [gap(section, title, reason, "efficiency") for title in (_TOKENS, _LATENCY)]
    return [_tokens(section), _latency(section)]


def _tokens(section: Section) -> Shown:
    """Return tokens an item, averaged over the histories of all groups, of methods that read items in tokens."""
    means = tokens_an_item(section.timings)
    if means.empty:
        return gap(section, _TOKENS, "no method that reads items in tokens was timed", "efficiency")
    frame = in_order(pd.DataFrame({"method": means.index, "tokens_per_item": means.to_numpy()}), section)
    ours = frame.loc[frame["method"] == OURS, "tokens_per_item"]
    frame["relative_to_illmrec"] = frame["tokens_per_item"] / ours.iloc[0] if len(ours) else np.nan
    image, attributes, summary = (fact(f"tokens_{kind}") for kind in ("image", "attributes", "summary"))
    titles = {"tokens_per_item": "tokens an item", "relative_to_illmrec": "relative to I-LLMRec"}
    return Exhibit(
        name=f"figure1a{section.suffix}",
        title=_TOKENS,
        reading=_fewest_tokens(frame, section.styles),
        paper=(
            f"{image[0]:.0f} token for the image, about {attributes[0]:.0f} for the attributes and"
            f" {summary[0]:.0f} for the summary ({attributes[1]}); here the title and the template's words"
            " count too."
        ),
        commands=commands(section.efficiency),
        tables=(table(section, "figure1a", "Tokens an item", frame, titles, {"method": section.styles}),),
        figure=drawing(tokens_figure, frame, section.styles, section.title),
        alt=listing("Bar chart of tokens an item", frame, "tokens_per_item", section.styles, "{:.1f}"),
    )


def tokens_an_item(timings: pd.DataFrame) -> pd.Series:
    """Return tokens an item by method, averaged over the items of all histories that were timed.

    Args:
        timings: Columns method, users, history_length, tokens_per_item; methods that read no items in tokens have none.
    """
    known = timings.dropna(subset=["tokens_per_item"])
    known = known.assign(items=known["users"] * known["history_length"])
    known["tokens"] = known["tokens_per_item"] * known["items"]
    sums = known.groupby("method", sort=False)[["tokens", "items"]].sum()
    return sums["tokens"] / sums["items"]


def _latency(section: Section) -> Exhibit:
    """Return latency a user against history length, with the whole efficiency table as its data."""
    frame = in_order(section.timings, section, "history_length")
    users, source = fact("users_per_length_group")
    longest = frame["history_length"].max()
    looks = {"method": section.styles}
    return Exhibit(
        name=f"figure3{section.suffix}",
        title=_LATENCY,
        reading=growth(frame, section.styles),
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
        tables=(table(section, "figure3", "Efficiency by history length", frame, _COLUMNS, looks),),
        figure=drawing(latency_figure, frame, section.styles, section.title),
        alt=listing(
            f"Line chart of latency against history length. Median ms a user at |S_u| = {longest}",
            frame[frame["history_length"] == longest],
            "latency_ms_median",
            section.styles,
            "{:.1f}",
        ),
    )


def _fewest_tokens(frame: pd.DataFrame, styles: Mapping[str, MethodStyle]) -> str:
    """Return how many tokens an item takes, relative to I-LLMRec, or to the shortest where that is not there."""
    ordered = frame.sort_values("tokens_per_item")
    ours = ordered[ordered["method"] == OURS]
    base = (ours if len(ours) else ordered).iloc[0]
    text = f"An item takes {base['tokens_per_item']:.1f} tokens with {label(base, styles)}"
    others = [
        f"{row['tokens_per_item'] / base['tokens_per_item']:.1f} times as many with {label(row, styles)}"
        for row in ordered.to_dict("records")
        if row["method"] != base["method"]
    ]
    if len(others) > 1:
        others = [others[0], *(part.replace("times as many", "times") for part in others[1:])]
    return f"{text}, {words(others)}." if others else f"{text}."


def growth(frame: pd.DataFrame, styles: Mapping[str, MethodStyle]) -> str:
    """Return how latency grows with the history for two methods, and where I-LLMRec becomes faster than TALLRec.

    The two are the steepest and the flattest.

    Args:
        frame: Columns method, history_length, latency_ms_median.
        styles: Look of each method.
    """
    lengths = sorted(frame["history_length"].unique())
    wide = frame.pivot(index="method", columns="history_length", values="latency_ms_median")
    both = wide[[lengths[0], lengths[-1]]].dropna()
    if len(lengths) < 2 or both.empty:
        last = frame.loc[frame["latency_ms_median"].idxmax()]
        slowest = f"{label(last, styles)} takes longest, {last['latency_ms_median']:.1f} ms a user"
        return f"At |S_u| = {last['history_length']} {slowest}."
    ratio = both[lengths[-1]] / both[lengths[0]]

    def described(name: str, rank: str) -> str:
        before, after = both.loc[name, [lengths[0], lengths[-1]]]
        return f"{styles[name].label} {rank}, {ratio[name]:.1f}-fold ({before:.1f} to {after:.1f} ms a user)"

    steepest, flattest = str(ratio.idxmax()), str(ratio.idxmin())
    text = f"From {lengths[0]} to {lengths[-1]} items the latency of {described(steepest, 'grows most')}"
    if steepest != flattest:
        text = f"{text}, that of {described(flattest, 'least')}"
    return f"{text}.{_crossing(wide, styles)}"


def _crossing(latency: pd.DataFrame, styles: Mapping[str, MethodStyle]) -> str:
    """Return from which length of history on I-LLMRec is faster than TALLRec, or nothing if one is not there."""
    if not {OURS, "tallrec"} <= set(latency.index):
        return ""
    both = latency.loc[[OURS, "tallrec"]].dropna(axis="columns")
    if both.shape[1] < 2:
        return ""
    length = crossing(both.loc[OURS], both.loc["tallrec"])
    text = f" {styles[OURS].label} is %s than {styles['tallrec'].label} %s."
    if length is None:
        return text % ("slower", f"at |S_u| = {both.columns.max()}")
    if (both.loc[OURS] < both.loc["tallrec"]).all():
        return text % ("faster", "at every length")
    return text % ("faster", f"from about {length:.1f} items of history on")


def _span(values: pd.Series) -> str:
    """Return a number that all rows share, or the least and the largest; nothing of it is known in old cells."""
    known = values.dropna().astype(int)
    if known.empty:
        return "an unknown number of"
    least, largest = known.min(), known.max()
    return f"{least}" if least == largest else f"{least} to {largest}"
