"""Textual identifiers: what they are made of, and that no two items have the same."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from baselines.generative.identifiers import COLUMNS, keyword_identifiers
from illmrec.errors import InputError


def items(titles: list[str], **columns: list[str]) -> pd.DataFrame:
    found = {name: columns.get(name, [""] * len(titles)) for name in COLUMNS}
    return pd.DataFrame({**found, "title": titles})


def test_keywords_are_shared_words_the_more_frequent_first():
    titles = ["Red mug", "Red lamp", "red SHOE", "blue mug", "blue lamp", "blue shoe", "green mug, quixotic"]
    titles += ["red lamp shade", "blue shade", "green shade"]
    found = keyword_identifiers(items(titles), words=2, least_items=2)
    # red and blue have four items each, lamp, mug and shade three, shoe and green two.
    assert found[:6] == ["red mug", "red lamp", "red shoe", "blue mug", "blue lamp", "blue shoe"]
    assert found[6] == "mug green" and "quixotic" not in " ".join(found)
    assert found[9] == "shade green" and len(set(found)) == len(titles)


def test_what_a_text_says_often_and_in_its_title_counts_more():
    titles = ["mug", "lamp", "shoe", "mug", "lamp", "shoe"]
    texts = ["red red red blue", "blue", "red", "green blue", "green red", "blue green"]
    assert keyword_identifiers(items(titles, description=texts), words=2, least_items=2)[0] == "red mug"
    by_title = keyword_identifiers(items(texts, description=titles), words=1, least_items=2)
    assert by_title[0].startswith("red")


def test_items_of_the_same_keywords_get_more_of_them_or_a_number():
    titles = ["red mug big", "red mug small", "red mug", "red mug", "red mug", "", "", "big small"]
    titles += ["lamp"] * 8  # what most items have is no keyword of those that lack it
    found = keyword_identifiers(items(titles), words=2, least_items=2)
    assert len(set(found)) == len(titles)
    assert {"big", "small"} <= set(f"{found[0]} {found[1]}".split())
    assert found[2:5] == ["red mug 1", "red mug 2", "red mug 3"] or found[2:5] == [
        "mug red 1",
        "mug red 2",
        "mug red 3",
    ]
    assert found[5:7] == ["item 1", "item 2"]


def test_items_of_one_text_have_no_more_words_than_wanted():
    texts = ["red mug big plain dots green shade"] * 2 + [
        "red mug small plain dots blue lamp",
        "red",
        "mug",
    ] * 2
    found = keyword_identifiers(items(texts), words=2, least_items=2)
    assert len(found[0].split()) == 3 and found[0][-2:] == " 1" and found[1] == f"{found[0][:-2]} 2"
    assert max(len(text.split()) for text in found) <= 4 and len(set(found)) == len(texts)


def test_numbers_do_not_meet_words_that_look_so():
    titles = ["lamp 10", "lamp", "lamp", "mug 11", "mug 10", "lamp 11"] + ["shoe"] * 7
    found = keyword_identifiers(items(titles), words=3, least_items=1)
    assert len(set(found)) == len(titles)


def test_random_texts_always_have_identifiers_of_their_own():
    generator = np.random.default_rng(0)
    words = np.array(["red", "blue", "mug", "lamp", "shoe", "1", "2", "item"])
    for _ in range(20):
        titles = [" ".join(generator.choice(words, generator.integers(0, 4))) for _ in range(40)]
        found = keyword_identifiers(items(titles), words=2, least_items=int(generator.integers(1, 4)))
        assert len(set(found)) == len(titles) and all(found)
        assert keyword_identifiers(items(titles), words=2) == keyword_identifiers(items(titles), words=2)


def test_a_title_without_blanks_is_in_pieces():
    found = keyword_identifiers(items(["x" * 100_000, "red mug", "blue mug"]), words=3)
    assert len(set(found)) == 3 and max(map(len, found)) <= 6 * 65


@pytest.mark.parametrize("changes", [{"words": 0}, {"least_items": 0}])
def test_bad_numbers(changes):
    with pytest.raises(InputError, match="give at least 1"):
        keyword_identifiers(items(["mug"]), **changes)
