"""Figures of the engine's benchmarks: pace of each path, time against size, recall against speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.frames.retrieval import EFFORTS
from bench.frames.serving import ANEW, APPEND
from bench.frames.throughput import (
    COMPILED,
    ENGINE,
    LLAMA_CPP,
    PADDING_FREE,
    PATHS,
    PHASES,
    RELEASED_STYLE,
    SORTED,
    TWO_PASS,
)
from reports.drawing.figures import (
    EDGE,
    bar,
    line_look,
    name_bars,
    name_decades,
    new_figure,
    plain,
    styled,
)
from reports.sections.methods import MethodStyle, looks

PATH_LOOKS = looks(
    (TWO_PASS, "Two padded passes", "#0072B2", "s", "--", "//"),
    (SORTED, "Two passes by length, no LM head", "#56B4E9", "v", "--", ".."),
    (PADDING_FREE, "Two passes without padding", "#009E73", "P", "-.", "--"),
    (RELEASED_STYLE, "Released code's manner", "#999999", "^", ":", "xx"),
    (LLAMA_CPP, "llama.cpp, prompts only", "#CC79A7", "X", ":", "++"),
    (ENGINE, "Engine", "#D55E00", "o", "-", ""),
    (COMPILED, "Engine, compiled", "#E69F00", "D", "-.", "\\\\"),
)
"""Looks of the ways to run the same model."""

PHASE_LABELS = {
    "train-one": "Training, one target a user",
    "train-all": "Training, every position",
    "inference": "Inference",
}
PHASE_UNITS = {"train-one": "targets/s", "train-all": "targets/s", "inference": "users/s"}

WAY_LABELS = {ANEW: "all read anew", APPEND: "the last one appended"}
"""Ways to the next recommendation, from left to right."""

AXIS_LABELS = {"users": "Users", "history": "Items of history", "catalogue": "Items of the catalogue"}

INDEX_LOOKS = looks(
    ("exact", "Exact, in blocks", "#D55E00", "o", "-"),
    ("flat", "FAISS flat", "#0072B2", "s", "--"),
    ("hnsw", "FAISS HNSW", "#009E73", "^", "-."),
    ("ivfpq", "FAISS IVF-PQ", "#E69F00", "D", ":"),
)
"""Looks of the kinds of index."""


@styled
def throughput_figure(frame: pd.DataFrame, title: str) -> Figure:
    """Draw samples per second and peak memory of each path, a column of panels for each phase.

    Args:
        frame: Columns path, phase, samples_per_second, samples_low, samples_high, speedup_vs_strongest,
            peak_memory_mb; one row per path and phase.
        title: Data set and LLM.
    """
    phases = [phase for phase in PHASES if (frame["phase"] == phase).any()]
    paths = [path for path in PATHS if (frame["path"] == path).any()]
    figure = Figure(figsize=(6.3, 1.7 + 0.5 * len(paths)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(phases), sharey=True, squeeze=False)
    for column, phase in enumerate(phases):
        rows = frame[frame["phase"] == phase].set_index("path").reindex(paths)
        pace, memory = panels[:, column]
        labels = [
            f"{row.samples_per_second:.3g}"
            + (f" ({row.speedup_vs_strongest:.1f}×)" if np.isfinite(row.speedup_vs_strongest) else "")
            for row in rows.itertuples()
        ]
        reach = rows[["samples_low", "samples_high"]].to_numpy(dtype=float)
        _bars(pace, paths, rows["samples_per_second"].to_numpy(dtype=float), labels, reach)
        pace.set_title(PHASE_LABELS[phase].replace(", ", ",\n"))
        pace.set_xlabel(PHASE_UNITS[phase])
        gigabytes = rows["peak_memory_mb"].to_numpy(dtype=float) / 1e3
        _bars(memory, paths, gigabytes, [f"{value:.2f}" for value in gigabytes])
        memory.set_xlabel("peak memory in GB")
    figure.suptitle(plain(title), fontsize=9, color="#444444", x=0.01, ha="left")
    return figure


@styled
def serving_figure(frame: pd.DataFrame, styles: Mapping[str, MethodStyle], title: str) -> Figure:
    """Draw the latency of the next recommendation against the length of the history, a panel for each way.

    Args:
        frame: Columns method, history_length, way, latency_ms_median; one row for each of them.
        styles: How methods look, in the order of the legend.
        title: Data set and LLM.
    """
    figure, panels = new_figure(height=3.2, title=title, columns=len(WAY_LABELS))
    lengths = sorted(frame["history_length"].unique())
    for panel, (way, label) in zip(panels, WAY_LABELS.items(), strict=True):
        for method, style in styles.items():
            rows = frame[(frame["method"] == method) & (frame["way"] == way)].sort_values("history_length")
            name = style.label if way == ANEW else None
            panel.plot(
                rows["history_length"], rows["latency_ms_median"], **line_look(style), label=name, zorder=3
            )
        panel.set_yscale("log")
        panel.set_xticks(lengths)
        panel.grid(visible=True, axis="both")
        panel.set_xlabel(f"Items of history, {label}")
    name_decades(panels[0].yaxis, frame["latency_ms_median"].min(), frame["latency_ms_median"].max())
    panels[0].set_ylabel("Latency in ms (down is better)")
    figure.legend(loc="outside lower center", ncols=4, columnspacing=1.6)
    return figure


@styled
def scaling_figure(frame: pd.DataFrame, title: str) -> Figure:
    """Draw seconds against size on logarithmic axes with the fitted power law, one panel for each axis.

    Args:
        frame: Columns axis, value, seconds_median, seconds_low, seconds_high, exponent, exponent_stderr.
        title: Data set and LLM.
    """
    axes = [axis for axis in AXIS_LABELS if (frame["axis"] == axis).any()]
    figure = Figure(figsize=(6.3, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(axes), squeeze=False)[0]
    colour = PATH_LOOKS[ENGINE].colour
    for panel, axis in zip(panels, axes, strict=True):
        rows = frame[frame["axis"] == axis].sort_values("value")
        x, y = (rows[name].to_numpy(dtype=float) for name in ("value", "seconds_median"))
        low, high = (rows[f"seconds_{end}"].to_numpy(dtype=float) for end in ("low", "high"))
        exponent = float(rows["exponent"].iloc[0])
        panel.set_xscale("log")
        panel.set_yscale("log")
        if np.isfinite(exponent):
            # Least squares on logarithms pass through the mean point.
            factor = np.exp(np.log(y).mean() - exponent * np.log(x).mean())
            panel.plot(x, factor * x**exponent, color="#666666", linewidth=1.1, linestyle=(0, (4, 2)))
            panel.set_title(f"seconds ∝ n^{exponent:.2f}")
        panel.errorbar(
            x,
            y,
            yerr=np.vstack([y - low, high - y]),
            linestyle="",
            color=colour,
            marker="o",
            markeredgecolor=EDGE,
            markeredgewidth=0.6,
            elinewidth=1.0,
            zorder=3,
        )
        _sizes(panel, x)
        name_decades(panel.yaxis, low.min(), high.max())
        panel.set_xlabel(AXIS_LABELS[axis])
    panels[0].set_ylabel("Seconds")
    figure.suptitle(plain(title), fontsize=9, color="#444444", x=0.01, ha="left")
    return figure


@styled
def retrieval_figure(frame: pd.DataFrame, title: str) -> Figure:
    """Draw queries per second against recall, a line for each kind of index with its efforts as points.

    Args:
        frame: Columns kind, effort, k, recall, queries_per_second, queries_low, queries_high.
        title: Size of the catalogue.
    """
    figure, (axes,) = new_figure(height=3.6, title=title)
    for kind in EFFORTS:
        rows = frame[frame["kind"] == kind].sort_values("recall")
        if rows.empty:
            continue
        look = INDEX_LOOKS[kind]
        y, low, high = (rows[f"queries_{end}"].to_numpy(dtype=float) for end in ("per_second", "low", "high"))
        axes.errorbar(
            rows["recall"].to_numpy(dtype=float),
            y,
            yerr=np.vstack([y - low, high - y]),
            **line_look(look),
            elinewidth=1.0,
            label=look.label,
            clip_on=False,
            zorder=3,
        )
        for row in rows.dropna(subset=["effort"]).to_dict("records"):
            axes.annotate(
                f"{row['effort']:.0f}",
                (row["recall"], row["queries_per_second"]),
                (0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
                color="#444444",
            )
    axes.set_yscale("log")
    axes.grid(visible=True, axis="both")
    axes.set_xlabel(f"Recall@{frame['k'].iloc[0]} of the exact answer (right is better)")
    axes.set_ylabel("Queries a second (up is better)")
    axes.margins(x=0.08, y=0.12)
    figure.legend(loc="outside lower center", ncols=4, columnspacing=1.6)
    return figure


def _bars(
    axes: Axes,
    paths: Sequence[str],
    values: np.ndarray,
    labels: Sequence[str],
    reach: np.ndarray | None = None,
) -> None:
    """Draw a bar per path from top to bottom with its label at the end; a path that was not measured has none."""
    ends = values if reach is None else np.fmax(values, reach[:, 1])
    largest = float(np.nanmax(ends))
    for position, (path, value, end, label) in enumerate(zip(paths, values, ends, labels, strict=True)):
        if not np.isfinite(value):
            continue
        bar(axes, position, value, PATH_LOOKS[path], edge="white")
        if reach is not None:
            low, high = reach[position]
            error = [[value - low], [high - value]]
            axes.errorbar(value, position, xerr=error, color=EDGE, elinewidth=1.0, zorder=4)
        axes.text(end + 0.03 * largest, position, label, va="center", fontsize=7.5, zorder=5)
    name_bars(axes, [PATH_LOOKS[path].label for path in paths])
    # Labels that also tell the ratio take more room.
    axes.set_xlim(0, (1.4 if reach is None else 2.0) * largest)
    axes.locator_params(axis="x", nbins=3)


def _sizes(axes: Axes, values: np.ndarray) -> None:
    """Name the measured sizes on a logarithmic axis: 4, 1k, 1M."""
    axes.set_xticks(values, [_short(value) for value in values])
    axes.minorticks_off()
    axes.grid(visible=True, axis="both")


def _short(value: float) -> str:
    for size, sign in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{sign}"
    return f"{value:g}"
