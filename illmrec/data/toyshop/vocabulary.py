"""The attributes of the toyshop: colours, patterns, shapes and brands, with their words and looks."""

from __future__ import annotations

from dataclasses import dataclass

RGB = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Colour:
    """A body colour, the second colour of its patterns, and phrases for it."""

    name: str
    rgb: RGB
    second: RGB
    words: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """A surface pattern: phrases as a clause ("covered in ...") and as an adjective."""

    name: str
    clauses: tuple[str, ...]
    adjectives: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A shape variant: how the silhouette is stretched, and phrases for it."""

    name: str
    stretch: tuple[float, float]
    adjectives: tuple[str, ...]
    clauses: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Brand:
    """An invented brand, the mark on its products, and whether the mark is light on dark."""

    name: str
    mark: str
    dark_badge: bool


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of product.

    Attributes:
        name: Noun, also the last word of a title.
        category: As in a shop's navigation.
        leads_to: Kinds that are often bought next.
        materials: Each fits "made of ..." and a title.
        place: Where the brand's mark is, as in "on the ...".
        uses: Each completes "made for ...".
        features: Whole sentences without a subject clash; ``{it}`` stands for the product.
        sizes: Sentences about dimensions; ``{a}`` is a number of centimetres or the like.
        care: Whole sentences.
    """

    name: str
    category: str
    leads_to: tuple[str, ...]
    materials: tuple[str, ...]
    place: str
    uses: tuple[str, ...]
    features: tuple[str, ...]
    sizes: tuple[str, ...]
    size_range: tuple[int, int]
    care: tuple[str, ...]


_CREAM: RGB = (250, 244, 228)
_INK: RGB = (38, 40, 52)

COLOURS = (
    Colour(
        name="red", rgb=(204, 44, 48), second=_CREAM, words=("red", "bright red", "cherry red", "deep red")
    ),
    Colour(name="orange", rgb=(240, 130, 32), second=_INK, words=("orange", "warm orange", "vivid orange")),
    Colour(name="yellow", rgb=(248, 206, 48), second=_INK, words=("yellow", "sunny yellow", "lemon yellow")),
    Colour(name="green", rgb=(54, 148, 72), second=_CREAM, words=("green", "leafy green", "fresh green")),
    Colour(name="teal", rgb=(38, 170, 170), second=_INK, words=("teal", "sea teal", "bright teal")),
    Colour(name="blue", rgb=(40, 82, 176), second=_CREAM, words=("blue", "royal blue", "strong blue")),
    Colour(name="purple", rgb=(122, 62, 160), second=_CREAM, words=("purple", "plum purple", "rich purple")),
    Colour(name="pink", rgb=(244, 142, 178), second=_INK, words=("pink", "rose pink", "soft pink")),
    Colour(name="brown", rgb=(128, 82, 46), second=_CREAM, words=("brown", "chestnut brown", "earthy brown")),
    Colour(name="black", rgb=(46, 46, 52), second=_CREAM, words=("black", "inky black", "deep black")),
)

NEUTRAL = Colour(name="neutral", rgb=(168, 168, 170), second=(168, 168, 170), words=())
"""What a product is painted with where its picture does not show its colour."""

NEUTRAL_SECOND: RGB = (228, 228, 228)
"""The second colour of a pattern that is shown on a product whose colour is not."""

PATTERNS = (
    Pattern(
        name="plain",
        clauses=("left entirely plain", "in one even tone without any print", "kept free of decoration"),
        adjectives=("plain", "unpatterned", "solid"),
    ),
    Pattern(
        name="stripes",
        clauses=("ringed with broad stripes", "crossed by even stripes", "banded with clear stripes"),
        adjectives=("striped", "boldly striped"),
    ),
    Pattern(
        name="dots",
        clauses=("scattered with round dots", "covered in polka dots", "dotted all over"),
        adjectives=("dotted", "polka-dotted"),
    ),
    Pattern(
        name="checks",
        clauses=("laid out in checks", "covered by a grid of checks", "patterned with large checks"),
        adjectives=("checked", "chequered"),
    ),
    Pattern(
        name="zigzag",
        clauses=("crossed by zigzag lines", "wrapped in a lively zigzag", "marked with rows of zigzag"),
        adjectives=("zigzag", "zigzag-patterned"),
    ),
    Pattern(
        name="diamonds",
        clauses=("covered in a lattice of diamonds", "set with rows of diamonds", "printed with diamonds"),
        adjectives=("diamond-patterned", "diamond-print"),
    ),
)

SHAPES = (
    Shape(
        name="classic",
        stretch=(1.0, 1.0),
        adjectives=("classic", "evenly proportioned", "traditional"),
        clauses=(
            "keeps the classic proportions",
            "has balanced, traditional lines",
            "follows the usual outline",
        ),
    ),
    Shape(
        name="slim",
        stretch=(0.74, 1.03),
        adjectives=("slim", "slender", "narrow"),
        clauses=("is cut slim and upright", "has a narrow, slender outline", "stands slim and tall"),
    ),
    Shape(
        name="wide",
        stretch=(1.14, 0.80),
        adjectives=("wide", "broad", "squat"),
        clauses=("is built low and wide", "has a broad, squat outline", "spreads out wide and low"),
    ),
)

BRANDS = (
    Brand(name="Ardello", mark="star", dark_badge=False),
    Brand(name="Brimtal", mark="crescent", dark_badge=True),
    Brand(name="Corvane", mark="heart", dark_badge=False),
    Brand(name="Dunmeri", mark="bolt", dark_badge=True),
    Brand(name="Elvasso", mark="leaf", dark_badge=False),
    Brand(name="Fjorkin", mark="plus", dark_badge=True),
    Brand(name="Grintoe", mark="ring", dark_badge=False),
    Brand(name="Hulvane", mark="mountain", dark_badge=True),
    Brand(name="Ivokka", mark="wave", dark_badge=False),
    Brand(name="Jarnelo", mark="diamond", dark_badge=True),
    Brand(name="Kestwyn", mark="arrow", dark_badge=False),
    Brand(name="Lumbrio", mark="flower", dark_badge=True),
)

MARK_WORDS = {
    "star": "five-pointed star",
    "crescent": "crescent moon",
    "heart": "heart",
    "bolt": "lightning bolt",
    "leaf": "leaf",
    "plus": "plus sign",
    "ring": "ring",
    "mountain": "twin-peaked mountain",
    "wave": "pair of waves",
    "diamond": "diamond",
    "arrow": "arrow",
    "flower": "flower",
}
