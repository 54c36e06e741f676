"""Texts that go into a summariser and come out of it: cleaned, counted, cut at sentences, split into chunks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

# A word is what stands between blanks. Scripts without blanks: an ideograph or kana is one, and so are up to four
# letters of Thai, Lao, Burmese and Khmer.
_NO_BLANKS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LONG_WORDS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_WORD = re.compile(rf"[{_NO_BLANKS}]|[{_LONG_WORDS}]{{1,4}}|[^\s{_NO_BLANKS}{_LONG_WORDS}]+")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？]")


def clean(text: object) -> str:
    """Return a text on one line, without control characters and halves of a character."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", " ", str(text)).split())


def count_words(text: str) -> int:
    """Return the number of words of a text, in any script."""
    return len(_WORD.findall(text))


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a summariser reads of an item, each on one line."""

    title: str
    brand: str
    category: str
    description: str

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Source:
        """Return that of a row of the items."""
        return cls(**{name: clean(item[name]) for name in ("title", "brand", "category", "description")})

    def with_description(self, text: str) -> Source:
        """Return the same item with another description."""
        return replace(self, description=text)

    def text(self) -> str:
        """Return title, brand, category and description as far as there are, a line each."""
        lines = (
            (name, getattr(self, name.lower())) for name in ("Title", "Brand", "Category", "Description")
        )
        return "\n".join(f"{name}: {text}" for name, text in lines if text)

    def attributes(self) -> str:
        """Return title, brand and category as a sentence: all there is to say without a description."""
        details = ", ".join(filter(None, (self.brand, self.category)))
        return f"{self.title} ({details})." if details else f"{self.title}."

    def short(self) -> str:
        """Return brand, category and the whole description: the summary of an item whose description is short.

        The title is not repeated: representations that show a summary show it beside the title.
        """
        details = ", ".join(filter(None, (self.brand, self.category)))
        return f"{details}. {self.description}" if details else self.description


def trim(text: str, *, words: int, finished: bool) -> tuple[str, bool]:
    """Cut a generated text to whole sentences of at most so many words; an unfinished one only if it is the first.

    Returns:
        The text, and whether anything is missing at its end.
    """
    text = clean(text)
    found = list(_WORD.finditer(text))
    cut = len(found) > words or not finished
    if len(found) > words:
        text = text[: found[words - 1].end()]
    if cut:
        sentences = list(_SENTENCE_END.finditer(text))
        if sentences:
            text = text[: sentences[-1].end()]
    return text, cut


def split(text: str, parts: int) -> list[str]:
    """Split a text into about equal parts, at blanks where there are any; together they are the whole text."""
    borders = [0]
    for part in range(1, parts):
        near = len(text) * part // parts
        blank = text.rfind(" ", borders[-1] + 1, near + 1)
        borders.append(max(borders[-1], near if blank < 0 else blank))
    borders.append(len(text))
    pieces = (text[begin:end].strip() for begin, end in itertools.pairwise(borders))
    return [piece for piece in pieces if piece]
