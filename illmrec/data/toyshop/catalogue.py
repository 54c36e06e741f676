"""The toyshop's catalogue: which items there are, and what their pictures show."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pandas as pd

from illmrec.data.toyshop import prose
from illmrec.data.toyshop.kinds import KINDS
from illmrec.data.toyshop.pictures import SHOWABLE
from illmrec.data.toyshop.vocabulary import BRANDS, COLOURS, PATTERNS, SHAPES

VOCABULARIES = {"kind": KINDS, "brand": BRANDS, "colour": COLOURS, "pattern": PATTERNS, "shape": SHAPES}
"""The values of each attribute that users have a taste for."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Items of the toyshop.

    Attributes:
        table: One row an item: the items table, with kind, colour, pattern and shape as extra columns.
        attributes: For each of :data:`VOCABULARIES`, int [n_items] indices into it.
    """

    table: pd.DataFrame
    attributes: dict[str, np.ndarray]


def make_catalogue(*, items: int, seed: int) -> Catalogue:
    """Invent items; the first rows of a larger catalogue are not those of a smaller one.

    Args:
        items: How many.
        seed: Of everything about them.
    """
    rng = np.random.default_rng([seed, 1])
    attributes = {}
    for name, vocabulary in VOCABULARIES.items():
        # Every value as often as any other, give or take one: no attribute is rare by accident.
        attributes[name] = rng.permutation(np.arange(items) % len(vocabulary))
    numbers = rng.permutation(max(items, 4096))[:items].tolist()
    return Catalogue(
        table=pd.DataFrame(
            [_row(item, numbers[item], attributes=attributes, seed=seed) for item in range(items)]
        ),
        attributes=attributes,
    )


def visible(*, items: int, overlap: float, seed: int) -> np.ndarray:
    """Return what the pictures show: bool [items, len(SHOWABLE)], each True with probability ``overlap``.

    Nested: with the same seed, what is shown at a smaller overlap is shown at a larger one; at 0 nothing is,
    at 1 everything.
    """
    return np.random.default_rng([seed, 2]).random((items, len(SHOWABLE))) < overlap


def _row(item: int, number: int, *, attributes: dict[str, np.ndarray], seed: int) -> dict[str, str]:
    rng = random.Random(f"toyshop {seed} {item}")
    kind = KINDS[attributes["kind"][item]]
    product = prose.Product(
        kind=kind,
        brand=BRANDS[attributes["brand"][item]],
        colour=COLOURS[attributes["colour"][item]],
        pattern=PATTERNS[attributes["pattern"][item]],
        shape=SHAPES[attributes["shape"][item]],
        material=rng.choice(kind.materials),
        model=prose.model_name(number, rng),
    )
    return {
        "item_id": f"toy-{item:05d}",
        "title": prose.title(product, rng),
        "brand": product.brand.name,
        "category": kind.category,
        "description": prose.description(product, rng),
        "summary": prose.summary(product, rng),
        "kind": kind.name,
        "colour": product.colour.name,
        "pattern": product.pattern.name,
        "shape": product.shape.name,
    }
