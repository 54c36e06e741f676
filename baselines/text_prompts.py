"""The text representations that I-LLMRec is compared with. They share everything else with it (Appendix B)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from illmrec.prompts.segments import Segment, Text


class TitleOnly:
    """The title alone: the cheapest text, a lower line for every other representation."""

    name = "title"
    columns: tuple[str, ...] = ("title",)
    slots: tuple[str, ...] = ()

    def render(self, item: Mapping[str, str], available: frozenset[str]) -> Sequence[Segment]:
        """Return the title."""
        return [Text(f" {{Title: {item['title']}}},")]


class TALLRec:
    """Attribute-based: title, brand and category. An absent attribute is left out."""

    name = "tallrec"
    columns: tuple[str, ...] = ("title", "brand", "category")
    slots: tuple[str, ...] = ()

    def render(self, item: Mapping[str, str], available: frozenset[str]) -> Sequence[Segment]:
        """Return the title and the attributes that the item has."""
        attributes = "".join(
            f", {name.capitalize()}: {item[name]}" for name in ("brand", "category") if item[name]
        )
        return [Text(f" {{Title: {item['title']}{attributes}}},")]


class TRSR:
    """Description-based, summarised: title and the summary that an LLM wrote of the item."""

    name = "trsr"
    columns: tuple[str, ...] = ("title", "summary")
    slots: tuple[str, ...] = ()

    def render(self, item: Mapping[str, str], available: frozenset[str]) -> Sequence[Segment]:
        """Return the title and the summary."""
        return [Text(f" {{Title: {item['title']}, Description: {item['summary']}}},")]


class FullDescription:
    """Description-based, unabridged: title and the description as it stands."""

    name = "full-description"
    columns: tuple[str, ...] = ("title", "description")
    slots: tuple[str, ...] = ()

    def render(self, item: Mapping[str, str], available: frozenset[str]) -> Sequence[Segment]:
        """Return the title and the description."""
        return [Text(f" {{Title: {item['title']}, Description: {item['description']}}},")]
