"""The brands' marks, as closed shapes in the unit disc (y pointing down)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from illmrec.data.toyshop.easel import Point, arc, ellipse, smooth

Glyph = Sequence[Sequence[Point]]


@lru_cache(maxsize=16)
def mark_glyph(mark: str) -> Glyph:
    """Return the shapes of a mark by its name."""
    return _GLYPHS[mark]()


def _star() -> Glyph:
    angles = [math.pi * k / 5 - math.pi / 2 for k in range(10)]
    return [[((1, 0.42)[k % 2] * math.cos(a), (1, 0.42)[k % 2] * math.sin(a)) for k, a in enumerate(angles)]]


def _crescent() -> Glyph:
    outer = arc(-0.9, -0.9, 0.9, 0.9, start=50, stop=310)
    inner = arc(-0.42, -0.72, 1.02, 0.72, start=305, stop=55)
    return [[*outer, *inner]]


def _heart() -> Glyph:
    steps = [2 * math.pi * k / 40 for k in range(40)]
    return [
        [
            (
                0.056 * 16 * math.sin(t) ** 3,
                -0.058 * (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)),
            )
            for t in steps
        ]
    ]


def _bolt() -> Glyph:
    return [[(0.25, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.3, 1), (0.6, -0.25), (0.05, -0.25)]]


def _leaf() -> Glyph:
    blade = smooth([(0, -1), (0.55, -0.35), (0.5, 0.3), (0, 0.68), (-0.5, 0.3), (-0.55, -0.35)])
    return [blade, [(-0.08, 0.5), (0.08, 0.5), (0.08, 1), (-0.08, 1)]]


def _plus() -> Glyph:
    a, b = 0.28, 0.88
    return [
        [
            (-a, -b),
            (a, -b),
            (a, -a),
            (b, -a),
            (b, a),
            (a, a),
            (a, b),
            (-a, b),
            (-a, a),
            (-b, a),
            (-b, -a),
            (-a, -a),
        ]
    ]


def _ring() -> Glyph:
    return [[*ellipse(-0.88, -0.88, 0.88, 0.88), *reversed(ellipse(-0.48, -0.48, 0.48, 0.48))]]


def _mountain() -> Glyph:
    return [[(-0.98, 0.62), (-0.3, -0.72), (0.08, 0.02), (0.36, -0.4), (0.98, 0.62)]]


def _wave() -> Glyph:
    xs = [-0.92 + 1.84 * k / 24 for k in range(25)]
    shapes = []
    for y in (-0.34, 0.34):
        top = [(x, y - 0.16 + 0.2 * math.sin(x * 6.8)) for x in xs]
        bottom = [(x, y + 0.16 + 0.2 * math.sin(x * 6.8)) for x in reversed(xs)]
        shapes.append(top + bottom)
    return shapes


def _diamond() -> Glyph:
    return [[(0, -0.98), (0.68, 0), (0, 0.98), (-0.68, 0)]]


def _arrow() -> Glyph:
    return [[(0, -1), (0.8, -0.1), (0.3, -0.1), (0.3, 0.95), (-0.3, 0.95), (-0.3, -0.1), (-0.8, -0.1)]]


def _flower() -> Glyph:
    petals = []
    for k in range(5):
        x, y = 0.55 * math.sin(2 * math.pi * k / 5), -0.55 * math.cos(2 * math.pi * k / 5)
        petals.append(ellipse(x - 0.36, y - 0.36, x + 0.36, y + 0.36))
    return petals


_GLYPHS = {
    "star": _star,
    "crescent": _crescent,
    "heart": _heart,
    "bolt": _bolt,
    "leaf": _leaf,
    "plus": _plus,
    "ring": _ring,
    "mountain": _mountain,
    "wave": _wave,
    "diamond": _diamond,
    "arrow": _arrow,
    "flower": _flower,
}
