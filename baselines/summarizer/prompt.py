"""What is handed to a summariser, whoever it is."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from baselines.summarizer.store import Answer


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt for an item's text.

    Attributes:
        key: Identifies all that is handed over.
        length: Its tokens; for an endpoint, whose tokenizer is not known, an estimate from above.
        content: What the writer hands over.
    """

    key: str
    length: int
    content: Any


class Writer(Protocol):
    """Who writes summaries."""

    key: str
    room: int

    def prompt(self, text: str) -> Prompt:
        """Return the prompt for an item's text, however long."""

    def write(self, prompts: Sequence[Prompt], *, known: Container[str]) -> Iterator[list[Answer]]:
        """Answer the prompts that are not known, some at a time."""
