"""Texts of items, cleaned in named steps; by default none, since the paper shows descriptions as they are."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from typing import Literal

import pandas as pd

from illmrec.data.registry import TEXTS

CleaningStep = Literal["entities", "tags", "boilerplate", "whitespace", "length"]

_SCRIPT = re.compile(r"<(script|style)\b[^>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_BREAK = re.compile(r"</?(?:br|p|div|li|ul|ol|h[1-6]|tr|td|table)\b[^<>]*>", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\ufeff]")
_BLANK = re.compile(r"\s+")

BOILERPLATE = (
    r"\(?\s*(?:show|read|see) (?:more|less)\s*\)?\.?(?=\s*$)",
    r"see (?:more|all) product details\.?",
    r"(?:product|item) description\s*:(?=\s)",
    r"click here (?:to|for) [^.!?]{1,80}[.!?]",
    r"please (?:feel free to )?contact us [^.!?]{0,80}[.!?]",
    r"(?:all|any) rights reserved\.?",
)
"""What shops write around descriptions, whatever the product."""
_BOILERPLATE = re.compile("|".join(BOILERPLATE), re.IGNORECASE)


def entities(text: str) -> str:
    """Return a text with ``&amp;`` and the like as the characters that they stand for, those written twice as well."""
    return html.unescape(html.unescape(text)) if "&" in text else text


def tags(text: str) -> str:
    """Return a text without HTML tags, comments and scripts; a tag that breaks a line becomes a blank."""
    if "<" not in text:
        return text
    text = _COMMENT.sub(" ", _SCRIPT.sub(" ", text))
    return _TAG.sub("", _BREAK.sub(" ", text))


def boilerplate(text: str) -> str:
    """Return a text without :data:`BOILERPLATE`."""
    return _BOILERPLATE.sub("", text)


def whitespace(text: str) -> str:
    """Return a text with one blank for each run of white space, without control characters and ends."""
    return _BLANK.sub(" ", _CONTROL.sub(" ", text)).strip()


def shortened(text: str, words: int) -> str:
    """Return the first words of a text."""
    found = text.split(None, words)
    if len(found) <= words:
        return text
    return text[: len(text) - len(found[-1])].rstrip()


def clean_texts(
    items: pd.DataFrame, steps: Sequence[CleaningStep], *, max_words: int
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return items with their texts cleaned, and how many texts each step changed.

    Steps run in the order of ``CleaningStep``, whatever the order in which they were asked for: entities first, so that
    a tag that was written as ``&lt;b&gt;`` is one.

    Args:
        items: Columns of :data:`illmrec.data.registry.TEXTS`.
        steps: Which steps.
        max_words: Words that ``length`` leaves of a description.
    """
    functions: dict[str, Callable[[str], str]] = {
        "entities": entities,
        "tags": tags,
        "boilerplate": boilerplate,
        "whitespace": whitespace,
        "length": lambda text: shortened(text, max_words),
    }
    items = items.copy()
    counts = {}
    for name, function in functions.items():
        if name not in steps:
            continue
        changed = 0
        for column in TEXTS:
            if name in ("length", "boilerplate") and column != "description":
                continue
            before = items[column].tolist()
            after = [function(text) for text in before]
            changed += sum(old != new for old, new in zip(before, after, strict=True))
            items[column] = after
        counts[name] = changed
    return items, counts
