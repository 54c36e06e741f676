"""Short textual identifiers: a few keywords of an item's own text, no two items the same.

A keyword is a word that several items have and that an item's text is about by TF-IDF. Words that more items have come
first, so that identifiers begin alike where items are alike. Nothing is trained.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd

from illmrec.errors import InputError

COLUMNS = ("title", "brand", "category", "description")
_TITLE_COUNTS = 2
_LONGEST = 2
"""Times as many keywords as wanted at most."""
_WORD = re.compile(r"[^\W_]{2,64}")  # what is longer is no word: a title is not to fill the LLM's context


def keyword_identifiers(items: pd.DataFrame, *, words: int = 4, least_items: int = 3) -> list[str]:
    """Return an identifier for each item.

    Items of the same keywords get further ones until they differ, up to twice as many; where they are no use, a
    number.

    Args:
        items: With the columns of ``COLUMNS``.
        words: Keywords of an item, if its text has so many.
        least_items: Items that a word has at least; rarer ones tell nothing of other items. Where the catalogue is so
            small that an item has no such word, its others are taken.

    Raises:
        InputError: If a number is below 1.
    """
    if words < 1 or least_items < 1:
        raise InputError(f"words {words}, least_items {least_items}: give at least 1")
    ranked, found_in = _ranked_words(items, least_items=least_items)
    taken = [min(words, len(own)) for own in ranked]

    def written(item: int) -> str:
        own = ranked[item][: taken[item]]
        return " ".join(sorted(own, key=lambda word: (-found_in[word], word)))

    texts = [written(item) for item in range(len(ranked))]
    most = [min(_LONGEST * words, len(own)) for own in ranked]
    while open_ := [item for item in _sharing(texts) if taken[item] < most[item]]:
        for item in open_:
            taken[item] += 1
            texts[item] = written(item)
    for item in _sharing(texts):  # more words were of no use
        taken[item] = min(words, most[item])
        texts[item] = written(item)
    return _numbered(texts)


def _ranked_words(items: pd.DataFrame, *, least_items: int) -> tuple[list[list[str]], Counter[str]]:
    """Return each item's keywords, the best first, and how many items have each word."""
    counts = []
    columns = [items[name].str.lower().tolist() for name in COLUMNS]
    for texts in zip(*columns, strict=True):
        own: Counter[str] = Counter()
        for name, text in zip(COLUMNS, texts, strict=True):
            for word in _WORD.findall(text):
                own[word] += _TITLE_COUNTS if name == "title" else 1
        counts.append(own)
    found_in = Counter(word for own in counts for word in own)
    ranked = []
    for own in counts:
        weights = {
            word: (1 + np.log(count)) * np.log(len(counts) / found_in[word]) for word, count in own.items()
        }
        order = sorted(weights, key=lambda word: (-weights[word], word))
        shared = [word for word in order if found_in[word] >= least_items and weights[word] > 0]
        ranked.append(shared or order)
    return ranked, found_in


def _sharing(texts: Sequence[str]) -> list[int]:
    """Return the items whose text another has, too."""
    counts = Counter(texts)
    return [item for item, text in enumerate(texts) if counts[text] > 1]


def _numbered(texts: Sequence[str]) -> list[str]:
    """Return texts, with a number after those that others have or that are empty; no number makes two the same."""
    groups: dict[str, list[int]] = defaultdict(list)
    for item, text in enumerate(texts):
        groups[text].append(item)
    found = list(texts)
    known = {text for text, members in groups.items() if len(members) == 1 and text}
    for text, members in groups.items():
        if len(members) == 1 and text:
            continue
        number = 0
        for item in members:
            number += 1
            while (name := f"{text or 'item'} {number}") in known:
                number += 1
            known.add(name)
            found[item] = name
    return found
