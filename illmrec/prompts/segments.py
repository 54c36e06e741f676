"""What a prompt is made of: text, and slots that a feature fills with one vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Text:
    """A piece of natural language, tokenised once."""

    text: str


@dataclass(frozen=True)
class Slot:
    """One position of the LLM input that an adaptor fills with an item's feature (paper section 3.1).

    A feature with several vectors, such as ``image-4``, has as many slots in a row, one for each vector.
    """

    feature: str


Segment = Text | Slot


@runtime_checkable
class Representation(Protocol):
    """How an item of the history is shown to the LLM. The methods that the toolkit compares differ only here.

    Items follow one another, and each is tokenised alone. So the blank between two of them stands in front of the
    second, where tokenizers put it: at the end of the first it would be a token of its own.

    Attributes:
        name: Name on the command line and in results.
        columns: Columns of the items table that ``render`` reads.
        slots: Features whose slots ``render`` may return, such as ``("image",)``.
    """

    name: str
    columns: tuple[str, ...]
    slots: tuple[str, ...]

    def render(self, item: Mapping[str, str], available: frozenset[str]) -> Sequence[Segment]:
        """Return the segments of one item.

        Args:
            item: The item's columns; an absent value is an empty string.
            available: Features that this item has; a slot may only be returned for one of these.
        """
        ...


class ImageRepresentation:
    """I-LLMRec: the title and one image slot. An item without an image shows its description instead (E.8)."""

    name = "illmrec"
    columns: tuple[str, ...] = ("title", "description")
    slots: tuple[str, ...] = ("image",)

    def render(self, item: Mapping[str, str], available: frozenset[str]) -> Sequence[Segment]:
        """Return title and image slot, or title and description where there is no image."""
        if "image" not in available:
            return [Text(f" {{Title: {item['title']}, Description: {item['description']}}},")]
        return [Text(f" {{Title: {item['title']}, Visual representation:"), Slot("image"), Text("},")]


class ImageDescriptionRepresentation:
    """I-LLMRec+: the title, one image slot and the summarised description (paper section 4.2, footnote 9)."""

    name = "illmrec+"
    columns: tuple[str, ...] = ("title", "summary")
    slots = ("image",)

    def render(self, item: Mapping[str, str], available: frozenset[str]) -> Sequence[Segment]:
        """Return title, image slot where there is an image, and summary."""
        description = Text(f", Description: {item['summary']}}},")
        if "image" not in available:
            return [Text(f" {{Title: {item['title']}"), description]
        return [Text(f" {{Title: {item['title']}, Visual representation:"), Slot("image"), description]
