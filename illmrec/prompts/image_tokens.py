"""I-LLMRec with several tokens an item, one for each part of its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from illmrec.features.grids import image_vectors
from illmrec.prompts.segments import ImageRepresentation, Segment, Slot, Text


class ImageTokens2(ImageRepresentation):
    """I-LLMRec with an image slot for the upper and one for the lower half. Without an image it is I-LLMRec.

    Another number is a subclass with another ``name`` and, say, ``slots = ("image-16",)``.
    """

    name = "illmrec-2-tokens"
    slots: tuple[str, ...] = ("image-2",)

    def render(self, item: Mapping[str, str], available: frozenset[str]) -> Sequence[Segment]:
        """Return title and image slots, or title and description where there is no image."""
        (feature,) = self.slots
        if feature not in available:
            return super().render(item, frozenset())
        slots = [Slot(feature)] * image_vectors(feature)
        return [Text(f" {{Title: {item['title']}, Visual representation:"), *slots, Text("},")]


class ImageTokens4(ImageTokens2):
    """I-LLMRec with an image slot for each quarter of the picture."""

    name = "illmrec-4-tokens"
    slots = ("image-4",)


class ImageTokens8(ImageTokens2):
    """I-LLMRec with an image slot for each eighth of the picture, four rows of two."""

    name = "illmrec-8-tokens"
    slots = ("image-8",)
