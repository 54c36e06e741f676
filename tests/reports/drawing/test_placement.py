"""Labels keep off points, lines and each other."""

from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
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
