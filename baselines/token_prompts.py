"""One token an item that is no picture: the rivals of I-LLMRec's image token at the same price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from illmrec.prompts.segments import Segment, Slot, Text


class DescriptionToken:
    """The title and the text encoder's embedding of the item's text as one token."""

    name = "description-token"
    columns: tuple[str, ...] = ("title",)
    slots = ("text",)

    def render(self, item: Mapping[str, str], available: frozenset[str]) -> Sequence[Segment]:
        """Return title and text slot."""
        return [Text(f" {{Title: {item['title']}, Description:"), Slot("text"), Text("},")]


class CFToken:
    """The title and the item's embedding in SASRec as one token (CoLLM, E4SRec and A-LLMRec show items so)."""

    name = "cf-token"
    columns: tuple[str, ...] = ("title",)
    slots = ("cf",)

    def render(self, item: Mapping[str, str], available: frozenset[str]) -> Sequence[Segment]:
        """Return title and CF slot."""
        return [Text(f" {{Title: {item['title']}, Collaborative representation:"), Slot("cf"), Text("},")]
