"""The text that items are described by: Figure 5, and noise injected into descriptions."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from bench.frames import robustness
from reports.drawing.deferred import drawing
from reports.drawing.figures import accuracy_figure
from reports.drawing.sweep_figures import Panel
from reports.exhibits.exhibit import Exhibit, Shown, gap, in_order, table
from reports.exhibits.lines import curves, lines_exhibit
from reports.sections.methods import MethodStyle
from reports.sections.section import Section
from reports.wording.wording import listing, signed

_NOISES = {
    "html": "Sentences in markup",
    "boilerplate": "Boilerplate",
    "shuffled": "Shuffled",
    "missing": "Missing",
}
"""Kinds of noise as titles of narrow axes: shares of the sentences."""

_REACHES = {
    "prompt": (
        "figure5_noise",
        "in the prompts",
        "RISA's answers and text features keep the clean descriptions",
    ),
    "everything": (
        "figure5_noise_everywhere",
        "wherever descriptions are read",
        "RISA's answers and text features have the noise as well",
    ),
}
"""Name, title and note of the noise by its reach."""


def exhibits(section: Section) -> list[Shown]:
    """Return Figure 5, and a figure for each reach of the noise that the store has."""
    frame = section.frame(robustness.frame, prompts=True)
    frame = frame[frame["method"].isin(list(section.styles))]
    plain = frame[(frame["noise"] == "") & (frame["summaries"] != "rewritten")]
    made: list[Shown] = []
    if plain["method"].nunique() > 1:
        made.append(_figure5(section, plain))
    noisy = [_noise(section, frame, plain, reach) for reach in _REACHES if (frame["reach"] == reach).any()]
    if not noisy:
        title = "Figure 5 with noise. Accuracy as descriptions get worse"
        made.append(gap(section, title, "no accuracy cells on noisy descriptions", "robustness"))
    return [*made, *noisy]


def _figure5(section: Section, plain: pd.DataFrame) -> Exhibit:
    """Return the accuracy of each representation on the data as they are."""
    points = curves(plain, "method", "candidates").rename(columns={"series": "method", "x": "candidates"})
    points = in_order(points, section)
    mean = points.set_index("method")["mean"]
    if {"full-description", "trsr"} <= set(mean.index):
        change = signed(mean["full-description"] - mean["trsr"], 4)
        reading = (
            f"The mean NDCG@10 of the full description less that of the summary is {change}; the claim below says"
            " whether that is decided."
        )
    else:
        reading = listing("NDCG@10", points, "mean", section.styles, "{:.4f}")
    title = "Figure 5. Attributes, summary, full description and image"
    labels = {"sampled": "NDCG@10, sampled candidates"}
    return Exhibit(
        name=f"figure5{section.suffix}",
        title=title,
        reading=reading,
        paper=(
            "On some data sets the full description is above TRSR's summary, which loses information (Figure 5(a)); on"
            " Phone and Art it is below, since it has noise (Figure 5(b)). I-LLMRec is strong on all (Section 4.3)."
        ),
        commands=section.made_by("robustness"),
        tables=(table(section, "figure5", title, points, {"mean": "NDCG@10"}, {"method": section.styles}),),
        figure=drawing(accuracy_figure, points, section.styles, section.title, labels),
        alt=listing("Bar chart of NDCG@10", points, "mean", section.styles, "{:.3f}"),
    )


def _noise(section: Section, frame: pd.DataFrame, plain: pd.DataFrame, reach: str) -> Exhibit:
    """Return accuracy against the share of sentences that each kind of noise changes."""
    rows = frame[(frame["reach"] == reach) & (frame["noise"] != "")]
    anew = rows["summaries"] == "rewritten"
    rows = rows.assign(series=rows["method"].where(~anew, rows["method"] + " rewritten"))
    levels = curves(plain[~plain["method"].isin(rows["method"])], "method", "level")
    panels = [
        Panel(curves=curves(rows[rows["noise"] == kind], "series", "level"), levels=levels, xlabel=label)
        for kind, label in _NOISES.items()
        if (rows["noise"] == kind).any()
    ]
    name, where, note = _REACHES[reach]
    return lines_exhibit(
        section,
        name=name,
        title=f"Figure 5 with noise {where}. Accuracy as descriptions get worse",
        panels=panels,
        looks={**section.styles, **_rewritten(section, list(dict.fromkeys(rows["series"])))},
        notes=(
            f"Axes: share of the sentences that the noise changes. {note}. Horizontal lines: methods that the noise"
            " does not reach.",
        ),
        paper=(
            "Full descriptions of Amazon's items contain noise, such as HTML tags left by crawling; methods in natural"
            " language depend on the text that they are given, I-LLMRec does not (Section 4.3)."
        ),
        experiment="robustness",
    )


def _rewritten(section: Section, series: list[str]) -> dict[str, MethodStyle]:
    """Return looks of methods whose summaries were written anew from the noisy descriptions."""
    styles = {name: section.styles[name.rsplit(" ", 1)[0]] for name in series if name not in section.styles}
    return {
        name: replace(style, name=name, label=f"{style.label}, rewritten", line=":", marker="P")
        for name, style in styles.items()
    }
