"""Sentences that are written from the numbers: readings of figures, their text alternatives, lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.frames.selection import OURS
from bench.frames.sequence_length import crossing
from reports.sections.methods import MethodStyle
from reports.sections.results import Accuracy


def words(parts: Sequence[object]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    texts = [str(part) for part in parts]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)


def label(row: Mapping[str, Any] | pd.Series, styles: Mapping[str, MethodStyle]) -> str:
    """Return the name for readers of a row's method."""
    return styles[str(row["method"])].label


def listing(
    opening: str, frame: pd.DataFrame, column: str, styles: Mapping[str, MethodStyle], form: str
) -> str:
    """Return a figure's values in words: ``opening: A 1.0, B 2.0.``"""
    values = [f"{label(row, styles)} {form.format(row[column])}" for row in frame.to_dict("records")]
    return f"{opening}: {', '.join(values)}."


def token_reading(frame: pd.DataFrame, styles: Mapping[str, MethodStyle]) -> str:
    """Return how many tokens an item takes, relative to I-LLMRec, or to the shortest where that is not there.

    Args:
        frame: Columns method, tokens_per_item; one row per method.
        styles: Look of each method.
    """
    ordered = frame.sort_values("tokens_per_item")
    ours = ordered[ordered["method"] == "illmrec"]
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
    """Return from which length of history on I-LLMRec is faster than TALLRec, or nothing if one is not there.

    Args:
        latency: One row per method, one column per length.
        styles: Look of each method.
    """
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


def ablation_reading(rows: Mapping[str, Accuracy]) -> str:
    """Return what RISA and the feature types change in NDCG@10, as far as the rows are there.

    Args:
        rows: Variants of I-LLMRec by row of Table 2.
    """
    values = {row: entry.value("sampled", "ndcg@10") for row, entry in rows.items()}
    steps = []
    for first, last, what in (("a", "b", "RISA"), ("b", "d", "CF features"), ("d", "e", "text features")):
        if first in values and last in values:
            steps.append(f"{what} {values[last][0] - values[first][0]:+.4f} ({first} to {last})")
    if steps:
        return f"Change of NDCG@10 among sampled candidates: {', '.join(steps)}."
    best = max(values, key=lambda row: values[row][0])
    return f"Row ({best}) reaches NDCG@10 {values[best][0]:.4f} among sampled candidates."
