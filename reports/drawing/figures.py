"""The figures: tokens an item, latency against accuracy, latency against history length, accuracy by method.

Each function takes tidy data and returns a matplotlib figure; nothing here reads or writes files.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Mapping
from importlib import resources
from itertools import pairwise
from typing import Any, ParamSpec

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from illmrec.escaping import visible
from reports.drawing.placement import label_points, spread
from reports.sections.methods import MethodStyle

EDGE = "#222222"
_Arguments = ParamSpec("_Arguments")
_FAR = 100
"""Times the fastest from which on latencies stand on a logarithmic scale."""


def styled(draw: Callable[_Arguments, Figure]) -> Callable[_Arguments, Figure]:
    """Draw with the style of the reports, whatever the user's own matplotlib settings are."""

    @functools.wraps(draw)
    def drawn(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> Figure:
        with style():
            return draw(*arguments, **options)

    return drawn


def style() -> Any:
    """Return a context in which figures are drawn and saved with the style of the reports."""
    path = resources.files("reports") / "style.mplstyle"
    settings = matplotlib.rc_params_from_file(str(path), use_default_template=True)
    return matplotlib.rc_context(rc=settings)


@styled
def tokens_figure(frame: pd.DataFrame, styles: Mapping[str, MethodStyle], title: str) -> Figure:
    """Draw the paper's Figure 1(a): tokens that one item takes, per representation.

    Args:
        frame: Columns method, tokens_per_item; one row per method.
        styles: Look of each method.
        title: Data set and LLM.
    """
    ordered = frame.sort_values("tokens_per_item", ascending=False)
    figure, (axes,) = new_figure(height=0.9 + 0.34 * len(ordered), title=title)
    _bars(axes, ordered["method"].tolist(), ordered["tokens_per_item"].to_numpy(), styles, "{:.1f}")
    axes.set_xlabel("LLM tokens an item (title included)")
    return figure


@styled
def accuracy_figure(
    frame: pd.DataFrame, styles: Mapping[str, MethodStyle], title: str, labels: Mapping[str, str]
) -> Figure:
    """Draw a metric per method with its standard error, one panel for each set of candidates.

    Args:
        frame: Columns method, candidates, mean, stderr; one row per method and candidates.
        styles: Look of each method, in the order of the bars.
        title: Data set and LLM.
        labels: Axis label of each set of candidates, in the order of the panels.
    """
    methods = [name for name in styles if name in set(frame["method"])]
    figure, panels = new_figure(height=0.9 + 0.3 * len(methods), title=title, columns=len(labels))
    for axes, (candidates, label) in zip(panels, labels.items(), strict=True):
        values = frame[frame["candidates"] == candidates].set_index("method").reindex(methods)
        _bars(axes, methods, values["mean"].to_numpy(), styles, "{:.3f}", errors=values["stderr"].to_numpy())
        axes.set_xlabel(label)
    for axes in panels[1:]:
        axes.tick_params(labelleft=False)
    return figure


@styled
def tradeoff_figure(frame: pd.DataFrame, styles: Mapping[str, MethodStyle], title: str) -> Figure:
    """Draw the paper's Figure 1(b): latency a user against NDCG@10, with the Pareto front.

    Args:
        frame: Columns method, latency_ms, ndcg@10, stderr, pareto (bool).
        styles: Look of each method.
        title: Data set and LLM.
    """
    # Many methods need room for their labels.
    figure, (axes,) = new_figure(height=3.5 + 0.16 * max(0, len(frame) - 15), title=title)
    front = frame[frame["pareto"]].sort_values("latency_ms")
    axes.plot(
        front["latency_ms"],
        front["ndcg@10"],
        color="#888888",
        linewidth=1.2,
        linestyle=(0, (4, 2)),
        drawstyle="steps-post",
        zorder=1,
    )
    for row in frame.to_dict("records"):
        look = styles[row["method"]]
        axes.errorbar(
            row["latency_ms"],
            row["ndcg@10"],
            yerr=row["stderr"] if np.isfinite(row["stderr"]) else None,
            color=look.colour,
            marker=look.marker,
            markersize=9,
            markerfacecolor=look.colour if row["pareto"] else "white",
            markeredgecolor=EDGE if row["pareto"] else look.colour,
            markeredgewidth=0.8 if row["pareto"] else 1.8,
            elinewidth=1.1,
            zorder=3,
        )
    scale_to(axes, costs=frame["latency_ms"], gains=frame["ndcg@10"], errors=frame["stderr"])
    axes.set_xlabel("Median latency a user in ms (left is better)")
    axes.set_ylabel("NDCG@10, sampled (up is better)")
    keys = [
        Line2D([], [], color="#888888", linestyle=(0, (4, 2)), linewidth=1.2, label="Pareto front"),
        Line2D([], [], color="#666666", marker="o", linestyle="", markeredgecolor=EDGE, label="on the front"),
        Line2D(
            [],
            [],
            color="#666666",
            marker="o",
            linestyle="",
            markerfacecolor="white",
            markeredgewidth=1.6,
            label="another method beats it in both",
        ),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=3, handletextpad=0.5, columnspacing=1.6)
    points = list(zip(frame["latency_ms"].astype(float), frame["ndcg@10"].astype(float), strict=True))
    bars = [
        ((x, y - e), (x, y + e)) for (x, y), e in zip(points, frame["stderr"], strict=True) if np.isfinite(e)
    ]
    steps = [
        line
        for (x0, y0), (x1, y1) in pairwise(zip(front["latency_ms"], front["ndcg@10"], strict=True))
        for line in (((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)))
    ]
    label_points(axes, points, [plain(styles[name].label) for name in frame["method"]], [*bars, *steps])
    return figure


@styled
def latency_figure(frame: pd.DataFrame, styles: Mapping[str, MethodStyle], title: str) -> Figure:
    """Draw the paper's Figure 3: latency of one user against the number of items in the history.

    Lines are medians over users; whiskers reach up to the 95th percentile over users. Where methods are far apart, as
    with and without an LLM, the scale is logarithmic.

    Args:
        frame: Columns method, history_length, latency_ms_median, latency_ms_p95_users.
        styles: Look of each method.
        title: Data set and LLM.
    """
    methods = [name for name in styles if name in set(frame["method"])]
    figure, (axes,) = new_figure(height=height_of_ends(len(methods)), title=title)
    lengths = sorted(frame["history_length"].unique())
    nudge = 0.004 * (lengths[-1] - lengths[0])
    ends: list[tuple[str, float, float]] = []
    for position, name in enumerate(methods):
        line = frame[frame["method"] == name].sort_values("history_length")
        look = styles[name]
        x = line["history_length"].to_numpy(dtype=float)
        y = line["latency_ms_median"].to_numpy(dtype=float)
        above = np.clip(line["latency_ms_p95_users"].to_numpy(dtype=float) - y, 0, None)
        axes.plot(x, y, **line_look(look), zorder=3)
        # Whiskers stand a little apart, so that those of neighbouring lines can be told from each other.
        axes.errorbar(
            x + nudge * (position - (len(methods) - 1) / 2),
            y,
            yerr=np.vstack([np.zeros_like(above), above]),
            fmt="none",
            ecolor=look.colour,
            elinewidth=1.0,
            alpha=0.65,
            zorder=2,
        )
        ends.append((name, float(x[-1]), float(y[-1])))
    scale_up(axes, frame["latency_ms_median"])
    axes.set_xticks(lengths)
    axes.grid(visible=True, axis="both")
    axes.set_xlabel(r"Items in the user's history, $|S_u|$")
    axes.set_ylabel("Latency of one user in ms (median to p95)")
    label_ends(axes, ends, styles, x_end=float(lengths[-1]))
    return figure


def new_figure(
    *, height: float, title: str, columns: int = 1, shared: bool = True
) -> tuple[Figure, list[Axes]]:
    """Return a figure of print width with panels side by side.

    Args:
        height: In inches.
        title: Data set and LLM, any text.
        columns: Number of panels.
        shared: Whether they share the vertical axis.
    """
    figure = Figure(figsize=(6.3, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(np.atleast_1d(figure.subplots(1, columns, sharey=shared and columns > 1)))
    panels[0].set_title(plain(title))
    return figure, panels


def scale_to(axes: Axes, *, costs: pd.Series, gains: pd.Series, errors: pd.Series) -> None:
    """Fit axes to settings with a cost and a gain, with room for labels; the costs are logarithmic where they spread.

    Args:
        axes: To be fitted.
        costs: Across, float [n].
        gains: Up, float [n].
        errors: Standard errors of the gains, float [n], NaN where unknown.
    """
    low, high = costs.min(), costs.max()
    if low > 0 and high > 10 * low:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.6, high * 1.9)
        name_decades(axes.xaxis, low, high)
    else:
        axes.set_xlim(0, high * 1.22)
    reach = errors.fillna(0)
    bottom, top = (gains - reach).min(), (gains + reach).max()
    margin = 0.16 * (top - bottom) or 0.01
    axes.set_ylim(bottom - margin, top + margin)
    axes.grid(visible=True, axis="both")


def scale_up(axes: Axes, values: pd.Series) -> None:
    """Let an axis begin at 0, or be logarithmic where values are far apart.

    Args:
        axes: Their vertical axis is fitted.
        values: What is drawn, float [n].
    """
    if values.max() > _FAR * values.min() > 0:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, None)


def height_of_ends(lines: int) -> float:
    """Return the height of a figure, in inches, in which so many lines are named at their ends."""
    return max(3.7, 0.25 * lines + 0.6)


def name_decades(axis: Axis, low: float, high: float) -> None:
    """Name enough values on a logarithmic axis: 1, 2 and 5 of each decade, or the decades where there are many."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 200 * low else (1.0,)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def line_look(look: MethodStyle) -> dict[str, Any]:
    """Return how a line with its points is drawn, as options of matplotlib."""
    points = {"marker": look.marker, "markeredgecolor": EDGE, "markeredgewidth": 0.6}
    return {"color": look.colour, "linestyle": look.line, **points}


def bar(axes: Axes, position: int, value: float, look: MethodStyle, *, edge: str = "") -> None:
    """Draw a horizontal bar with its hatch.

    Args:
        axes: Where.
        position: Its place from the top.
        value: Its length.
        look: Its colour and hatch.
        edge: Colour of the hatch: white on dark bars and dark on light ones, which grey print keeps apart.
    """
    strokes = edge or ("white" if _dark(look.colour) else "#444444")
    axes.barh(
        position,
        value,
        height=0.66,
        color=look.colour,
        edgecolor=strokes,
        hatch=look.hatch,
        linewidth=0,
        zorder=1 if edge else 2,
    )
    axes.barh(position, value, height=0.66, facecolor="none", edgecolor=EDGE, linewidth=0.8, zorder=3)


def name_bars(axes: Axes, labels: list[str]) -> None:
    """Name horizontal bars, from top to bottom."""
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")


def _bars(
    axes: Axes,
    methods: list[str],
    values: np.ndarray,
    styles: Mapping[str, MethodStyle],
    form: str,
    errors: np.ndarray | None = None,
) -> None:
    """Draw horizontal bars from top to bottom, each with its value at its end; a missing value has no bar."""
    reach = np.nan_to_num(errors) if errors is not None else np.zeros(len(values))
    largest = float(np.nanmax(values + reach)) or 1.0
    for position, (name, value, error) in enumerate(zip(methods, values, reach, strict=True)):
        if not np.isfinite(value):
            continue
        bar(axes, position, value, styles[name])
        if errors is not None and error > 0:
            axes.errorbar(value, position, xerr=error, color=EDGE, elinewidth=1.1, zorder=4)
        axes.text(
            value + error + 0.015 * largest, position, form.format(value), va="center", fontsize=8, zorder=5
        )
    name_bars(axes, [plain(styles[name].label) for name in methods])
    axes.set_xlim(0, largest * 1.22)


def label_ends(
    axes: Axes, ends: list[tuple[str, float, float]], styles: Mapping[str, MethodStyle], x_end: float
) -> None:
    """Name each line at its right end, with a thin leader where the name had to move."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    forth, back = (np.log10, lambda y: 10**y) if axes.get_yscale() == "log" else (float, float)
    low, high = map(forth, axes.get_ylim())
    gap = 0.23 / figure.get_figheight() * (high - low)
    places = map(back, spread([forth(y) for _, _, y in ends], gap, low=low, high=high))
    left, right = axes.get_xlim()
    text_x = right + 0.03 * (right - left)
    for (name, x, y), place in zip(ends, places, strict=True):
        axes.annotate(
            plain(styles[name].label),
            xy=(max(x, x_end), y),
            xytext=(text_x, place),
            va="center",
            fontsize=8.5,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": styles[name].colour,
                "linewidth": 0.8,
                "shrinkA": 1,
                "shrinkB": 6,
                "relpos": (0.0, 0.5),
            },
        )
    axes.set_xlim(left, right)


def _dark(colour: str) -> bool:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140


def plain(text: str) -> str:
    """Return text that matplotlib draws as it is, at most 70 characters in one line.

    A dollar sign would start a formula, and a question mark stands for what the figures' font cannot draw.
    """
    known = _characters()
    short = " ".join(visible(text[:1000]).split())
    short = short if len(short) <= 70 else f"{short[:69]}…"
    # What formats text draws nothing, and a byte-order mark stops the PDF.
    letters = [letter for letter in short if unicodedata.category(letter) != "Cf"]
    drawn = "".join(letter if ord(letter) in known else "?" for letter in letters)
    # A legend leaves out what begins with an underscore.
    return (" " if drawn.startswith("_") else "") + drawn.replace("$", r"\$")


@functools.cache
def _characters() -> frozenset[int]:
    return frozenset(FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap())
