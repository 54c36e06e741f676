"""Accuracy against the tokens of an item: I-LLMRec with one and more image tokens as a curve, the others as points."""

from __future__ import annotations

import math

import pandas as pd

from bench.frames import tokens_per_item
from bench.frames.selection import OURS
from bench.frames.tokens_per_item import CURVE
from bench.protocol.statistics import LEAST_RUNS
from reports.drawing.cost_figures import tokens_curve_figure
from reports.drawing.deferred import drawing
from reports.exhibits.exhibit import Exhibit, Shown, gap, table
from reports.sections.section import Section
from reports.wording.cautions import session_notes, variant_notes
from reports.wording.wording import runs_said, signed, words

_LABELS = {"sampled": "NDCG@10, sampled candidates", "full": "NDCG@10, whole catalogue"}
_COLUMNS = {
    "method": "method",
    "candidates": "candidates",
    "tokens_per_item": "tokens an item",
    "latency_ms_median": "latency of one user (ms)",
    "ndcg@10": "NDCG@10",
    "low_ndcg@10": "from",
    "high_ndcg@10": "to",
    "gain_ndcg@10": "more than one image token",
    "low_gain_ndcg@10": "from (difference)",
    "high_gain_ndcg@10": "to (difference)",
    "seeds": "runs",
    "on_front": "Pareto front",
}


def exhibits(section: Section) -> list[Shown]:
    """Return accuracy against tokens an item where I-LLMRec has several numbers of image tokens, or the gap."""
    title = "Accuracy against tokens an item, one image token and more"
    entries = [section.headline[name] for name in section.styles if name in section.headline]
    curve = [name for name in CURVE.values() if name in section.headline]
    frame = pd.DataFrame()
    if len(curve) > 1:
        frame = section.frame(tokens_per_item.frame, prompts=True)
        frame = frame[(frame["llm"] == section.llm) & frame["method"].isin(list(section.styles))]
    if frame.empty or frame["image_tokens"].nunique() < 2:
        return [
            gap(section, title, "no cells of I-LLMRec with several image tokens, timed", "tokens_per_item")
        ]
    points = frame.rename(
        columns={"tokens_per_item": "tokens", "ndcg@10": "mean", "low_ndcg@10": "low", "high_ndcg@10": "high"}
    )
    points = points.assign(on_curve=points["image_tokens"].notna())
    shown = frame[[*_COLUMNS]].astype({name: float for name in _COLUMNS if "gain" in name})
    return [
        Exhibit(
            name=f"figure_tokens{section.suffix}",
            title=title,
            reading=_reading(section, frame),
            paper="One image token stands in for about 160 tokens of a summary (Section 2); more are not tried.",
            notes=(
                "The first image token is the picture's pooled feature; several are means over as many parts of it, in"
                " the prompt alone: what scores items is the same for all. Intervals are 95 %, by a bootstrap over"
                " training runs and users; those of one run are over users alone.",
                *session_notes(frame["session"]),
                *variant_notes([e for e in entries if e.method in set(frame["method"])], section.styles),
            ),
            commands=section.made_by("tokens_per_item"),
            tables=(table(section, "figure_tokens", title, shown, _COLUMNS, {"method": section.styles}),),
            figure=drawing(
                tokens_curve_figure,
                points[["method", "candidates", "tokens", "mean", "low", "high", "on_curve"]],
                section.styles,
                section.title,
                _LABELS,
            ),
            alt=f"NDCG@10 against tokens an item. {_reading(section, frame)}",
        )
    ]


def _reading(section: Section, frame: pd.DataFrame) -> str:
    """Say what further image tokens are worth, and who stands on the front, among all candidates."""
    rows = frame[frame["candidates"] == "full"].set_index("method")
    parts = []
    for count, name in CURVE.items():
        if name == OURS or name not in rows.index or math.isnan(rows.loc[name, "gain_ndcg@10"]):
            continue
        mean, low, high = (float(rows.loc[name, f"{end}gain_ndcg@10"]) for end in ("", "low_", "high_"))
        verdict = "more" if low > 0 else "less" if high < 0 else "not told apart"
        runs = int(rows.loc[name, "seeds"])
        if verdict != "not told apart" and runs < LEAST_RUNS:
            verdict = f"of {runs_said(runs)}, which decides nothing"
        ends = f"{signed(low, 4)} to {signed(high, 4)}"
        parts.append(f"with {count} {signed(mean, 4)} ({ends}, {verdict})")
    front = [section.styles[str(name)].label for name in rows.index[rows["on_front"]]]
    gains = (
        f"Against one image token, NDCG@10 in the whole catalogue is {', '.join(parts)}. " if parts else ""
    )
    return f"{gains}On the Pareto front of tokens and accuracy: {words(front)}."
