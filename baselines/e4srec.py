"""E4SRec-style: an item is its embedding in SASRec and no word, and is recommended by a token of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from illmrec.prompts.segments import Segment, Slot


class E4SRec:
    """One CF slot an item, without a word: the LLM reads a sequence of identities."""

    name = "e4srec"
    columns: tuple[str, ...] = ()
    slots = ("cf",)

    def render(self, item: Mapping[str, str], available: frozenset[str]) -> Sequence[Segment]:
        """Return the CF slot."""
        return [Slot("cf")]
