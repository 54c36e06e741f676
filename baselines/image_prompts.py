"""Other ways to show items by their image, for experiments on missing images (paper E.8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from illmrec.prompts.segments import Segment, Slot, Text


class ImageOrTitle:
    """I-LLMRec that drops the slot of an item without an image and puts nothing in its place."""

    name = "illmrec-dropped-slots"
    columns: tuple[str, ...] = ("title",)
    slots = ("image",)

    def render(self, item: Mapping[str, str], available: frozenset[str]) -> Sequence[Segment]:
        """Return title and image slot, or the title alone where there is no image."""
        if "image" not in available:
            return [Text(f" {{Title: {item['title']}}},")]
        return [Text(f" {{Title: {item['title']}, Visual representation:"), Slot("image"), Text("},")]
