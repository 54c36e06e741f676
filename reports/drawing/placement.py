"""Where labels go in a figure: beside what they name, not over data and not over each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

_FONT_SIZE = 8.0
_RADIUS = 5.0
"""Of a marker, in points."""
_STEP = 3.0
"""Between the places of a leader that are looked at, in points."""
_CLEAR = 3.0
"""From a label without a leader to the next point's marker, in points: nearer, it could be of either."""
_COVERED, _CROSSED_TEXT, _CROSSED_POINT = 4.0, 2.0, 0.8
"""What is worse: a label over something, by area; a leader over a label or a marker, by squares of a line's height. One
over another leader is one such square."""

_FREE = 1e-6
"""A place that costs no more has nothing wrong with it."""
_ROUNDS, _ORDERS = 2, 20
"""How often labels in bad places look for others once all stand, and in how many orders they are placed at most."""


Floats = npt.NDArray[np.float64]
"""A box, where it is one, has its low corner and its high one: x0, y0, x1, y1."""


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

    @property
    def length(self) -> float:
        """Of the leader, in points."""
        return math.hypot(self.across, self.up) if self.leader else 0.0

    def box(self, point: Floats, size: Floats, scale: float) -> Floats:
        """Return the label's box in pixels, [4], where a point of the page has ``scale`` of them."""
        low = point + scale * np.array([self.across, self.up]) - np.array([self.side, self.foot]) * size
        return np.concatenate([low, low + size])

    def line(self, point: Floats, scale: float) -> Floats:
        """Return small boxes along the leader, in pixels, [boxes, 4]."""
        if not self.leader:
            return np.zeros((0, 4))
        way = np.array([self.across, self.up])
        places = np.arange(_RADIUS + _STEP, self.length, _STEP) / self.length
        return _squares(point + scale * places[:, None] * way, 1.0)


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
    inside = np.array(axes.get_window_extent(renderer).extents)
    scale = figure.dpi / 72
    pixels = axes.transData.transform(np.asarray(points, dtype=np.float64).reshape(-1, 2))
    markers = _squares(pixels, _RADIUS * scale)
    ends = axes.transData.transform(np.asarray(lines, dtype=np.float64).reshape(-1, 2)).reshape(-1, 2, 2)
    drawn = np.concatenate([ends.min(axis=1) - 1, ends.max(axis=1) + 1], axis=1)
    sizes = [_size(axes, text, renderer) for text in texts]
    chosen: dict[int, _Place] = {}

    def best(number: int, places: Sequence[_Place] = _PLACES) -> tuple[_Place, float]:
        """Return the best of some places, given those that the other labels have, and what is wrong with it."""
        pixel, size = pixels[number], sizes[number]
        others = np.delete(markers, number, axis=0)
        standing = [(other, place) for other, place in chosen.items() if other != number]
        labels = _boxes([place.box(pixels[other], sizes[other], scale) for other, place in standing])
        leaders = [place.line(pixels[other], scale) for other, place in standing if place.leader]
        costs: dict[_Place, float] = {}
        for place in places:
            box, line = place.box(pixel, size, scale), place.line(pixel, scale)
            near = box if place.leader else box + _CLEAR * scale * np.array([-1, -1, 1, 1])
            covered = sum(
                _shared(one, found).sum() for one, found in ((near, others), (box, labels), (box, drawn))
            )
            covered += size.prod() - _shared(box, inside[None]).sum()
            over_text = _hits(line, labels) + sum(_hits(parts, box[None]) > 0 for parts in leaders)
            over_lines = sum(_hits(line, parts) > 0 for parts in leaders)
            crossed = _CROSSED_TEXT * over_text + _CROSSED_POINT * _hits(line, others) + over_lines
            costs[place] = float(_COVERED * covered + crossed * size[1] ** 2)
            if costs[place] <= _FREE:
                break
        found = min(costs, key=costs.__getitem__)
        return found, costs[found]

    def placed(order: list[int]) -> float:
        """Choose places in some order, and again for labels in bad ones; return what is wrong with them, and long."""
        chosen.clear()
        for number in order:
            chosen[number], _ = best(number)
        # Those that came first did not know of those after them.
        for number in _ROUNDS * order:
            if best(number, [chosen[number]])[1] > _FREE:
                chosen[number], _ = best(number)
        return sum(best(number, [chosen[number]])[1] + chosen[number].length for number in order)

    order = _crowded_first(pixels, 50 * scale).tolist()
    drawn_orders = np.random.default_rng(0)
    tried: list[tuple[float, dict[int, _Place]]] = []
    while len(tried) < _ORDERS and (not tried or tried[-1][0] > _FREE):
        tried.append((placed(order), dict(chosen)))
        order = drawn_orders.permutation(order).tolist()
    _, chosen = min(tried, key=lambda one: one[0])
    for number, place in chosen.items():
        _write(axes, texts[number], points[number], place)


def _crowded_first(pixels: npt.NDArray[np.float64], reach: float) -> npt.NDArray[np.int64]:
    """Return the points' numbers, those with the most neighbours first: they have the least choice."""
    distances = np.hypot(*(pixels[:, None] - pixels).T)
    return np.argsort(-(distances < reach).sum(axis=0), kind="stable")


def _squares(centres: Floats, radius: float) -> Floats:
    return np.concatenate([centres - radius, centres + radius], axis=1)


def _boxes(found: Sequence[Floats]) -> Floats:
    return np.stack(found) if found else np.zeros((0, 4))


def _shared(box: Floats, others: Floats) -> Floats:
    """Return how much of other boxes [n, 4] a box [4] covers, [n]."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return np.prod(np.maximum(sides, 0.0), axis=1)


def _hits(boxes: Floats, others: Floats) -> int:
    """Return how many of some boxes [m, 4] lie over any of others [n, 4]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return int(np.count_nonzero(np.any(np.all(low < high, axis=2), axis=1)))


def _size(axes: Axes, text: str, renderer: Any) -> Floats:
    """Return a label's width and height in pixels, [2]."""
    label = axes.text(0, 0, text, fontsize=_FONT_SIZE)
    box = label.get_window_extent(renderer)
    label.remove()
    return np.array([box.width, box.height])


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
