"""How instruments and gear are drawn."""

from __future__ import annotations

from illmrec.data.toyshop.drawings_home import Badge
from illmrec.data.toyshop.easel import Easel, arc, box, ellipse, smooth


def guitar(easel: Easel) -> Badge:
    """An acoustic guitar, upright."""
    easel.shadow(32, 68)
    half = [
        (0, 40),
        (10, 39),
        (17, 44),
        (17, 51),
        (13, 57),
        (17, 64),
        (24, 71),
        (22, 82),
        (12, 87.5),
        (0, 88),
    ]
    outline = smooth([(50 + w, y) for w, y in half] + [(50 - w, y) for w, y in reversed(half[1:-1])])
    easel.polygon(outline, shade="ball")
    easel.polygon(ellipse(42.5, 48, 57.5, 60), material="dark", shade="flat")
    easel.polygon([(47, 15), (53, 15), (53.6, 52), (46.4, 52)], material="wood")
    for y in (22.0, 28.0, 33.0, 38.0, 43.0):
        easel.line([(47, y), (53, y)], width=0.6, material="metal", outline=False)
    easel.polygon([(46.5, 16), (44.5, 4), (55.5, 4), (53.5, 16)], material="dark")
    for y in (6.5, 10, 13.5):
        for x in (43.2, 56.8):
            easel.polygon(ellipse(x - 1.6, y - 1.3, x + 1.6, y + 1.3), material="metal", shade="flat")
    easel.polygon(box(41, 63, 59, 66, radius=1), material="dark", shade="flat")
    for x in (48.4, 50, 51.6):
        easel.line([(x, 15), (x, 64)], width=0.35, material="light", outline=False)
    return (50, 77), 8.5


def drum(easel: Easel) -> Badge:
    """A drum with two sticks."""
    easel.shadow(18, 82)
    side = [*arc(17, 68, 83, 89, start=180, stop=0), *arc(17, 31, 83, 51, start=0, stop=180)]
    easel.polygon(side)
    easel.line(arc(17, 66, 83, 87, start=178, stop=2), width=2.6, material="metal")
    easel.polygon(ellipse(17, 29, 83, 50), material="light", shade="flat")
    easel.line(arc(17, 31, 83, 51.5, start=178, stop=2), width=2.6, material="metal")
    for x, y in ((21, 48), (79, 48)):
        easel.line([(x, y), (x, y + 27)], width=1.2, material="metal")
    for x0, y0, x1, y1 in ((22, 10, 56, 41), (80, 8, 47, 38)):
        easel.line([(x0, y0), (x1, y1)], width=2, material="wood")
        easel.polygon(ellipse(x1 - 2.2, y1 - 2, x1 + 2.2, y1 + 2), material="wood", shade="ball")
    return (50, 67), 9.5


def headphones(easel: Easel) -> Badge:
    """Over-ear headphones."""
    easel.shadow(16, 84)
    easel.line(arc(20, 10, 80, 92, start=185, stop=355), width=6.5, material="tone")
    easel.line(arc(23.5, 14, 76.5, 92, start=215, stop=325), width=3, material="dark", outline=False)
    for side in (-1, 1):
        inner = 50 + side * 19
        easel.polygon(
            box(min(inner, inner - side * 9), 50, max(inner, inner - side * 9), 84, radius=4), material="dark"
        )
        centre = 50 + side * 29.5
        easel.polygon(ellipse(centre - 15.5, 44, centre + 15.5, 88), shade="ball")
    return (20.5, 66), 9


def camera(easel: Easel) -> Badge:
    """A camera, lens to the right of its middle."""
    easel.shadow(12, 88)
    easel.polygon(box(20, 30, 32, 40, radius=2), material="metal")
    easel.polygon([(42, 36), (47, 25), (69, 25), (74, 36)], material="tone")
    easel.polygon(box(50, 27.5, 66, 33, radius=1.5), material="light", shade="flat")
    easel.polygon(box(9, 35, 91, 87, radius=7))
    easel.polygon(ellipse(36, 38, 82, 84), material="metal", shade="ball")
    easel.polygon(ellipse(39.5, 41.5, 78.5, 80.5), material="dark", shade="ball")
    easel.polygon(ellipse(46, 48, 72, 74), material="glass", shade="ball")
    easel.polygon(ellipse(51, 52, 58, 58), material="light", shade="flat", outline=False)
    return (22.5, 61), 9


def skateboard(easel: Easel) -> Badge:
    """A skateboard seen from below, leaning on the wall."""
    easel.shadow(30, 70)
    for y in (24, 70):
        for x in (28, 72):
            easel.polygon(box(x - 4.5, y - 5, x + 4.5, y + 5, radius=2.5), material="light", shade="round")
    easel.polygon(box(33, 3, 67, 88, radius=16.8))
    for y in (24, 70):
        easel.line([(31, y), (69, y)], width=2.6, material="metal")
        easel.polygon(box(44, y - 6, 56, y + 6, radius=2), material="metal")
        for x in (47, 53):
            for dy in (-3.5, 3.5):
                easel.polygon(
                    ellipse(x - 0.9, y + dy - 0.9, x + 0.9, y + dy + 0.9),
                    material="dark",
                    shade="flat",
                    outline=False,
                )
    return (50, 47), 9.5


PLAY = {
    "guitar": guitar,
    "drum": drum,
    "headphones": headphones,
    "camera": camera,
    "skateboard": skateboard,
}
