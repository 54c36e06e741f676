"""Where labels go in a figure: beside what they name, not over data and not over each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

_OFFSETS = (
    (9, 0, "left", "center"),
    (-9, 0, "right", "center"),
    (0, 9, "center", "bottom"),
    (0, -9, "center", "top"),
    (7, 8, "left", "bottom"),
    (7, -8, "left", "top"),
    (-7, 8, "right", "bottom"),
    (-7, -8, "right", "top"),
    (0, 22, "center", "bottom"),
    (0, -22, "center", "top"),
)


def spread(positions: npt.ArrayLike, gap: float) -> npt.NDArray[np.float64]:
    """Return positions moved as little as needed so that neighbours are at least ``gap`` apart.

    Overlapping neighbours become a block of even gaps around their mean, until no two blocks overlap.

    Args:
        positions: Wanted positions along one axis, float [n].
        gap: Smallest distance between two.

    Returns:
        Positions in the order given, float [n].
    """
    wanted = np.asarray(positions, dtype=np.float64)
    order = np.argsort(wanted, kind="stable")
    blocks: list[tuple[float, int]] = []
    for position in wanted[order]:
        centre, count = float(position), 1
        while blocks and centre - (count - 1) * gap / 2 < blocks[-1][0] + (blocks[-1][1] + 1) * gap / 2:
            before, size = blocks.pop()
            centre = (before * size + centre * count) / (size + count)
            count += size
        blocks.append((centre, count))
    placed = np.concatenate(
        [centre + (np.arange(count) - (count - 1) / 2) * gap for centre, count in blocks] or [np.empty(0)]
    )
    result = np.empty_like(placed)
    result[order] = placed
    return result


Point = tuple[float, float]


def label_points(
    axes: Axes, points: Sequence[Point], texts: Sequence[str], lines: Sequence[tuple[Point, Point]] = ()
) -> None:
    """Write a label beside each point, in the first place that hits no point, line, label or edge of the axes.

    Args:
        axes: The axes, with their limits set.
        points: Data coordinates.
        texts: One label per point.
        lines: Ends of horizontal and vertical lines that are drawn, in data coordinates.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    inside = axes.get_window_extent(renderer)
    pixels = axes.transData.transform(np.asarray(points, dtype=np.float64))
    radius = 5 * figure.dpi / 72
    taken = [Bbox.from_extents(x - radius, y - radius, x + radius, y + radius) for x, y in pixels]
    ends = axes.transData.transform(np.asarray(lines, dtype=np.float64).reshape(-1, 2)).reshape(-1, 4)
    drawn = [
        Bbox.from_extents(min(x0, x1) - 1, min(y0, y1) - 1, max(x0, x1) + 1, max(y0, y1) + 1)
        for x0, y0, x1, y1 in ends
    ]
    for position, (point, text) in enumerate(zip(points, texts, strict=True)):
        others = taken[:position] + taken[position + 1 :] + drawn
        best: tuple[float, Annotation] | None = None
        for dx, dy, horizontal, vertical in _OFFSETS:
            label = axes.annotate(
                text, point, (dx, dy), textcoords="offset points", ha=horizontal, va=vertical, fontsize=8
            )
            box = label.get_window_extent(renderer)
            cost = (
                sum(_shared(box, other) for other in others) + box.width * box.height - _shared(box, inside)
            )
            if best is None or cost < best[0] - 1e-6:
                if best is not None:
                    best[1].remove()
                best = (cost, label)
            else:
                label.remove()
            if cost <= 1e-6:
                break
        assert best is not None
        taken.append(best[1].get_window_extent(renderer))


def _shared(first: Bbox, second: Bbox) -> float:
    overlap = Bbox.intersection(first, second)
    return float(overlap.width * overlap.height) if overlap is not None else 0.0
