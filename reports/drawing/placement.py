"""Where labels go in a figure: beside what they name, not over data and not over each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

_FONT_SIZE = 8.0
_RADIUS = 5.0
"""Of a marker, in points."""
_STEP = 3.0
"""Between the places of a leader that are looked at, in points."""
_CLEAR = 3.0
"""From a label without a leader to the next point's marker, in points: nearer, it could be of either."""
_COVERED, _CROSSED_TEXT, _CROSSED_POINT = 4.0, 2.0, 0.3
"""What is worse: a label over something, by area; a leader over a label or a marker, by squares of a line's height."""

_FREE = 1e-6
"""A place that costs no more has nothing wrong with it."""
_ROUNDS = 2
"""How often labels in bad places look for others once all stand somewhere."""


@dataclass(frozen=True)
class _Place:
    """Where a label may stand, seen from its point: its anchor in points, and which of its sides that is.

    Attributes:
        across: To the right.
        up: Upwards.
        side: Part of the label's width that lies left of the anchor, 0 to 1.
        foot: Part of the label's height that lies below the anchor, 0 to 1.
        leader: A line leads there.
    """

    across: float
    up: float
    side: float
    foot: float
    leader: bool = False

    def box(self, point: npt.NDArray[np.float64], size: tuple[float, float], scale: float) -> Bbox:
        """Return the label's box in pixels, where a point of the page has ``scale`` of them."""
        x, y = point + scale * np.array([self.across, self.up])
        width, height = size
        return Bbox.from_bounds(x - self.side * width, y - self.foot * height, width, height)

    def line(self, point: npt.NDArray[np.float64], scale: float) -> list[Bbox]:
        """Return small boxes along the leader, in pixels."""
        if not self.leader:
            return []
        way = np.array([self.across, self.up])
        length = float(np.hypot(*way))
        places = np.arange(_RADIUS + _STEP, length, _STEP) / length
        return [_square(place, 1.0) for place in point + scale * places[:, None] * way]


_NEAR = (
    _Place(9, 0, 0.0, 0.5),
    _Place(-9, 0, 1.0, 0.5),
    _Place(0, 9, 0.5, 0.0),
    _Place(0, -9, 0.5, 1.0),
    _Place(7, 8, 0.0, 0.0),
    _Place(7, -8, 0.0, 1.0),
    _Place(-7, 8, 1.0, 0.0),
    _Place(-7, -8, 1.0, 1.0),
)


def _around(radius: float) -> list[_Place]:
    """Return places on a circle, the nearest to the horizontal first: there a leader meets the label's middle."""
    found = []
    for degrees in (0, 180, 20, 160, -20, -160, 40, 140, -40, -140, 60, 120, -60, -120, 90, -90):
        across, up = radius * math.cos(math.radians(degrees)), radius * math.sin(math.radians(degrees))
        upright = abs(degrees) == 90
        side = 0.5 if upright else float(across < 0)
        found.append(_Place(across, up, side, float(up < 0) if upright else 0.5, leader=True))
    return found


_PLACES = (*_NEAR, *(place for radius in (22, 32, 44, 58, 74, 92, 112, 134) for place in _around(radius)))


def spread(
    positions: npt.ArrayLike, gap: float, *, low: float = -math.inf, high: float = math.inf
) -> npt.NDArray[np.float64]:
    """Return positions moved as little as needed so that neighbours are at least ``gap`` apart.

    Overlapping neighbours become a block of even gaps around their mean, until no two blocks overlap. What lies beyond
    a bound moves within, and moves others on; if there is no room for all, some go beyond ``high``.

    Args:
        positions: Wanted positions along one axis, float [n].
        gap: Smallest distance between two.
        low: Lowest position.
        high: Highest.

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
    steps = gap * np.arange(len(placed))
    placed = np.minimum.accumulate((placed + steps[::-1])[::-1].clip(max=high))[::-1] - steps[::-1]
    placed = np.maximum.accumulate((placed - steps).clip(min=low)) + steps
    result = np.empty_like(placed)
    result[order] = placed
    return result


Point = tuple[float, float]


def label_points(
    axes: Axes, points: Sequence[Point], texts: Sequence[str], lines: Sequence[tuple[Point, Point]] = ()
) -> None:
    """Write a label beside each point, in the nearest place that hits no point, line, label or edge of the axes.

    Where there is none beside the point, it stands farther away, and a thin line leads to it.

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
    scale = figure.dpi / 72
    pixels = axes.transData.transform(np.asarray(points, dtype=np.float64).reshape(-1, 2))
    markers = [_square(pixel, _RADIUS * scale) for pixel in pixels]
    ends = axes.transData.transform(np.asarray(lines, dtype=np.float64).reshape(-1, 2)).reshape(-1, 4)
    drawn = [
        Bbox.from_extents(min(x0, x1) - 1, min(y0, y1) - 1, max(x0, x1) + 1, max(y0, y1) + 1)
        for x0, y0, x1, y1 in ends
    ]
    sizes = [_size(axes, text, renderer) for text in texts]
    chosen: dict[int, _Place] = {}

    def cost(number: int, place: _Place) -> float:
        """Return what is wrong with a place, given those that the other labels have."""
        pixel, size = pixels[number], sizes[number]
        others = markers[:number] + markers[number + 1 :]
        standing = [(other, found) for other, found in chosen.items() if other != number]
        labels = [found.box(pixels[other], sizes[other], scale) for other, found in standing]
        leaders = [found.line(pixels[other], scale) for other, found in standing if found.leader]
        box, line = place.box(pixel, size, scale), place.line(pixel, scale)
        near = box if place.leader else box.padded(_CLEAR * scale)
        covered = _covered(near, others) + _covered(box, [*labels, *drawn])
        covered += box.width * box.height - _shared(box, inside)
        over_text = sum(_covered(part, labels) > 0 for part in line)
        over_text += sum(_covered(box, parts) > 0 for parts in leaders)
        over_points = sum(_covered(part, others) > 0 for part in line)
        crossed = _CROSSED_TEXT * over_text + _CROSSED_POINT * over_points
        return _COVERED * covered + crossed * size[1] ** 2

    def best(number: int) -> _Place:
        costs: dict[_Place, float] = {}
        for place in _PLACES:
            costs[place] = cost(number, place)
            if costs[place] <= _FREE:
                break
        return min(costs, key=costs.__getitem__)

    order = _crowded_first(pixels, 50 * scale).tolist()
    for number in order:
        chosen[number] = best(number)
    # Those that came first did not know of those after them.
    for _ in range(_ROUNDS):
        for number in order:
            if cost(number, chosen[number]) > _FREE:
                chosen[number] = best(number)
    for number in order:
        _write(axes, texts[number], points[number], chosen[number])


def _crowded_first(pixels: npt.NDArray[np.float64], reach: float) -> npt.NDArray[np.int64]:
    """Return the points' numbers, those with the most neighbours first: they have the least choice."""
    distances = np.hypot(*(pixels[:, None] - pixels).T)
    return np.argsort(-(distances < reach).sum(axis=0), kind="stable")


def _square(centre: npt.NDArray[np.float64], radius: float) -> Bbox:
    x, y = centre - radius
    return Bbox.from_bounds(x, y, 2 * radius, 2 * radius)


def _covered(box: Bbox, others: Sequence[Bbox]) -> float:
    """Return how much of some boxes another covers."""
    return sum(_shared(box, other) for other in others)


def _size(axes: Axes, text: str, renderer: Any) -> tuple[float, float]:
    """Return a label's width and height in pixels."""
    label = axes.text(0, 0, text, fontsize=_FONT_SIZE)
    box = label.get_window_extent(renderer)
    label.remove()
    return float(box.width), float(box.height)


def _write(axes: Axes, text: str, point: Point, place: _Place) -> None:
    leader = {
        "arrowstyle": "-", "color": "#777777", "linewidth": 0.6, "shrinkA": 0.5, "shrinkB": _RADIUS,
        "relpos": (place.side, place.foot),
    }  # fmt: skip
    axes.annotate(
        text,
        point,
        (place.across, place.up),
        textcoords="offset points",
        ha={0.0: "left", 0.5: "center", 1.0: "right"}[place.side],
        va={0.0: "bottom", 0.5: "center", 1.0: "top"}[place.foot],
        fontsize=_FONT_SIZE,
        arrowprops=leader if place.leader else None,
    )


def _shared(first: Bbox, second: Bbox) -> float:
    overlap = Bbox.intersection(first, second)
    return float(overlap.width * overlap.height) if overlap is not None else 0.0
