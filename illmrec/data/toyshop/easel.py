"""A supersampled canvas on which a product is painted: parts with material, pattern, shading and outline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from illmrec.data.toyshop.vocabulary import RGB

SIZE = 224
"""Pixels a side of a finished picture."""
SUPERSAMPLING = 3
GROUND = 88.0
"""Where products stand, in units: the canvas is 100 units a side, y pointing down."""

_PIXELS = SIZE * SUPERSAMPLING
_SCALE = _PIXELS / 100

Point = tuple[float, float]

MATERIALS: dict[str, RGB] = {
    "wood": (186, 138, 84),
    "metal": (190, 194, 202),
    "dark": (58, 58, 64),
    "light": (240, 238, 232),
    "glass": (92, 118, 150),
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a product is painted and placed.

    Attributes:
        base: Body colour.
        second: Second colour of the pattern.
        pattern: Name of the pattern.
        stretch: Horizontal and vertical stretch of the silhouette.
        size: Scale of the whole product.
        shift: Horizontal shift, units.
        mirrored: Whether the product faces the other way.
        backdrop: Wall colour.
    """

    base: RGB
    second: RGB
    pattern: str
    stretch: tuple[float, float]
    size: float
    shift: float
    mirrored: bool
    backdrop: RGB


class Easel:
    """Paints parts back to front; :meth:`finish` returns the picture."""

    def __init__(self, look: Look) -> None:
        """Set up the backdrop and the body's texture."""
        self.look = look
        self._image = _backdrop(look.backdrop).copy()
        self._draw = ImageDraw.Draw(self._image)
        base = Image.new("RGB", (_PIXELS, _PIXELS), look.base)
        if look.pattern == "plain":
            self._texture = base
        else:
            second = Image.new("RGB", (_PIXELS, _PIXELS), look.second)
            self._texture = Image.composite(second, base, pattern_mask(look.pattern))

    def shadow(self, x0: float, x1: float) -> None:
        """Lay a soft shadow on the ground from x0 to x1."""
        (left, y), (right, _) = self.place([(x0, GROUND), (x1, GROUND)])
        left, right = sorted((left, right))
        width, height = int(right - left + 8 * _SCALE), int(9 * _SCALE)
        blot = _blot().resize((width, height))
        self._image.paste(_dim(self.look.backdrop, 0.45), (int(left - 4 * _SCALE), int(y - height / 2)), blot)

    def polygon(
        self, points: Sequence[Point], *, material: str = "body", shade: str = "round", outline: bool = True
    ) -> None:
        """Paint a closed shape.

        Args:
            points: Corners, units.
            material: ``body`` (colour and pattern), ``tone`` (its colour, darker) or a fixed material.
            shade: ``round`` (lit from the side), ``ball``, ``flat``.
            outline: Whether to draw the edge darker.
        """
        placed = self.place(points)
        xs, ys = [x for x, _ in placed], [y for _, y in placed]
        box = (
            max(0, math.floor(min(xs))),
            max(0, math.floor(min(ys))),
            min(_PIXELS, math.ceil(max(xs)) + 1),
            min(_PIXELS, math.ceil(max(ys)) + 1),
        )
        size = (box[2] - box[0], box[3] - box[1])
        if size[0] <= 0 or size[1] <= 0:
            return
        mask = Image.new("1", size)
        ImageDraw.Draw(mask).polygon([(x - box[0], y - box[1]) for x, y in placed], fill=1)
        part = self._texture.crop(box) if material == "body" else Image.new("RGB", size, self.rgb(material))
        if shade != "flat":
            part = ImageChops.multiply(part, _shading(shade).resize(size))
        self._image.paste(part, box[:2], mask)
        if outline:
            edge = _dim(self.rgb(material), 0.55)
            self._draw.line([*placed, placed[0]], fill=edge, width=int(0.9 * _SCALE), joint="curve")

    def line(self, points: Sequence[Point], *, width: float, material: str, outline: bool = True) -> None:
        """Paint an open line with round ends, ``width`` units thick."""
        placed = self.place(points)
        if outline:
            self._stroke(placed, width=width + 1.2, rgb=_dim(self.rgb(material), 0.55))
        self._stroke(placed, width=width, rgb=self.rgb(material))

    def rgb(self, material: str) -> RGB:
        """Return a material's plain colour."""
        if material == "body":
            return self.look.base
        if material == "tone":
            return _dim(self.look.base, 0.74)
        return MATERIALS[material]

    def badge(self, centre: Point, *, radius: float, glyph: Sequence[Sequence[Point]], dark: bool) -> None:
        """Fix a round badge with a brand's mark; it is never stretched.

        Args:
            centre: Where, units, before stretching.
            radius: Units.
            glyph: Closed shapes in the unit disc; the second and later ones of a pair are cut out by colour.
            dark: Light mark on a dark disc instead of dark on light.
        """
        ((x, y),) = self.place([centre])
        r = radius * _SCALE * self.look.size
        light, ink = (252, 252, 250), (30, 30, 38)
        disc, mark = (ink, light) if dark else (light, ink)
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=disc, outline=mark, width=int(0.7 * _SCALE))
        for shape in glyph:
            self._draw.polygon([(x + r * 0.82 * gx, y + r * 0.82 * gy) for gx, gy in shape], fill=mark)

    def place(self, points: Sequence[Point]) -> list[Point]:
        """Turn units into pixels: stretch about the ground's middle, mirror, shift."""
        look = self.look
        sx, sy = look.stretch[0] * look.size, look.stretch[1] * look.size
        if look.mirrored:
            sx = -sx
        return [
            ((50 + look.shift + (x - 50) * sx) * _SCALE, (GROUND + (y - GROUND) * sy) * _SCALE)
            for x, y in points
        ]

    def finish(self) -> Image.Image:
        """Return the picture at its final size, mode RGB."""
        return self._image.reduce(SUPERSAMPLING)

    def _stroke(self, placed: list[Point], *, width: float, rgb: RGB) -> None:
        pixels = width * _SCALE * self.look.size
        self._draw.line(placed, fill=rgb, width=max(1, round(pixels)), joint="curve")
        for x, y in (placed[0], placed[-1]):
            r = pixels / 2
            self._draw.ellipse((x - r, y - r, x + r, y + r), fill=rgb)


def ellipse(x0: float, y0: float, x1: float, y1: float) -> list[Point]:
    """Return the ellipse in a box as a polygon."""
    return arc(x0, y0, x1, y1, start=0, stop=360)


def arc(x0: float, y0: float, x1: float, y1: float, *, start: float, stop: float) -> list[Point]:
    """Return part of the ellipse in a box, degrees clockwise from three o'clock."""
    cx, cy, rx, ry = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
    steps = max(8, int(abs(stop - start) / 6))
    angles = np.radians(np.linspace(start, stop, steps + 1))
    xs, ys = cx + rx * np.cos(angles), cy + ry * np.sin(angles)
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def box(x0: float, y0: float, x1: float, y1: float, *, radius: float = 3) -> list[Point]:
    """Return a rectangle with rounded corners as a polygon."""
    r = 2 * radius
    return [
        *arc(x1 - r, y0, x1, y0 + r, start=-90, stop=0),
        *arc(x1 - r, y1 - r, x1, y1, start=0, stop=90),
        *arc(x0, y1 - r, x0 + r, y1, start=90, stop=180),
        *arc(x0, y0, x0 + r, y0 + r, start=180, stop=270),
    ]


def smooth(points: Sequence[Point], *, closed: bool = True) -> list[Point]:
    """Return a curve through the points (Catmull-Rom), eight steps between each two."""
    p = np.asarray(points, dtype=float)
    if closed:
        before, start, stop, after = np.roll(p, 1, axis=0), p, np.roll(p, -1, axis=0), np.roll(p, -2, axis=0)
    else:
        padded = np.vstack([p[:1], p, p[-1:]])
        before, start, stop, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = np.linspace(0, 1, 8, endpoint=False)[None, :, None]
    before, start, stop, after = (q[:, None, :] for q in (before, start, stop, after))
    curve = 0.5 * (
        2 * start
        + (stop - before) * t
        + (2 * before - 5 * start + 4 * stop - after) * t**2
        + (3 * start - before - 3 * stop + after) * t**3
    )
    flat = curve.reshape(-1, 2)
    if not closed:
        flat = np.vstack([flat, p[-1:]])
    return [(float(x), float(y)) for x, y in flat]


def turned(profile: Sequence[Point], *, centre: float = 50) -> list[Point]:
    """Return the outline of a turned body from its profile of (half width, y), top to bottom."""
    right = smooth(profile, closed=False)
    return [(centre + w, y) for w, y in right] + [(centre - w, y) for w, y in reversed(right)]


@lru_cache(maxsize=16)
def pattern_mask(pattern: str) -> Image.Image:
    """Return where a pattern's second colour goes: mode 1, the size of the canvas."""
    y, x = np.mgrid[0:_PIXELS, 0:_PIXELS] / _SCALE
    if pattern == "stripes":
        on = (y % 10) < 4.2
    elif pattern == "dots":
        row = np.floor(y / 8)
        on = np.hypot((x + 4 * (row % 2)) % 8 - 4, y % 8 - 4) < 2.3
    elif pattern == "checks":
        on = ((x // 7) + (y // 7)) % 2 == 0
    elif pattern == "zigzag":
        on = (y + 2.2 * np.abs((x % 8) - 4)) % 12 < 4.6
    elif pattern == "diamonds":
        on = np.abs((x % 9) - 4.5) / 4.5 + np.abs((y % 13) - 6.5) / 6.5 < 0.62
    else:
        raise ValueError(f"no pattern {pattern!r}")
    return Image.fromarray((on * 255).astype(np.uint8)).convert("1", dither=Image.Dither.NONE)


@lru_cache(maxsize=4)
def _shading(shade: str) -> Image.Image:
    """Return the light on a part, to be multiplied with its colour; stretched to the part's box."""
    y, x = np.mgrid[0:64, 0:64] / 63
    if shade == "round":
        light = 1.0 - 0.42 * np.clip(x - 0.35, 0, 1) ** 1.3 - 0.25 * np.clip(0.22 - x, 0, 1) - 0.06 * y
    elif shade == "ball":
        light = 1.0 - 0.40 * np.clip(np.hypot(x - 0.36, y - 0.32) - 0.2, 0, 1)
    else:
        raise ValueError(f"no shade {shade!r}")
    levels = (255 * light.clip(0, 1)).astype(np.uint8)
    return Image.fromarray(levels).convert("RGB")


@lru_cache(maxsize=64)
def _backdrop(rgb: RGB) -> Image.Image:
    """Return a wall and a floor."""
    rows = np.linspace(0.97, 1.03, _PIXELS)
    floor = np.arange(_PIXELS) > (GROUND - 9) * _SCALE
    rows = np.where(floor, 0.90 + 0.04 * np.linspace(0, 1, _PIXELS), rows)
    column = (np.array(rgb)[None, :] * rows[:, None]).clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.repeat(column[:, None, :], _PIXELS, axis=1))


@lru_cache(maxsize=1)
def _blot() -> Image.Image:
    """Return a blurred ellipse, mode L."""
    image = Image.new("L", (256, 64))
    ImageDraw.Draw(image).ellipse((24, 16, 232, 48), fill=150)
    return image.filter(ImageFilter.GaussianBlur(8))


def _dim(rgb: RGB, factor: float) -> RGB:
    return (int(rgb[0] * factor), int(rgb[1] * factor), int(rgb[2] * factor))
