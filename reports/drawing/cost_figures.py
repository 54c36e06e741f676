"""Figures of settings against what they cost, and sheets of pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import image as images
from matplotlib.figure import Figure

from reports.drawing.figures import (
    EDGE,
    height_of_ends,
    label_ends,
    line_look,
    name_decades,
    new_figure,
    plain,
    scale_to,
    scale_up,
    styled,
)
from reports.drawing.placement import label_points
from reports.sections.methods import MethodStyle

CURVE_COLOUR = "#D55E00"
"""Of I-LLMRec, whatever its number of image tokens."""
_BESIDE = 24
"""Longest label, in characters, that stands beside its point."""


@styled
def user_cost_figure(
    frame: pd.DataFrame, styles: Mapping[str, MethodStyle], title: str, value: str, unit: str
) -> Figure:
    """Draw what 1,000 users cost against the number of items in their history.

    Args:
        frame: Columns method, history_length and the value; what is not known is left out.
        styles: Look of each method.
        title: Data set and LLM.
        value: Column that is drawn.
        unit: Its unit, such as EUR.
    """
    known = frame.dropna(subset=[value])
    figure, (axes,) = new_figure(height=height_of_ends(known["method"].nunique()), title=title)
    ends: list[tuple[str, float, float]] = []
    for name in (name for name in styles if name in set(known["method"])):
        line = known[known["method"] == name].sort_values("history_length")
        x, y = (line[column].to_numpy(dtype=float) for column in ("history_length", value))
        axes.plot(x, y, **line_look(styles[name]), zorder=3)
        ends.append((name, float(x[-1]), float(y[-1])))
    lengths = sorted(known["history_length"].unique())
    scale_up(axes, known[value])
    axes.set_xticks(lengths)
    axes.grid(visible=True, axis="both")
    axes.set_xlabel(r"Items in the user's history, $|S_u|$")
    axes.set_ylabel(f"{plain(unit)} for 1,000 users")
    label_ends(axes, ends, styles, x_end=float(lengths[-1]))
    return figure


@styled
def cost_figure(frame: pd.DataFrame, looks: Mapping[str, MethodStyle], title: str, xlabel: str) -> Figure:
    """Draw NDCG@10 of settings against their cost, each named beside its point, or in a legend where names are long.

    Args:
        frame: Columns series, cost, mean, stderr; one row per setting.
        looks: Look of each series.
        title: Data set and LLM.
        xlabel: What the cost is, in which unit.
    """
    labels = [plain(looks[name].label) for name in frame["series"]]
    below = max(map(len, labels)) > _BESIDE
    figure, (axes,) = new_figure(height=3.3 + (0.2 * len(labels) if below else 0), title=title)
    handles: list[Any] = []
    for row in frame.to_dict("records"):
        look = looks[row["series"]]
        handle = axes.errorbar(
            row["cost"],
            row["mean"],
            yerr=row["stderr"] if np.isfinite(row["stderr"]) else None,
            color=look.colour,
            marker=look.marker,
            markersize=9,
            markeredgecolor=EDGE,
            markeredgewidth=0.8,
            elinewidth=1.1,
            linestyle="",
            zorder=3,
        )
        handles.append(handle)
    scale_to(axes, costs=frame["cost"], gains=frame["mean"], errors=frame["stderr"])
    axes.set_xlabel(xlabel)
    axes.set_ylabel("NDCG@10, sampled (up is better)")
    if below:
        figure.legend(handles, labels, loc="outside lower center")
        return figure
    points = list(zip(frame["cost"].astype(float), frame["mean"].astype(float), strict=True))
    bars = [
        ((x, y - e), (x, y + e)) for (x, y), e in zip(points, frame["stderr"], strict=True) if np.isfinite(e)
    ]
    label_points(axes, points, labels, bars)
    return figure


@styled
def tokens_curve_figure(
    frame: pd.DataFrame, looks: Mapping[str, MethodStyle], title: str, labels: Mapping[str, str]
) -> Figure:
    """Draw NDCG@10 against tokens an item with intervals, a panel for each set of candidates: a curve, and points.

    Args:
        frame: Columns method, candidates, tokens, mean, low, high, on_curve (bool).
        looks: Look of each method, in the order of the legend.
        title: Data set and LLM.
        labels: Axis label of each set of candidates, in the order of the panels.
    """
    shown = [name for name in looks if name in set(frame["method"])]
    rows = -(-len(shown) // 3)
    figure, panels = new_figure(height=3.2 + 0.2 * rows, title=title, columns=len(labels), shared=False)
    handles: dict[str, Any] = {}
    for axes, (candidates, label) in zip(panels, labels.items(), strict=True):
        points = frame[frame["candidates"] == candidates].set_index("method")
        curve = points[points["on_curve"]].sort_values("tokens")
        axes.plot(curve["tokens"], curve["mean"], color=CURVE_COLOUR, linewidth=1.4, zorder=2)
        for name in (name for name in shown if name in points.index):
            row, look = points.loc[name], looks[name]
            handles[name] = axes.errorbar(
                row["tokens"],
                row["mean"],
                yerr=[[row["mean"] - row["low"]], [row["high"] - row["mean"]]],
                color=look.colour,
                marker=look.marker,
                markersize=7,
                markeredgecolor=EDGE,
                markeredgewidth=0.6,
                elinewidth=1.0,
                linestyle="",
                zorder=3,
            )
        axes.set_xscale("log")
        axes.set_xlim(points["tokens"].min() / 1.25, points["tokens"].max() * 1.25)
        name_decades(axes.xaxis, float(points["tokens"].min()), float(points["tokens"].max()))
        axes.grid(visible=True, axis="both")
        axes.set_xlabel("LLM tokens an item (title included)")
        axes.set_ylabel(label)
    ordered = [name for name in shown if name in handles]
    figure.legend(
        [handles[name] for name in ordered],
        [plain(looks[name].label) for name in ordered],
        loc="outside lower center",
        ncols=3,
        columnspacing=1.6,
    )
    return figure


@styled
def pictures_figure(frame: pd.DataFrame, pictures: pd.DataFrame, title: str) -> Figure:
    """Draw rows of item pictures with their titles, in the manner of the paper's Figure 12.

    Args:
        frame: Columns row (its heading), place, item_id, item_title, note; places start at 1.
        pictures: Columns item_id, png (bytes of a PNG file); an item without one is drawn as a blank.
        title: Data set and LLM.
    """
    rows = list(dict.fromkeys(frame["row"]))
    columns = int(frame["place"].max())
    figure, _ = new_figure(height=0.4 + 1.75 * len(rows), title=title)
    figure.clear()
    figure.suptitle(plain(title), x=0.01, ha="left")
    known = dict(zip(pictures["item_id"], pictures["png"], strict=True))
    strips = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for strip, heading in zip(strips, rows, strict=True):
        strip.suptitle(plain(heading), x=0.01, ha="left", fontsize=9)
        places = strip.subplots(1, columns, squeeze=False)[0]
        for axes in places:
            axes.set(xticks=[], yticks=[], anchor="S", aspect="equal", frame_on=False)
        for item in frame[frame["row"] == heading].to_dict("records"):
            axes = places[item["place"] - 1]
            if item["item_id"] in known:
                axes.imshow(images.imread(io.BytesIO(known[item["item_id"]]), format="png"))
            else:
                axes.text(
                    0.5, 0.5, "no image", ha="center", va="center", transform=axes.transAxes, fontsize=8
                )
            axes.set_xlabel(f"{_shortened(item['item_title'])}\n{item['note']}", fontsize=7)
    return figure


def _shortened(title: str) -> str:
    """Return the first words of an item's title as the font can draw them."""
    text = " ".join(title.split())
    return plain(text if len(text) <= 22 else f"{text[:21]}…")
