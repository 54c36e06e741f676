"""Names, groups and looks of the methods: one colour, marker, line and hatch each, the same in every figure.

Colours are those of Okabe and Ito, which readers with any common colour blindness can tell apart; marker,
line style and hatch tell the methods apart in grey print.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CF_GROUP = "Collaborative filtering"
TEXT_GROUP = "LLM"
IMAGE_GROUP = "Image-aware LLM"
FLOOR_GROUP = "Floor"
OTHER_GROUP = "Other"
GROUPS = (FLOOR_GROUP, CF_GROUP, TEXT_GROUP, IMAGE_GROUP, OTHER_GROUP)


@dataclass(frozen=True, kw_only=True)
class MethodStyle:
    """How one method is named and drawn.

    Attributes:
        name: The method's name in the store.
        label: The name that readers see.
        group: The column group of the paper's Table 1.
        colour: Hexadecimal RGB.
        marker: Matplotlib marker.
        line: Matplotlib line style.
        hatch: Matplotlib hatch of bars.
    """

    name: str
    label: str
    group: str
    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]
    hatch: str


METHODS = (
    MethodStyle(
        name="random", label="Random", group=FLOOR_GROUP, colour="#BBBBBB", marker=".", line=":", hatch=""
    ),
    MethodStyle(
        name="popularity",
        label="Popularity",
        group=FLOOR_GROUP,
        colour="#777777",
        marker="*",
        line=(0, (1, 2)),
        hatch="..",
    ),
    MethodStyle(
        name="gru4rec",
        label="GRU4Rec",
        group=CF_GROUP,
        colour="#F0E442",
        marker="h",
        line=(0, (4, 1, 1, 1, 1, 1)),
        hatch="\\\\",
    ),
    MethodStyle(
        name="sasrec",
        label="SASRec",
        group=CF_GROUP,
        colour="#CC79A7",
        marker="X",
        line=(0, (6, 2)),
        hatch="xx",
    ),
    MethodStyle(
        name="title", label="Title only", group=TEXT_GROUP, colour="#56B4E9", marker="P", line=":", hatch="--"
    ),
    MethodStyle(
        name="tallrec",
        label="TALLRec (attributes)",
        group=TEXT_GROUP,
        colour="#0072B2",
        marker="s",
        line="--",
        hatch="//",
    ),
    MethodStyle(
        name="trsr",
        label="TRSR (summary)",
        group=TEXT_GROUP,
        colour="#009E73",
        marker="^",
        line="-.",
        hatch="||",
    ),
    MethodStyle(
        name="full-description",
        label="Full description",
        group=TEXT_GROUP,
        colour="#000000",
        marker="v",
        line=(0, (5, 1, 1, 1)),
        hatch="",
    ),
    MethodStyle(
        name="illmrec+",
        label="I-LLMRec+",
        group=IMAGE_GROUP,
        colour="#E69F00",
        marker="D",
        line=(0, (3, 1)),
        hatch="oo",
    ),
    MethodStyle(
        name="illmrec", label="I-LLMRec", group=IMAGE_GROUP, colour="#D55E00", marker="o", line="-", hatch=""
    ),
)

_OTHER_LOOKS: tuple[tuple[str, str, str, str], ...] = (
    ("#332288", "<", "--", "\\\\\\"),
    ("#999933", ">", "-.", "///"),
    ("#882255", "p", ":", "**"),
    ("#44AA99", "d", "-", "OO"),
    ("#AA4499", "8", "--", "---"),
    ("#117733", "H", "-.", "xxx"),
)


def _look(name: str, label: str, colour: str, marker: str, line: str) -> MethodStyle:
    return MethodStyle(
        name=name, label=label, group=OTHER_GROUP, colour=colour, marker=marker, line=line, hatch=""
    )


FEATURE_LOOKS = {
    look.name: look
    for look in (
        _look("image", "Image", "#0072B2", "o", "-"),
        _look("cf", "CF", "#E69F00", "s", "--"),
        _look("image+cf", "Image + CF", "#009E73", "^", "-."),
        _look("image+cf+text", "Image + CF + text", "#D55E00", "D", "-"),
        _look("all", "Image + CF + text", "#D55E00", "D", "-"),
    )
}
"""Looks of the feature sets of I-LLMRec, in the colours that the paper's Figures 6 and 11 name."""

SUBSTITUTE_LOOKS = {
    look.name: look
    for look in (
        _look("description", "I-LLMRec, description instead", "#D55E00", "o", "-"),
        _look("zero", "I-LLMRec, zero vector instead", "#E69F00", "D", "--"),
        _look("drop", "I-LLMRec, slot dropped", "#56B4E9", "P", ":"),
    )
}
"""Looks of what stands in for a missing image."""


def method_styles(names: Iterable[str]) -> dict[str, MethodStyle]:
    """Return the style of each method, in the order in which tables and legends list them.

    Methods that the toolkit does not ship (``package.module:Class``) come last, in alphabetical order, under
    the name of their class; they get further colours and markers in that order.

    Args:
        names: Names of methods as they stand in the store.
    """
    wanted = set(names)
    styles = {style.name: style for style in METHODS if style.name in wanted}
    for position, name in enumerate(sorted(wanted - styles.keys())):
        colour, marker, line, hatch = _OTHER_LOOKS[position % len(_OTHER_LOOKS)]
        styles[name] = MethodStyle(
            name=name,
            label=name.rsplit(":", 1)[-1] or name,
            group=OTHER_GROUP,
            colour=colour,
            marker=marker,
            line=line,
            hatch=hatch,
        )
    return styles
