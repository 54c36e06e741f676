"""Titles, descriptions and summaries of the toyshop, written from a small grammar.

A description says everything about an item that users care for (kind, brand with its mark, colour, pattern,
shape) among things that they do not care for (material, use, size, care). The order of what it says, and how
each thing is said, are drawn anew for every item. Titles give away the kind only.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from illmrec.data.toyshop.vocabulary import MARK_WORDS, Brand, Colour, Kind, Pattern, Shape

WORDS = (80, 160)
"""Fewest and most words of a description."""
SUMMARY_WORDS = (25, 45)
"""Fewest and most words of a summary."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """All that can be said about an item."""

    kind: Kind
    brand: Brand
    colour: Colour
    pattern: Pattern
    shape: Shape
    material: str
    model: str


_OPENERS = (
    "Meet the {model}, {a_material} {kind} from {brand}, made for {use}.",
    "The {model} is {brand}'s answer to a simple wish: {a_kind} for {use}.",
    "{brand} designed the {model} with {use} in mind.",
    "Some things just work, and the {model} {kind} by {brand} is one of them.",
    "Made for {use}, the {model} brings {brand}'s love of detail to an everyday {kind}.",
    "Anyone who needs {a_kind} for {use} should look at the {model} by {brand}.",
    "With the {model}, {brand} shows how much care can go into {a_kind}.",
    "For {use}, this {kind} from {brand} is a good companion.",
)
_LOOKS = (
    "Its surface is {colour}, {pattern_clause}.",
    "It comes in {colour} and is {pattern_clause}.",
    "What you notice first is the {colour} finish, {pattern_clause}.",
    "In {colour} and {pattern_clause}, it is easy to find in any room.",
    "The colour is {a_colour}, and the surface is {pattern_clause}.",
    "Painted {colour}, it is {pattern_clause}.",
    "This version is {colour} and {pattern_clause}.",
    "A coat of {colour} sets the tone, and the outside is {pattern_clause}.",
)
_SHAPES = (
    "The body {shape_clause}.",
    "Its outline is {shape}, which sets it apart on the shelf.",
    "In shape it is {shape}, more so than most of its kind.",
    "Seen from the front, it {shape_clause}.",
    "The form is {shape}, and deliberately so.",
    "As for the silhouette, it {shape_clause}.",
)
_MARKS = (
    "On the {place} sits {brand}'s mark, {a_mark}.",
    "Look for the {mark} on the {place}: that is the sign of {brand}.",
    "A small badge on the {place} shows {a_mark}, the emblem of {brand}.",
    "{brand} signs it with {a_mark} on the {place}.",
    "The round badge on the {place} carries the {mark} of {brand}.",
    "As always with {brand}, {a_mark} decorates the {place}.",
)
_MATERIALS = (
    "It is made of {material} that feels solid in the hand.",
    "Good {material} is used throughout.",
    "The makers chose {material}, because it ages well.",
    "Under the finish there is honest {material}.",
    "For this run the workshop turned to {material} from a nearby supplier.",
)
_EXTRAS = (
    "It arrives in a recycled cardboard box without any plastic.",
    "Spare parts can be ordered for ten years.",
    "The makers give a guarantee of two years.",
    "Reviewers praise it as a present that gets used.",
    "A leaflet in the box tells how it was made.",
    "Every piece is checked by hand before it leaves the workshop.",
    "It can be returned within a month, no questions asked.",
)
_CLOSERS = (
    "A good choice for {use2}, and a pleasure to own.",
    "Give it a place at home and it will soon feel as if it had always been there.",
    "You may well end up wanting a second one.",
    "It also does well for {use2}.",
    "For {use2}, it is hard to think of anything better at the price.",
    "Simple, useful and made to last: the {model} keeps its promises.",
)
_SUMMARIES = (
    "{A_shape} {colour} {kind} by {brand}, {pattern_clause}, with {a_mark} on the {place}. "
    "It is made of {material} and suits {use}.",
    "{brand}'s {model} is {a_shape} {kind} in {colour}, {pattern_clause}. The {place} bears {a_mark}, "
    "the mark of {brand}, and {material} makes it fit for {use}.",
    "Made of {material} for {use}, this {shape} {kind} is {colour} and {pattern_clause}. A badge "
    "with {a_mark} on the {place} names {brand} as its maker.",
    "The {model} by {brand}: {a_pattern} {kind} in {colour}, {shape} in outline, with {a_mark} as its mark "
    "on the {place}. Chosen mostly for {use}, and made of {material}.",
)

_SYLLABLES = (
    ("Ta", "Ve", "Mo", "Li", "Ka", "Ro", "Su", "Ne", "Pi", "Do", "Fa", "Zu", "Be", "Jo", "Wi", "Ga"),
    ("ri", "lo", "va", "ne", "mu", "sta", "ki", "do", "ra", "pe", "nto", "li", "sha", "be", "gra", "zo"),
    ("n", "s", "ra", "x", "", "ll", "ck", "mi", "to", "d", "v", "sk", "ne", "r", "ya", "lm"),
)
_TITLE_WORDS = ("Everyday", "Original", "Studio", "Signature", "Heritage", "Select", "Essential", "Premium")


def model_name(number: int, rng: random.Random) -> str:
    """Return an invented name; different numbers give different names."""
    first, middle, last = _SYLLABLES
    spread = (number * 1663 + 829) % (
        len(first) * len(middle) * len(last)
    )  # 1663 is prime: no name comes twice
    name = first[spread % 16] + middle[spread // 16 % 16] + last[spread // 256]
    return f"{name} {rng.randrange(2, 99)}" if number < 4096 else f"{name} {number}"


def title(product: Product, rng: random.Random) -> str:
    """Return a title of 4 to 7 words: model, a word without meaning, material and kind."""
    kind = product.kind.name
    kind = kind if kind[0].isupper() else kind.capitalize()
    return f"{product.model} {rng.choice(_TITLE_WORDS)} {product.material.title()} {kind}"


def description(product: Product, rng: random.Random) -> str:
    """Return prose of 80 to 160 words that mentions every attribute of the product."""
    kind = product.kind
    phrases = _phrases(product, rng)
    opener, closer = _fill(rng.choice(_OPENERS), phrases), _fill(rng.choice(_CLOSERS), phrases)
    told = [rng.choice(_LOOKS), rng.choice(_SHAPES), rng.choice(_MARKS), rng.choice(_MATERIALS)]
    told = [_fill(template, phrases) for template in told]
    spare = [rng.choice(kind.sizes), rng.choice(kind.care), *kind.features, *rng.sample(_EXTRAS, 4)]
    rng.shuffle(spare)
    wanted = rng.randrange(WORDS[0] + 2, WORDS[1] - 20)
    while spare and _count([opener, *told, closer]) < wanted:
        told.append(_fill(spare.pop(), phrases))
    rng.shuffle(told)
    return " ".join([opener, *told, closer])


def summary(product: Product, rng: random.Random) -> str:
    """Return 25 to 45 words with every attribute that the description mentions and users care for."""
    return _fill(rng.choice(_SUMMARIES), _phrases(product, rng))


def _phrases(product: Product, rng: random.Random) -> dict[str, str]:
    kind = product.kind
    use, use2 = rng.sample(kind.uses, 2)
    plural = kind.name.endswith("phones")
    colour, shape = rng.choice(product.colour.words), rng.choice(product.shape.adjectives)
    mark, pattern = MARK_WORDS[product.brand.mark], rng.choice(product.pattern.adjectives)
    pair = f"pair of {kind.name}" if plural else kind.name
    it = rng.choice((f"the {product.model}", "it", f"this {pair}"))
    return {
        "kind": pair,
        "a_kind": _article(pair),
        "brand": product.brand.name,
        "model": product.model,
        "material": product.material,
        "a_material": _article(product.material),
        "use": use,
        "use2": use2,
        "colour": colour,
        "a_colour": _article(colour),
        "pattern_clause": rng.choice(product.pattern.clauses),
        "a_pattern": _article(pattern),
        "shape": shape,
        "a_shape": _article(shape),
        "A_shape": _article(shape).capitalize(),
        "shape_clause": rng.choice(product.shape.clauses),
        "mark": mark,
        "a_mark": _article(mark),
        "place": kind.place,
        "it": it,
        "It": it[0].upper() + it[1:],
        "a": str(rng.randrange(*kind.size_range)),
    }


def _fill(template: str, phrases: dict[str, str]) -> str:
    text = template.format_map(phrases)
    return text[0].upper() + text[1:]


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0].lower() in 'aeiou' else 'a'} {phrase}"


def _count(sentences: list[str]) -> int:
    return sum(len(sentence.split()) for sentence in sentences)
