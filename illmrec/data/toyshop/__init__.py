"""The source ``toyshop``: a generated catalogue with painted pictures, prose and users with taste.

One knob, ``overlap``, sets how much of what a description says can be seen in the picture. Items, texts,
users and sequences are the same whatever its value.
"""

from __future__ import annotations

from illmrec.data.building import build_dataset
from illmrec.data.dataset import Dataset
from illmrec.data.toyshop.catalogue import make_catalogue, visible
from illmrec.data.toyshop.pictures import SHOWABLE, ToyshopImages
from illmrec.data.toyshop.users import make_interactions
from illmrec.errors import InputError
from illmrec.files import hash_json

__all__ = [
    "DEFAULT_ITEMS",
    "DEFAULT_OVERLAP",
    "DEFAULT_USERS",
    "GENERATOR_VERSION",
    "ToyshopImages",
    "load_toyshop",
]

GENERATOR_VERSION = 1
"""Goes up whenever pictures, texts or users come out differently for the same options."""

DEFAULT_USERS = 600
DEFAULT_ITEMS = 400
DEFAULT_OVERLAP = 0.8


def load_toyshop(
    *,
    users: int = DEFAULT_USERS,
    items: int = DEFAULT_ITEMS,
    overlap: float = DEFAULT_OVERLAP,
    seed: int = 0,
    min_interactions: int = 5,
    max_users: int | None = None,
) -> Dataset:
    """Generate the toyshop; pictures are painted when they are read.

    Args:
        users: Number of users before the k-core, at least 10.
        items: Number of items before the k-core, at least 40.
        overlap: Probability, 0 to 1, that an item's picture shows an attribute (brand mark, colour, pattern,
            shape) that its description tells. What is shown at a smaller overlap is shown at a larger one.
        seed: Of everything, the sample of ``max_users`` included.
        min_interactions: The k of the iterative k-core.
        max_users: Keep a random sample of this many users, drawn after the k-core.

    Raises:
        InputError: If an option is out of range, or the k-core leaves nothing.
    """
    if users < 10:
        raise InputError(f"users is {users}: toyshop needs at least 10")
    if items < 40:
        raise InputError(f"items is {items}: toyshop needs at least 40")
    if not 0 <= overlap <= 1:
        raise InputError(f"overlap is {overlap}: give a number from 0 (nothing seen) to 1 (everything seen)")
    catalogue = make_catalogue(items=items, seed=seed)
    interactions = make_interactions(users=users, attributes=catalogue.attributes, seed=seed)
    interactions["item_id"] = catalogue.table["item_id"].to_numpy()[interactions.pop("item")]
    images = ToyshopImages(
        kinds=catalogue.table["kind"].tolist(),
        attributes={name: catalogue.attributes[name] for name in SHOWABLE},
        shown=visible(items=items, overlap=overlap, seed=seed),
        seed=seed,
        fingerprint=hash_json(["toyshop", GENERATOR_VERSION, users, items, float(overlap), seed]),
    )
    return build_dataset(
        name=_name(users=users, items=items, overlap=overlap, seed=seed),
        items=catalogue.table,
        interactions=interactions,
        images=images,
        min_interactions=min_interactions,
        max_users=max_users,
        seed=seed,
        items_file="toyshop items",
        interactions_file="toyshop interactions",
    )


def _name(*, users: int, items: int, overlap: float, seed: int) -> str:
    """Return ``toyshop`` and what differs from the defaults."""
    parts = ["toyshop"]
    if (users, items) != (DEFAULT_USERS, DEFAULT_ITEMS):
        parts.append(f"{users}x{items}")
    if overlap != DEFAULT_OVERLAP:
        parts.append(f"overlap{overlap:g}")
    if seed:
        parts.append(f"seed{seed}")
    return "-".join(parts)
