"""The exhibit on the speed of training: validation accuracy against seconds, and the seconds to fixed levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bench.frames.time_to_accuracy import EXPERIMENT, curves, levels
from bench.store.cell import Record
from reports.drawing.deferred import drawing
from reports.drawing.figures import drawable, name_decades, new_figure, plain, styled
from reports.exhibits.curves import Source
from reports.exhibits.exhibits import Exhibit, Shown
from reports.exhibits.strategy_exhibits import STRATEGY_LOOKS
from reports.sections.methods import MethodStyle
from reports.wording.origins import commands, timing_notes
from reports.wording.tables import frame_table
from reports.wording.wording import words

_RECBOLE = "recbole"
_END = {
    "method": "method",
    "strategy": "strategy",
    "seed": "seed",
    "seconds": "seconds",
    "targets": "targets",
    "gflops": "GFLOP",
    "valid_ndcg@10": "validation NDCG@10",
}
_LEVELS = {
    "method": "method",
    "seed": "seed",
    "level": "validation NDCG@10",
    "strategy": "strategy",
    "seconds": "seconds",
    "against_seconds": "seconds, LLM frozen",
    "speedup": "times as fast",
}


def time_to_accuracy_exhibit(source: Source, records: Sequence[Record]) -> Shown:
    """Return validation accuracy against training time of each method, by strategy, SASRec beside them.

    Args:
        source: The section.
        records: All cells of the store: SASRec's have no LLM.
    """
    title = "How fast training is"
    own = source.cells(records, EXPERIMENT)
    table = curves(own, source.store)
    methods = [name for name in dict.fromkeys(table["method"]) if name in source.styles and name != "sasrec"]
    if not methods:
        return source.gap(title, "no trainings recorded against time", EXPERIMENT)
    looks = (
        {**STRATEGY_LOOKS, _RECBOLE: replace(source.styles["sasrec"], label="SASRec")}
        if ("sasrec" in source.styles)
        else dict(STRATEGY_LOOKS)
    )
    reached = levels(table)
    labels = {name: style.label for name, style in source.styles.items()}
    strategies = {name: look.label for name, look in looks.items()}
    last = table.groupby(["method", "strategy", "seed"], sort=False).tail(1)
    name, subject = f"time_to_accuracy{source.suffix}", source.section.title
    tables = [
        frame_table(
            name,
            f"Training in the end, {subject}",
            _labelled(last, labels, strategies)[list(_END)],
            _END,
        )
    ]
    if not reached.empty:
        shown = _labelled(reached, labels, strategies)[list(_LEVELS)]
        tables.append(
            frame_table(f"time_to_levels{source.suffix}", f"Seconds to levels, {subject}", shown, _LEVELS)
        )
    reading = _reading(reached, labels, strategies)
    return Exhibit(
        name=name,
        title=title,
        reading=reading,
        paper="The paper trains LLM methods jointly and does not report accuracy against time.",
        notes=(
            "Validation NDCG@10 among sampled candidates. Seconds of joint training are those of its optimiser steps;"
            " those of stored states hold warm-up, encoding, projectors and all validation. A line ends where training"
            " converged or its seconds were spent. GFLOP are those of the LLM and, of stored states, of projectors.",
            *_sessions(reached),
            *timing_notes(own),
        ),
        commands=commands(own),
        tables=tuple(tables),
        figure=drawing(
            speed_figure, [(labels[method], _lines(table, method)) for method in methods], looks, subject
        ),
        alt=f"Line charts of validation NDCG@10 against seconds of training. {reading}",
    )


def _lines(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return a method's curves and SASRec's: columns series, seed, seconds, ndcg."""
    rows = table[table["method"].isin([method, "sasrec"])]
    return rows.rename(columns={"strategy": "series", "valid_ndcg@10": "ndcg"})[
        ["series", "seed", "seconds", "ndcg"]
    ]


def _labelled(table: pd.DataFrame, methods: Mapping[str, str], strategies: Mapping[str, str]) -> pd.DataFrame:
    return table.assign(
        method=[methods.get(name, name) for name in table["method"]],
        strategy=[strategies.get(name, name) for name in table["strategy"]],
    )


def _sessions(reached: pd.DataFrame) -> tuple[str, ...]:
    if reached.empty or reached["one_session"].all():
        return ()
    return (
        "Some ratios are of trainings that were timed in different runs: what else the machine did may differ.",
    )


def _reading(reached: pd.DataFrame, methods: Mapping[str, str], strategies: Mapping[str, str]) -> str:
    """Return how much sooner each strategy has what joint training reaches at its best."""
    sentences = []
    for (method, strategy), rows in reached.groupby(["method", "strategy"], sort=False):
        best = rows.loc[rows.groupby("seed")["level"].idxmax()]
        never = int(best["speedup"].isna().sum())
        label = f"{methods.get(str(method), method)}: {strategies.get(str(strategy), strategy)}"
        if never == len(best):
            sentences.append(f"{label} never has the best of joint training.")
            continue
        ratios = sorted(best["speedup"].dropna())
        spread = f"{ratios[0]:.1f}" if len(ratios) == 1 else f"{ratios[0]:.1f} to {ratios[-1]:.1f}"
        some = f", in {never} of {len(best)} seeds never" if never else ""
        sentences.append(f"{label} has the best of joint training {spread} times as fast{some}.")
    return " ".join(sentences) or f"Trainings of {words(list(methods.values()))}."


@styled
def speed_figure(
    panels: Sequence[tuple[str, pd.DataFrame]], looks: Mapping[str, MethodStyle], title: str
) -> Figure:
    """Draw validation NDCG@10 against seconds on a logarithmic axis, a panel a method, a line a strategy and seed.

    Args:
        panels: Heading and curves of each panel: columns series, seed, seconds, ndcg.
        looks: Look of each series, in the order of the legend.
        title: Data set and LLM.
    """
    series = {name for _, frame in panels for name in frame["series"]}
    shown = [name for name in looks if name in series]
    figure, axes = new_figure(height=3.4, title=title, columns=len(panels))
    handles: dict[str, Any] = {}
    for place, (heading, frame) in zip(axes, panels, strict=True):
        for name in shown:
            look = looks[name]
            for _, line in frame[frame["series"] == name].groupby("seed"):
                (handle,) = place.plot(
                    line["seconds"],
                    line["ndcg"],
                    color=look.colour,
                    linestyle=look.line,
                    marker=look.marker,
                    markersize=4,
                    zorder=3,
                )
                handles.setdefault(name, handle)
        place.set_xscale("log")
        name_decades(place.xaxis, float(frame["seconds"].min()), float(frame["seconds"].max()))
        place.set_xlabel(f"Seconds of training, {drawable(heading)}")
        place.grid(visible=True, axis="both")
    axes[0].set_ylabel("NDCG@10, validation")
    labels = [plain(looks[name].label) for name in handles]
    figure.legend(
        list(handles.values()),
        labels,
        loc="outside lower center",
        ncols=min(4, len(labels)),
        columnspacing=1.6,
    )
    return figure
