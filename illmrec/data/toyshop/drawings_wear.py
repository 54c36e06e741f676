"""How things to wear and carry are drawn."""

from __future__ import annotations

from illmrec.data.toyshop.drawings_home import Badge
from illmrec.data.toyshop.easel import Easel, arc, box, ellipse, smooth


def backpack(easel: Easel) -> Badge:
    """A backpack with a front pocket."""
    easel.shadow(24, 76)
    easel.line(arc(41, 8, 59, 30, start=180, stop=360), width=3, material="dark")
    for side in (-1, 1):
        easel.line(
            smooth([(50 + side * 20, 30), (50 + side * 33, 46), (50 + side * 31, 80)], closed=False),
            width=4.2,
            material="tone",
        )
    easel.polygon([*arc(24, 16, 76, 66, start=180, stop=360), *box(24, 60, 76, 88, radius=7)[10:40]])
    easel.line(arc(30, 22, 70, 66, start=195, stop=345), width=0.9, material="dark", outline=False)
    easel.polygon(box(31, 60, 69, 84, radius=5), material="tone")
    easel.line([(35, 66), (65, 66)], width=0.9, material="dark", outline=False)
    easel.line([(61, 66), (61, 71)], width=1.1, material="metal", outline=False)
    return (50, 43), 9.5


def suitcase(easel: Easel) -> Badge:
    """A wheeled suitcase, handle pulled out."""
    easel.shadow(22, 78)
    easel.line([(40, 36), (40, 10), (60, 10), (60, 36)], width=2.4, material="metal")
    easel.line([(40, 10), (60, 10)], width=4, material="dark")
    for x in (30, 70):
        easel.polygon(ellipse(x - 4, 81, x + 4, 89), material="dark", shade="flat")
    easel.polygon(box(21, 31, 79, 85, radius=7))
    for x in (30, 70):
        easel.line([(x, 33), (x, 83)], width=1.1, material="tone", outline=False)
    easel.line([(43, 31), (43, 28), (57, 28), (57, 31)], width=2.2, material="dark", outline=False)
    for y in (35, 77):
        for x in (21, 72):
            easel.polygon(box(x, y, x + 7, y + 5, radius=1.5), material="metal", shade="flat")
    return (50, 56), 9.5


def umbrella(easel: Easel) -> Badge:
    """An open umbrella with a hooked handle."""
    easel.shadow(40, 62)
    hook = arc(50, 76, 62, 88, start=180, stop=0)
    easel.line([(50, 8), (50, 82)], width=2, material="metal")
    easel.line([(50, 68), (50, 82), *hook], width=3.4, material="wood")
    dome = arc(8, 11, 92, 87, start=180, stop=360)
    scallops = []
    for k in range(4):
        right = 92 - 21 * k
        scallops += arc(right - 21, 44, right, 54, start=0, stop=-180)
    easel.polygon([*dome, *scallops], shade="ball")
    for x in (29, 50, 71):
        rib = smooth([(50, 11), (50 + (x - 50) * 0.75, 26), (x, 48.5)], closed=False)
        easel.line(rib, width=0.9, material="tone", outline=False)
    easel.line([(50, 7), (50, 11)], width=2, material="metal", outline=False)
    return (50, 32), 9


def cap(easel: Easel) -> Badge:
    """A baseball cap, peak to the right."""
    easel.shadow(16, 84)
    easel.polygon(
        smooth([(58, 66), (74, 62), (90, 66), (97, 73), (86, 77), (70, 79), (52, 80)]), material="tone"
    )
    easel.polygon(
        smooth(
            [
                (13, 77),
                (13, 60),
                (20, 43),
                (36, 32),
                (52, 33),
                (65, 44),
                (71, 60),
                (71, 71),
                (60, 78),
                (36, 81),
            ]
        ),
        shade="ball",
    )
    easel.line(
        smooth([(42, 32), (34, 46), (31, 78)], closed=False), width=0.8, material="tone", outline=False
    )
    easel.line(
        smooth([(43, 32), (60, 44), (66, 74)], closed=False), width=0.8, material="tone", outline=False
    )
    easel.polygon(ellipse(38.5, 29, 46.5, 34), material="tone", shade="ball")
    return (48, 58), 9.5


def t_shirt(easel: Easel) -> Badge:
    """A T-shirt, laid flat."""
    easel.shadow(30, 70)
    sleeve = [(36, 15), (26, 19), (7, 34), (17, 50), (28, 43)]
    left = [*sleeve, (28, 86)]
    right = [(100 - x, y) for x, y in reversed(left)]
    neck = arc(38, 6, 62, 26, start=30, stop=150)
    easel.polygon([*left, *right, *neck], shade="round")
    easel.line(arc(37, 4, 63, 27, start=30, stop=150), width=1.8, material="tone", outline=False)
    for x0, x1 in ((28, 30), (72, 70)):
        easel.line([(x0, 43), (x1, 34)], width=0.8, material="tone", outline=False)
    return (50, 46), 9.5


def sneaker(easel: Easel) -> Badge:
    """A sneaker, toe to the right."""
    easel.shadow(8, 92)
    easel.polygon(smooth([(12, 40), (26, 36), (38, 40), (36, 52), (16, 52)]), material="dark", shade="flat")
    easel.polygon(
        smooth(
            [
                (9, 80),
                (8, 60),
                (10, 41),
                (17, 40),
                (26, 47),
                (38, 40),
                (46, 46),
                (58, 58),
                (78, 63),
                (91, 71),
                (93, 81),
                (50, 83),
            ]
        ),
        shade="ball",
    )
    easel.polygon(smooth([(77, 81), (78, 71), (84, 67), (91, 71), (94, 80)]), material="light", shade="ball")
    easel.polygon(
        smooth([(6, 80), (30, 79), (60, 81), (94, 79), (96, 84), (92, 88), (50, 88), (10, 88), (6, 85)]),
        material="light",
    )
    for k in range(4):
        x, y = 43 + 6.2 * k, 47.5 + 4.2 * k
        easel.line([(x, y), (x - 7.5, y + 5)], width=1.7, material="light")
    return (31, 66), 8.5


WEAR = {
    "backpack": backpack,
    "suitcase": suitcase,
    "umbrella": umbrella,
    "cap": cap,
    "T-shirt": t_shirt,
    "sneaker": sneaker,
}
