"""How things for the home are drawn: each function paints one product and says where its badge goes."""

from __future__ import annotations

from illmrec.data.toyshop.easel import Easel, Point, arc, box, ellipse, smooth, turned

Badge = tuple[Point, float]
"""Centre and radius of the brand's badge, units."""


def mug(easel: Easel) -> Badge:
    """A mug, its handle to the right."""
    easel.shadow(26, 70)
    easel.line(arc(58, 40, 86, 72, start=-115, stop=115), width=6, material="tone")
    left = [(26.0, 30.0), (28.0, 80.0)]
    bottom = arc(28, 72, 66, 88, start=180, stop=0)
    easel.polygon([*left, *bottom, (68.0, 30.0)])
    easel.polygon(ellipse(26, 24, 68, 36), material="tone", shade="flat")
    easel.polygon(ellipse(29, 26, 65, 34), material="dark", shade="flat", outline=False)
    return (46, 60), 9.5


def teapot(easel: Easel) -> Badge:
    """A round teapot, spout to the left."""
    easel.shadow(28, 74)
    easel.line(arc(60, 38, 94, 76, start=-100, stop=100), width=5.5, material="tone")
    easel.polygon(
        smooth([(36, 76), (22, 64), (14, 44), (5, 38), (10, 33), (21, 37), (28, 52), (40, 54)]),
        material="body",
    )
    easel.polygon(box(36, 80, 66, 88, radius=3), material="tone")
    easel.polygon(ellipse(24, 36, 78, 86), shade="ball")
    easel.polygon([*arc(35, 28, 67, 50, start=180, stop=360)], material="tone", shade="ball")
    easel.polygon(ellipse(46.5, 20, 55.5, 29), material="wood", shade="ball")
    return (51, 63), 9.5


def bottle(easel: Easel) -> Badge:
    """A drinking bottle with a screw cap."""
    easel.shadow(34, 66)
    easel.line(arc(42, 2, 58, 18, start=180, stop=360), width=2.4, material="dark")
    easel.polygon(box(43, 20, 57, 32, radius=1), material="metal")
    easel.polygon(
        turned([(7.5, 27), (9, 31), (16, 37), (18, 44), (18, 64), (18, 84), (16.5, 87.4), (13, 88)])
    )
    easel.polygon(box(41, 9, 59, 23, radius=2.5), material="dark")
    easel.line([(44.5, 12), (44.5, 20)], width=0.8, material="light", outline=False)
    return (50, 58), 9.5


def vase(easel: Easel) -> Badge:
    """A bellied vase with dry twigs."""
    easel.shadow(32, 68)
    for tip, bend in ((34, 42), (50, 51), (67, 59)):
        stem = smooth([(50, 34), (bend, 22), (tip, 7)], closed=False)
        easel.line(stem, width=0.9, material="wood", outline=False)
        for x, y in (stem[5], stem[9], stem[13], stem[-1]):
            easel.polygon(ellipse(x - 1.8, y - 2.6, x + 1.8, y + 1.6), material="wood", shade="ball")
    easel.polygon(
        turned([(11, 29), (8, 34), (9, 41), (21, 52), (25, 64), (20, 78), (13, 85), (13, 88)]), shade="round"
    )
    easel.polygon(ellipse(39, 26, 61, 32), material="dark", shade="flat")
    return (50, 63), 9.5


def lamp(easel: Easel) -> Badge:
    """A table lamp with a cone shade."""
    easel.shadow(30, 70)
    easel.line([(50, 50), (50, 82)], width=3.4, material="metal")
    easel.polygon(turned([(3, 58), (7, 64), (3, 71)]), material="wood")
    easel.polygon([*arc(30, 76, 70, 96, start=180, stop=360)], material="tone")
    easel.polygon(ellipse(24, 47, 76, 55), material="light", shade="flat")
    top = arc(36, 9, 64, 14, start=180, stop=360)
    bottom = arc(22, 46, 78, 56, start=0, stop=180)
    easel.polygon([*top, *bottom])
    easel.line([(60, 54), (60, 66)], width=0.7, material="dark", outline=False)
    easel.polygon(ellipse(58.8, 66, 61.2, 69), material="metal", shade="flat")
    return (50, 34), 9.5


def chair(easel: Easel) -> Badge:
    """A chair with a padded back and seat on wooden legs."""
    easel.shadow(20, 80)
    for x0, x1 in ((32, 30), (68, 70)):
        easel.line([(x0, 16), (x1, 82)], width=3.4, material="wood")
    easel.polygon(box(26, 9, 74, 47, radius=9), shade="ball")
    for x0, x1 in ((24, 20), (76, 80)):
        easel.line([(x0, 66), (x1, 87)], width=4, material="wood")
    seat = smooth([(27, 55), (50, 53.5), (73, 55), (81, 63), (79, 70), (50, 71), (21, 70), (19, 63)])
    easel.polygon(seat, shade="ball")
    easel.line([(20.5, 66.5), (50, 68), (79.5, 66.5)], width=0.9, material="tone", outline=False)
    return (50, 28), 9.5


def clock(easel: Easel) -> Badge:
    """An alarm clock with two bells."""
    easel.shadow(24, 76)
    easel.line([(31, 76), (25, 87)], width=4, material="metal")
    easel.line([(69, 76), (75, 87)], width=4, material="metal")
    easel.line(arc(42, 6, 58, 22, start=180, stop=360), width=2.4, material="metal")
    for bell in (31, 69):
        easel.polygon(arc(bell - 12, 11, bell + 12, 33, start=180, stop=360), material="tone", shade="ball")
    easel.polygon(ellipse(16, 18, 84, 86), shade="ball")
    easel.polygon(ellipse(29, 26, 71, 62), material="light", shade="flat")
    for x, y in ((50.0, 29.0), (50.0, 59.0), (32.5, 44.0), (67.5, 44.0)):
        easel.polygon(
            ellipse(x - 1.4, y - 1.4, x + 1.4, y + 1.4), material="dark", shade="flat", outline=False
        )
    easel.line([(50, 44), (50, 32)], width=1.8, material="dark", outline=False)
    easel.line([(50, 44), (60, 49)], width=1.8, material="dark", outline=False)
    return (50, 73.5), 8


HOME = {
    "mug": mug,
    "teapot": teapot,
    "bottle": bottle,
    "vase": vase,
    "lamp": lamp,
    "chair": chair,
    "clock": clock,
}
