"""Distributions of one quantity over items, drawn as outlines: pairs of a picture and a description."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reports.drawing.figures import new_figure, plain, styled

BINS = 40
PAIRS: Mapping[str, tuple[str, str, str]] = {
    "own": ("picture and its own description", "#D55E00", "-"),
    "another": ("picture and another description of the category", "#0072B2", "--"),
}
"""Kinds of pairs: words, colour, line."""


def histogram(values: Mapping[str, pd.Series], panel: str, limits: tuple[float, float]) -> pd.DataFrame:
    """Count items in bins of equal width that all kinds of pairs share.

    Args:
        values: Float [items] by kind of pair.
        panel: What is counted: the title of the axis.
        limits: Ends of the scale; the bins span the values within it.

    Returns:
        Columns panel, pair, left, right, share: the share of the items that fall between left and right.
    """
    together = np.clip(np.concatenate([column.to_numpy(dtype=float) for column in values.values()]), *limits)
    low, high = together.min(), together.max()
    edges = np.linspace(low, high if high > low else low + 1e-6, BINS + 1)
    frames = []
    for pair, column in values.items():
        counts, _ = np.histogram(np.clip(column.to_numpy(dtype=float), *limits), edges)
        frames.append(
            pd.DataFrame(
                {
                    "panel": panel,
                    "pair": pair,
                    "left": edges[:-1],
                    "right": edges[1:],
                    "share": counts / counts.sum(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


@styled
def densities_figure(frame: pd.DataFrame, means: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """Draw the paper's Figures 1(c), 8 and 9: how similar items' pictures and descriptions are.

    Each panel is scaled to its fullest bin, so that narrow and wide distributions can be read side by side.

    Args:
        frame: What ``histogram`` returns, of one panel or several.
        means: By panel and pair, marked by a vertical line.
        title: Data set.
    """
    panels = list(dict.fromkeys(frame["panel"]))
    figure, axes = new_figure(height=2.9, title=title, columns=len(panels))
    for place, panel in zip(axes, panels, strict=True):
        rows = frame[frame["panel"] == panel]
        fullest = rows["share"].max()
        for pair, (words, colour, line) in PAIRS.items():
            bins = rows[rows["pair"] == pair]
            edges = [*bins["left"], bins["right"].iloc[-1]]
            heights = bins["share"].to_numpy() / fullest
            place.stairs(heights, edges, fill=True, color=colour, alpha=0.22, zorder=2)
            place.stairs(heights, edges, color=colour, linestyle=line, linewidth=1.6, label=words, zorder=3)
            place.axvline(means[panel][pair], color=colour, linestyle=line, linewidth=1.0, zorder=4)
        what, _, encoder = panel.partition(", ")
        place.set_xlabel(f"{plain(what)}\n{plain(encoder if len(encoder) <= 26 else f'{encoder[:25]}…')}")
        place.set_ylim(0, 1.08)
    axes[0].set_ylabel("Items, fullest bin = 1")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure
