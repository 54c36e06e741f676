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
_CLEAR = 3.0
"""From a label without a leader to the next point's marker, in points: nearer, it could be of either."""
_COVERED, _CROSSED_TEXT, _CROSSED_POINT, _CROSSED_LINE = 4.0, 8.0, 2.5, 1.0
"""What is worse: a label over something, by area; a leader over a label, a marker or another leader, by squares of a
line's height."""

_FREE = 1e-6
"""A place that costs no more has nothing wrong with it."""
_ROUNDS, _ORDERS = 2, 40
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
    sizes = np.array([_size(axes, text, renderer) for text in texts]).reshape(-1, 2)
    ways = np.array([(place.across, place.up) for place in _PLACES]) * scale
    shares = np.array([(place.side, place.foot) for place in _PLACES])
    leads = np.array([place.leader for place in _PLACES])
    # Of each point and place: the label's box, what has to be free around it, and the two ends of the leader.
    low = pixels[:, None] + ways - shares * sizes[:, None]
    boxes = np.concatenate([low, low + sizes[:, None]], axis=2)
    near = boxes + _CLEAR * scale * np.array([-1, -1, 1, 1]) * ~leads[:, None]
    far = pixels[:, None] + ways
    edge = pixels[:, None] + ways * (_RADIUS * scale / np.hypot(*ways.T))[:, None]
    leaders = np.stack([edge, far], axis=2)
    chosen: dict[int, int] = {}

    def wrong(number: int, at: npt.NDArray[np.int64]) -> Floats:
        """Return what is wrong with some places, by their numbers, given those that the other labels have."""
        others = np.delete(markers, number, axis=0)
        standing = [(other, place) for other, place in chosen.items() if other != number]
        labels = np.array([boxes[other, place] for other, place in standing]).reshape(-1, 4)
        led = np.array([leaders[other, place] for other, place in standing if leads[place]]).reshape(-1, 2, 2)
        box, leader = boxes[number, at], leaders[number, at]
        covered = _shared(near[number, at], others).sum(axis=1)
        covered += _shared(box, np.concatenate([labels, drawn])).sum(axis=1)
        covered += sizes[number].prod() - _shared(box, inside[None]).sum(axis=1)
        crossed = _CROSSED_TEXT * _over(leader, labels).sum(axis=1)
        crossed += _CROSSED_POINT * _over(leader, others).sum(axis=1) + _CROSSED_LINE * _meet(
            leader, led
        ).sum(axis=1)
        crossed = crossed * leads[at] + _CROSSED_TEXT * _over(led, box).sum(axis=0)
        cost: Floats = _COVERED * covered + crossed * sizes[number, 1] ** 2
        return cost

    def best(number: int) -> int:
        costs = wrong(number, np.arange(len(_PLACES)))
        free = costs <= _FREE  # the first such is the nearest
        return int(free.argmax() if free.any() else costs.argmin())

    def placed(order: list[int]) -> float:
        """Choose places in some order, and again for labels in bad ones; return what is wrong with all of them."""
        chosen.clear()
        for number in order:
            chosen[number] = best(number)
        # Those that came first did not know of those after them.
        for number in _ROUNDS * order:
            if wrong(number, np.array([chosen[number]]))[0] > _FREE:
                chosen[number] = best(number)
        return float(sum(wrong(number, np.array([chosen[number]]))[0] for number in order))

    order = _crowded_first(pixels, 50 * scale).tolist()
    random = np.random.default_rng(0)
    found: dict[int, int] = {}
    least = math.inf
    for _ in range(_ORDERS):
        cost = placed(order)
        length = sum(_PLACES[place].length for place in chosen.values())
        if cost + length < least:
            found, least = dict(chosen), cost + length
        if cost <= _FREE * len(order):
            break
        order = random.permutation(order).tolist()
    for number, place in found.items():
        _write(axes, texts[number], points[number], _PLACES[place])


def _crowded_first(pixels: npt.NDArray[np.float64], reach: float) -> npt.NDArray[np.int64]:
    """Return the points' numbers, those with the most neighbours first: they have the least choice."""
    distances = np.hypot(*(pixels[:, None] - pixels).T)
    return np.argsort(-(distances < reach).sum(axis=0), kind="stable")


def _squares(centres: Floats, radius: float) -> Floats:
    return np.concatenate([centres - radius, centres + radius], axis=1)


def _shared(boxes: Floats, others: Floats) -> Floats:
    """Return how much each of some boxes [m, 4] covers of each of others [n, 4], [m, n]."""
    sides = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(boxes[:, None, :2], others[:, :2])
    return np.prod(np.maximum(sides, 0.0), axis=2)


def _over(segments: Floats, boxes: Floats) -> npt.NDArray[np.bool_]:
    """Return which segments [m, 2, 2] lie over which boxes [n, 4], [m, n]."""
    start, way = segments[:, None, 0], segments[:, None, 1] - segments[:, None, 0]
    way = np.where(way == 0, 1e-9, way)
    first, second = (boxes[:, :2] - start) / way, (boxes[:, 2:] - start) / way
    enters, leaves = np.minimum(first, second).max(axis=2), np.maximum(first, second).min(axis=2)
    over: npt.NDArray[np.bool_] = np.maximum(enters, 0.0) < np.minimum(leaves, 1.0)
    return over


def _meet(first: Floats, second: Floats) -> npt.NDArray[np.bool_]:
    """Return which segments [m, 2, 2] cross which others [n, 2, 2], [m, n]."""

    def sides(lines: Floats, ends: Floats) -> Floats:
        """Return on which side of lines [m, 2, 2] ends [n, 2, 2] lie, [m, n, 2]."""
        way = lines[:, 1] - lines[:, 0]
        off = ends[None] - lines[:, None, None, 0]
        return way[:, None, None, 0] * off[..., 1] - way[:, None, None, 1] * off[..., 0]

    apart = sides(first, second).prod(axis=2) < 0, sides(second, first).prod(axis=2).T < 0
    return apart[0] & apart[1]


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
