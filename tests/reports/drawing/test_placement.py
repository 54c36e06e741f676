"""Labels keep off points, lines and each other."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from reports.drawing.placement import label_points


@pytest.mark.parametrize("end", [(1.0, 0.5), (0.0, 0.5), (0.5, 1.0), (0.5, 0.0)])
def test_labels_hit_neither_lines_nor_each_other(end):
    figure = Figure(figsize=(4, 4))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1))
    points = [(0.5, 0.5), (0.55, 0.52)]
    label_points(axes, points, ["first", "second"], [((0.5, 0.5), end)])
    boxes = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == ["first", "second"]
    line = Bbox(axes.transData.transform([(0.5, 0.5), end]))
    drawn = Bbox.from_extents(line.xmin - 1, line.ymin - 1, line.xmax + 1, line.ymax + 1)
    assert not any(first.overlaps(second) for first, second in combinations([*boxes, drawn], 2))


def test_crowded_points_have_labels_apart_and_lines_that_lead_to_them():
    figure = Figure(figsize=(5, 5))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1))
    points = [(0.5 + 0.012 * (number % 3), 0.5 + 0.012 * (number // 3)) for number in range(9)]
    label_points(axes, points, [f"method number {number}" for number in range(9)])
    labels = [text for text in axes.texts if isinstance(text, Annotation)]
    assert sorted(text.get_text() for text in labels) == [f"method number {number}" for number in range(9)]
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in labels]  # of the words without their leader
    assert not any(first.overlaps(second) for first, second in combinations(boxes, 2))
    assert all(axes.get_window_extent().contains(*corner) for box in boxes for corner in box.corners())
    for text, box in zip(labels, boxes, strict=True):
        x, y = axes.transData.transform(text.xy)
        far = np.hypot(max(box.x0 - x, 0, x - box.x1), max(box.y0 - y, 0, y - box.y1))
        assert (text.arrow_patch is not None) == (far > 15 * figure.dpi / 72)


CROWD = {
    "LLM and features": (30, 0.348), "Description token": (31, 0.325), "A-LLMRec": (28, 0.316), "CF token": (28, 0.315),
    "I-LLMRec": (28, 0.309), "Title only": (27, 0.290), "TALLRec (attributes)": (51, 0.315), "TIGER": (10, 0.302),
    "TRSR (summary)": (101, 0.312), "I-LLMRec+": (112, 0.309), "Full description": (80, 0.310), "E4SRec": (10, 0.289),
    "UniMP-style": (58, 0.259), "LC-Rec (semantic IDs)": (42, 0.206), "IDGenRec (keywords)": (138, 0.132),
}  # fmt: skip
"""Methods that are alike in accuracy and cost."""


def test_a_leader_crosses_no_other_label():
    figure = Figure(figsize=(5.5, 4.5))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlim=(0.05, 260), ylim=(0, 0.4), xscale="log")
    label_points(axes, list(CROWD.values()), list(CROWD))
    figure.draw_without_rendering()
    labels = {text.get_text(): text for text in axes.texts if isinstance(text, Annotation)}
    boxes = {name: Text.get_window_extent(text) for name, text in labels.items()}
    crossed = []
    for name, text in labels.items():
        if text.arrow_patch is None:
            continue
        path = text.arrow_patch.get_path().transformed(text.arrow_patch.get_transform())
        crossed += [
            (name, other)
            for other, box in boxes.items()
            if other != name and path.intersects_bbox(box, False)
        ]
    assert len(labels) == len(CROWD) and crossed == []
