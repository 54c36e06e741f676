"""Figures of sweeps: a metric against what is varied, one line per method or feature set; ranges of a distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.drawing.figures import EDGE, line_look, name_decades, new_figure, plain, styled
from reports.sections.methods import MethodStyle


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel of a figure of lines.

    Attributes:
        curves: Columns series, x, mean, stderr; one row per point.
        levels: Columns series, mean: horizontal lines for what is not varied.
        xlabel: What is varied.
        doubling: Whether x doubles from point to point.
    """

    curves: pd.DataFrame
    levels: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"series": [], "mean": []}))
    xlabel: str
    doubling: bool = False


@styled
def lines_figure(
    panels: Sequence[Panel], looks: Mapping[str, MethodStyle], title: str, ylabel: str
) -> Figure:
    """Draw lines with error bars, the panels side by side on one scale, and a legend below.

    Args:
        panels: The panels, from left to right.
        looks: Look of each series, in the order of the legend.
        title: Data set and LLM.
        ylabel: What is measured.
    """
    series = {name for panel in panels for frame in (panel.curves, panel.levels) for name in frame["series"]}
    shown = [name for name in looks if name in series]
    rows = -(-len(shown) // 3)
    figure, axes = new_figure(height=3.2 + 0.2 * rows, title=title, columns=len(panels))
    for place, panel in zip(axes, panels, strict=True):
        _draw(place, panel, shown, looks, ticks=8 if len(panels) < 3 else 4)
    axes[0].set_ylabel(ylabel)
    handles: dict[str, Any] = {}
    for place in axes:
        for handle, label in zip(*place.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    ordered = [plain(looks[name].label) for name in shown]
    figure.legend(
        [handles[label] for label in ordered],
        ordered,
        loc="outside lower center",
        ncols=min(3, len(ordered)),
        columnspacing=1.6,
    )
    return figure


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
        place.set_xlabel(f"Seconds of training, {plain(heading)}")
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


@styled
def detectable_figure(
    panels: Sequence[tuple[str, pd.DataFrame]],
    looks: Mapping[str, MethodStyle],
    title: str,
    *,
    wanted: float,
    everyone: int,
) -> Figure:
    """Draw the smallest difference that is found against the number of users, on logarithmic axes, a line a series.

    Args:
        panels: Axis label and frame of each panel: columns series, users, detectable.
        looks: Look of each series, in the order of the legend.
        title: Data set and LLM.
        wanted: The wanted difference, a level across.
        everyone: Users that the data have, a line upwards.
    """
    shown = [name for name in looks if any((frame["series"] == name).any() for _, frame in panels)]
    figure, axes = new_figure(height=3.4, title=title, columns=len(panels))
    values = pd.concat([frame["detectable"] for _, frame in panels])
    for place, (xlabel, frame) in zip(axes, panels, strict=True):
        for name in shown:
            line = frame[frame["series"] == name].sort_values("users")
            label = plain(looks[name].label)
            place.plot(line["users"], line["detectable"], **line_look(looks[name]), label=label, zorder=3)
        place.axhline(wanted, color="#444444", linestyle="--", linewidth=1.1, label="wanted difference")
        place.axvline(everyone, color="#999999", linestyle=":", linewidth=1.1, label="users of the data")
        place.set_xscale("log")
        place.set_yscale("log")
        name_decades(place.xaxis, float(frame["users"].min()), float(frame["users"].max()))
        place.grid(visible=True, axis="both")
        place.set_xlabel(plain(xlabel))
    name_decades(axes[0].yaxis, min(wanted, float(values.min())), max(wanted, float(values.max())))
    axes[0].set_ylabel("Detectable difference, NDCG@10")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, columnspacing=1.6)
    return figure


@styled
def ranges_figure(
    parts: Sequence[tuple[str, pd.DataFrame]], looks: Mapping[str, MethodStyle], title: str
) -> Figure:
    """Draw distributions: a thin line from 5th to 95th percentile, a bar over the middle half, a dot at the median.

    Args:
        parts: Axis label and frame of each panel; columns method, p5, p25, median, p75, p95.
        looks: Look of each method, in the order from top to bottom.
        title: Data set and LLM.
    """
    names = [name for name in looks if any(name in set(frame["method"]) for _, frame in parts)]
    figure, axes = new_figure(height=1.0 + 0.3 * len(names), title=title, columns=len(parts))
    for place, (xlabel, frame) in zip(axes, parts, strict=True):
        rows = frame.set_index("method")
        for position, name in enumerate(names):
            if name not in rows.index:
                continue
            low, first, middle, third, high = rows.loc[name, ["p5", "p25", "median", "p75", "p95"]]
            look = looks[name]
            place.plot([low, high], [position, position], color=look.colour, linewidth=1.6, zorder=2)
            place.barh(
                position,
                third - first,
                left=first,
                height=0.5,
                color=look.colour,
                edgecolor=EDGE,
                linewidth=0.7,
                zorder=3,
            )
            place.plot(
                [middle], [position], marker="o", color="white", markeredgecolor=EDGE, markersize=5, zorder=4
            )
        place.set_xlim(0, None)
        place.set_xlabel(xlabel)
        place.grid(visible=False, axis="y")
    axes[0].set_yticks(range(len(names)), [plain(looks[name].label) for name in names])
    axes[0].set_ylim(len(names) - 0.45, -0.55)
    for place in axes:
        place.tick_params(axis="y", length=0, labelleft=place is axes[0])
    return figure


def _draw(
    axes: Axes, panel: Panel, names: Sequence[str], looks: Mapping[str, MethodStyle], *, ticks: int
) -> None:
    for name in names:
        look = looks[name]
        line = panel.curves[panel.curves["series"] == name].sort_values("x")
        level = panel.levels[panel.levels["series"] == name]
        if len(line):
            errors = line["stderr"].to_numpy(dtype=float)
            axes.errorbar(
                line["x"].to_numpy(dtype=float),
                line["mean"].to_numpy(dtype=float),
                yerr=np.nan_to_num(errors) if np.isfinite(errors).any() else None,
                **line_look(look),
                elinewidth=1.0,
                label=plain(look.label),
                zorder=3,
            )
        for mean in level["mean"]:
            axes.axhline(
                mean,
                color=look.colour,
                linestyle=look.line,
                linewidth=1.2,
                label=None if len(line) else plain(look.label),
                zorder=2,
            )
    points = sorted(panel.curves["x"].unique())
    if panel.doubling and points and points[0] > 0:
        axes.set_xscale("log", base=2)
        axes.minorticks_off()
    if len(points) <= 8:
        axes.set_xticks(points, [f"{point:g}" for point in points])
    if len(points) > ticks:  # narrow panels: both ends and the middle are named
        named = (points[0], points[len(points) // 2], points[-1])
        axes.set_xticks(named, [f"{point:g}" for point in named])
    axes.grid(visible=True, axis="both")
    axes.set_xlabel(plain(panel.xlabel))
