"""Lines and ranges as they are drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd

from reports.drawing.sweep_figures import Panel, lines_figure, ranges_figure
from reports.sections.methods import FEATURE_LOOKS


def test_lines_are_drawn_with_their_points_and_levels() -> None:
    points = pd.DataFrame(
        {
            "series": ["image", "image", "cf"],
            "x": [2.0, 1.0, 1.0],
            "mean": [0.3, 0.2, 0.1],
            "stderr": [0.01, np.nan, np.nan],
        }
    )
    levels = pd.DataFrame({"series": ["all", "image"], "mean": [0.5, 0.4]})
    panel = Panel(curves=points, levels=levels, xlabel="$x_{")
    figure = lines_figure([panel, panel], FEATURE_LOOKS, "title", "y")
    axes = figure.axes[0]
    lines = {line.get_color(): line for line in axes.lines if line.get_marker() == "o"}
    assert lines[FEATURE_LOOKS["image"].colour].get_xdata().tolist() == [1, 2]
    assert lines[FEATURE_LOOKS["image"].colour].get_ydata().tolist() == [0.2, 0.3]
    assert {0.4, 0.5} <= {line.get_ydata()[0] for line in axes.lines}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Image", "CF", "Image + CF + text"]
    figure.canvas.draw()


def test_ranges_leave_out_what_a_panel_lacks() -> None:
    frame = pd.DataFrame(
        {"method": ["image"], "p5": [1.0], "p25": [2.0], "median": [3.0], "p75": [4.0], "p95": [9.0]}
    )
    empty = frame.iloc[:0]
    figure = ranges_figure([("items", frame), ("prompts", empty)], FEATURE_LOOKS, "title")
    first, second = figure.axes
    assert [(bar.get_x(), bar.get_width()) for bar in first.patches] == [(2, 2)]
    assert not second.patches
    figure.canvas.draw()
