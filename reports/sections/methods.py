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
CONTROL_GROUP = "Control"
OTHER_GROUP = "Other"
GROUPS = (FLOOR_GROUP, CF_GROUP, CONTROL_GROUP, TEXT_GROUP, IMAGE_GROUP, OTHER_GROUP)


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


METHODS = tuple(
    MethodStyle(name=name, label=label, group=group, colour=colour, marker=marker, line=line, hatch=hatch)
    for name, label, group, colour, marker, line, hatch in (
        ("random", "Random", FLOOR_GROUP, "#BBBBBB", ".", ":", ""),
        ("popularity", "Popularity", FLOOR_GROUP, "#777777", "*", (0, (1, 2)), ".."),
        ("recent-popularity", "Recent popularity", FLOOR_GROUP, "#4D4D4D", "$R$", (0, (1, 1, 3, 1)), "..//"),
        ("content-knn", "Content kNN", FLOOR_GROUP, "#A6761D", "$C$", (0, (2, 1)), "++"),
        ("sequential-rules", "Sequential rules", FLOOR_GROUP, "#66A61E", "$S$", (0, (3, 1, 1, 1)), "\\\\\\"),
        ("item-knn", "Item kNN", FLOOR_GROUP, "#7570B3", "$K$", (0, (5, 2)), "//\\\\"),
        ("vbpr", "VBPR", CF_GROUP, "#A6CEE3", "$V$", (0, (2, 1, 1, 1)), "||.."),
        ("bm3", "BM3", CF_GROUP, "#1F78B4", "$3$", (0, (3, 2, 1, 2)), "||++"),
        ("tiger", "TIGER", CF_GROUP, "#E31A1C", "$t$", (0, (1, 1, 5, 1)), "||xx"),
        ("gru4rec", "GRU4Rec", CF_GROUP, "#F0E442", "h", (0, (4, 1, 1, 1, 1, 1)), "\\\\"),
        ("bert4rec", "BERT4Rec", CF_GROUP, "#B8A200", "$4$", (0, (4, 1, 1, 1)), "\\\\.."),
        ("esasrec", "eSASRec", CF_GROUP, "#6A3D9A", "$e$", (0, (6, 1, 2, 1)), "xx++"),
        (
            "sasrec-recbole",
            "SASRec (RecBole's default)",
            CF_GROUP,
            "#9E9AC8",
            "$r$",
            (0, (1, 2, 4, 2)),
            "xx..",
        ),
        ("sasrec-bce", "SASRec (BCE)", CF_GROUP, "#DD1C77", "$b$", (0, (4, 4)), "xx--"),
        ("sasrec-short", "SASRec (equal length)", CF_GROUP, "#C994C7", "$s$", (0, (2, 2)), "xx//"),
        ("sasrec", "SASRec", CF_GROUP, "#CC79A7", "X", (0, (6, 2)), "xx"),
        ("no-llm", "No LLM (features)", CONTROL_GROUP, "#1B9E77", "$F$", (0, (1, 1)), "oo.."),
        ("llm-and-features", "LLM and features", CONTROL_GROUP, "#E7298A", "$B$", (0, (4, 2)), "**"),
        ("illmrec-zero", "I-LLMRec, empty slot", CONTROL_GROUP, "#F4A582", "$0$", (0, (1, 3)), "---"),
        ("illmrec-noise", "I-LLMRec, noise", CONTROL_GROUP, "#B2182B", "$N$", (0, (2, 3)), "xxx"),
        ("illmrec-shuffled", "I-LLMRec, another's image", CONTROL_GROUP, "#762A83", "$M$", (0, (3, 3)), "OO"),
        ("title", "Title only", TEXT_GROUP, "#56B4E9", "P", ":", "--"),
        ("tallrec", "TALLRec (attributes)", TEXT_GROUP, "#0072B2", "s", "--", "//"),
        ("trsr", "TRSR (summary)", TEXT_GROUP, "#009E73", "^", "-.", "||"),
        ("full-description", "Full description", TEXT_GROUP, "#000000", "v", (0, (5, 1, 1, 1)), ""),
        ("cf-token", "CF token", TEXT_GROUP, "#8C510A", "$T$", (0, (6, 1, 1, 1)), "..."),
        ("e4srec", "E4SRec-style", TEXT_GROUP, "#DFC27D", "$E$", (0, (1, 2, 1, 1)), "..oo"),
        ("a-llmrec", "A-LLMRec", TEXT_GROUP, "#543005", "$A$", (0, (6, 2, 1, 2)), "..xx"),
        ("description-token", "Description token", TEXT_GROUP, "#35978F", "$D$", (0, (6, 1)), "|||"),
        ("idgenrec", "IDGenRec (keywords)", TEXT_GROUP, "#DDAA33", "$I$", (0, (3, 1, 1, 3)), "\\\\.."),
        ("lc-rec", "LC-Rec (semantic IDs)", TEXT_GROUP, "#CC6677", "$L$", (0, (2, 1, 2, 3)), "//.."),
        ("unimp", "UniMP-style", IMAGE_GROUP, "#FDB863", "$U$", (0, (3, 1, 1, 2)), "oo--"),
        ("illmrec+", "I-LLMRec+", IMAGE_GROUP, "#E69F00", "D", (0, (3, 1)), "oo"),
        ("mllm", "MLLM (whole pictures)", IMAGE_GROUP, "#67001F", "$p$", (0, (1, 2, 1, 2)), "++oo"),
        (
            "illmrec-8-tokens",
            "I-LLMRec, 8 tokens",
            IMAGE_GROUP,
            "#FDD0A2",
            "$\\mathbf{8}$",
            (0, (5, 1, 1, 1)),
            "//..",
        ),
        (
            "illmrec-4-tokens",
            "I-LLMRec, 4 tokens",
            IMAGE_GROUP,
            "#FDAE6B",
            "$\\mathbf{4}$",
            (0, (4, 1)),
            "\\\\++",
        ),
        (
            "illmrec-2-tokens",
            "I-LLMRec, 2 tokens",
            IMAGE_GROUP,
            "#F16913",
            "$\\mathbf{2}$",
            (0, (2, 1)),
            "//oo",
        ),
        ("illmrec", "I-LLMRec", IMAGE_GROUP, "#D55E00", "o", "-", ""),
    )
)

_OTHER_LOOKS = (
    ("#332288", "<", "--", "\\\\\\"),
    ("#999933", ">", "-.", "///"),
    ("#882255", "p", ":", "**"),
    ("#44AA99", "d", "-", "OO"),
    ("#AA4499", "8", "--", "---"),
    ("#117733", "H", "-.", "xxx"),
)


def looks(
    *rows: tuple[str, str, str, str, str] | tuple[str, str, str, str, str, str],
) -> dict[str, MethodStyle]:
    """Return looks of lines that are no methods, in order.

    Args:
        rows: Name, label, colour, marker and line of each, and a hatch where there are bars.
    """
    return {
        name: MethodStyle(
            name=name,
            label=label,
            group=OTHER_GROUP,
            colour=colour,
            marker=marker,
            line=line,
            hatch="".join(hatch),
        )
        for name, label, colour, marker, line, *hatch in rows
    }


FEATURE_LOOKS = looks(
    ("image", "Image", "#0072B2", "o", "-"),
    ("cf", "CF", "#E69F00", "s", "--"),
    ("image+cf", "Image + CF", "#009E73", "^", "-."),
    ("image+cf+text", "Image + CF + text", "#D55E00", "D", "-"),
    ("all", "Image + CF + text", "#D55E00", "D", "-"),
)
"""Looks of the feature sets of I-LLMRec, in the colours that the paper's Figures 6 and 11 name."""

SUBSTITUTE_LOOKS = looks(
    ("description", "I-LLMRec, description instead", "#D55E00", "o", "-"),
    ("zero", "I-LLMRec, zero vector instead", "#E69F00", "D", "--"),
    ("drop", "I-LLMRec, slot dropped", "#56B4E9", "P", ":"),
)
"""Looks of what stands in for a missing image."""


def is_floor(method: str) -> bool:
    """Return whether a method learns nothing by gradient."""
    return any(style.name == method and style.group == FLOOR_GROUP for style in METHODS)


def method_styles(names: Iterable[str]) -> dict[str, MethodStyle]:
    """Return the style of each method, in the order in which tables and legends list them.

    Methods that the toolkit does not ship (``package.module:Class``) come last, in alphabetical order, under
    the name of their class; they get further colours and markers in that order.

    Args:
        names: Names of methods as they stand in the store.
    """
    wanted = set(names)
    styles = {style.name: style for style in METHODS if style.name in wanted}
    others = (
        (name, name.rsplit(":", 1)[-1] or name, *_OTHER_LOOKS[position % len(_OTHER_LOOKS)])
        for position, name in enumerate(sorted(wanted - styles.keys()))
    )
    return styles | looks(*others)
