"""UniMP-style: image and attributes of an item go in, and it is recommended by a token of its own (ICLR 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from illmrec.prompts.segments import Segment, Slot, Text


class UniMP:
    """Title, brand, category and one image slot; items are scored by tokens, of which the prompt shows none.

    An absent attribute is left out, and so is the slot of an item without an image.
    """

    name = "unimp"
    columns: tuple[str, ...] = ("title", "brand", "category")
    slots = ("image",)

    def render(self, item: Mapping[str, str], available: frozenset[str]) -> Sequence[Segment]:
        """Return title, attributes that the item has, and image slot."""
        attributes = "".join(
            f", {name.capitalize()}: {item[name]}" for name in ("brand", "category") if item[name]
        )
        shown = f" {{Title: {item['title']}{attributes}"
        if "image" not in available:
            return [Text(f"{shown}}},")]
        return [Text(f"{shown}, Visual representation:"), Slot("image"), Text("},")]
