"""Noise in descriptions: nested, deterministic by item, and what each kind leaves of the text."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from bench.changes.noise import BOILERPLATE, noisy_descriptions, sentences
from illmrec.data import load_dataset

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
KINDS = ("html", "boilerplate", "shuffled", "missing")
TEXTS = [
    'Tom & Jerry\'s "best" mug. It holds 3.5 cups! Is 2 < 3? Blue… Made of clay.',
    "Alpha one. Beta two. Gamma three. Delta four. Epsilon five. Zeta six. Eta seven. Theta eight.",
    "",
    "no end to this sentence",
    "First line\n\nsecond line\r\nthird.",
]
IDS = [f"item-{number}" for number in range(len(TEXTS))]


@pytest.fixture(scope="module")
def toyshop():
    return load_dataset("toyshop", users=40, items=60).items


def noisy(texts=TEXTS, ids=IDS, *, kind="html", level=0.5, seed=0) -> list[str]:
    return noisy_descriptions(texts, ids, kind=kind, level=level, seed=seed)


class Page(HTMLParser):
    """The text that a browser shows."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.shown, self._hidden = "", 0

    def handle_starttag(self, tag, attrs):
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag):
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._hidden:
            self.shown += data


def shown(text: str) -> str:
    page = Page()
    page.feed(text)
    page.close()
    return " ".join(page.shown.split())


def test_sentences_end_at_punctuation_and_line_breaks():
    assert [len(sentences(text)) for text in TEXTS] == [5, 8, 0, 1, 3]
    assert sentences(TEXTS[0])[1] == "It holds 3.5 cups!"
    assert " ".join(sentences(TEXTS[1])) == TEXTS[1]


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_deterministic_by_seed_and_item_whatever_the_other_items_are(kind):
    at_once = noisy(kind=kind)
    assert at_once == noisy(kind=kind)
    one_by_one = [noisy([text], [name], kind=kind)[0] for text, name in zip(TEXTS, IDS, strict=True)]
    assert at_once == one_by_one
    assert noisy(kind=kind, seed=1)[:2] != at_once[:2]
    assert noisy([TEXTS[1]], ["another"], kind=kind)[0] != at_once[1]
    assert noisy(kind=kind, level=0) == TEXTS
    assert at_once[2] == ""


@pytest.mark.parametrize("kind", KINDS)
def test_the_share_of_changed_sentences_is_the_level(kind, toyshop):
    parts = [sentences(text) for text in toyshop["description"]]
    total = sum(map(len, parts))
    for level in LEVELS:
        found = noisy(toyshop["description"], toyshop["item_id"], kind=kind, level=level)
        left = sum(
            sum(part in text for part in before)
            if kind == "missing"
            else sum(one == other for one, other in zip(before, sentences(text), strict=False))
            for before, text in zip(parts, found, strict=True)
        )
        if kind in ("missing", "shuffled"):
            # An item of which one sentence alone is drawn has nothing to change places with.
            slack = 0.05 if kind == "missing" else 0.12
            assert left / total == pytest.approx(1 - level, abs=slack if 0 < level < 1 else 1e-9)
        elif kind == "boilerplate":
            inserted = sum(text.count(line) for text in found for line in BOILERPLATE)
            assert inserted / total == pytest.approx(level, abs=0.05 if 0 < level < 1 else 1e-9)
        else:
            plain = sum(part in text for before, text in zip(parts, found, strict=True) for part in before)
            assert (plain == total) == (level == 0) and sum(map(len, found)) >= sum(
                map(len, toyshop["description"])
            )


def changed_places(kind: str, text: str, noisy_text: str) -> set[int]:
    """Which sentences a level changed, read off the noisy text alone; sentences of the text are all different."""
    parts = sentences(text)
    if kind == "missing":
        return {place for place, part in enumerate(parts) if part not in noisy_text}
    if kind == "shuffled":
        return {
            place
            for place, (one, other) in enumerate(zip(parts, sentences(noisy_text), strict=True))
            if one != other
        }
    if kind == "boilerplate":
        return {
            place
            for place, part in enumerate(parts)
            if any(f"{part} {line}" in noisy_text for line in BOILERPLATE)
        }
    return {place for place, part in enumerate(parts) if f"{part}</" in noisy_text.replace("&nbsp;", " ")}


@pytest.mark.parametrize("kind", KINDS)
def test_sentences_changed_at_a_level_are_changed_at_every_higher_one(kind):
    text, sizes = TEXTS[1], set()
    for number in range(20):
        before: set[int] = set()
        for level in LEVELS:
            found = changed_places(
                kind, text, noisy([text], [f"n{number}"], kind=kind, level=level, seed=3)[0]
            )
            assert before <= found
            before = found
            sizes.add(len(found))
        assert before == set(range(8))
    assert len(sizes) > 4


def test_every_kind_changes_the_same_sentences():
    for number in range(10):
        found = {
            kind: changed_places(
                kind, TEXTS[1], noisy([TEXTS[1]], [f"n{number}"], kind=kind, level=0.5, seed=1)[0]
            )
            for kind in KINDS
        }
        assert found["html"] == found["boilerplate"] == found["missing"]
        assert found["shuffled"] == (found["missing"] if len(found["missing"]) > 1 else set())


@pytest.mark.parametrize("level", LEVELS[1:])
def test_a_browser_shows_the_same_words_through_the_markup(level, toyshop):
    texts = [TEXTS[1], TEXTS[3], 'A "quoted" & dotted mug, 2 < 3.', *toyshop["description"]]
    ids = [str(number) for number in range(len(texts))]
    found = noisy(texts, ids, kind="html", level=level)
    assert [shown(text) for text in found] == texts
    assert sum(text != other for text, other in zip(texts, found, strict=True)) > level * len(texts) / 2
    if level == 1:
        together = " ".join(found)
        assert all(sign in together for sign in ("<script>", "<style>", "<div", "&nbsp;", "&amp;", "&quot;"))


def test_boilerplate_adds_sentences_and_removes_none():
    found = noisy(kind="boilerplate", level=1)
    for text, other in zip(TEXTS, found, strict=True):
        if text != TEXTS[3]:  # whose sentence has no end, so that the next one runs on
            assert sum(other.count(f" {line}") for line in BOILERPLATE) == len(sentences(text))
            rest = other
            for line in BOILERPLATE:
                rest = rest.replace(f" {line}", "")
            assert rest == text
    assert found[3].startswith(f"{TEXTS[3]} ") and found[3].removeprefix(f"{TEXTS[3]} ") in BOILERPLATE


def test_shuffling_keeps_every_sentence():
    for level in LEVELS:
        for text, other in zip(TEXTS, noisy(kind="shuffled", level=level), strict=True):
            assert sorted(sentences(text)) == sorted(sentences(other))
    orders = {noisy([TEXTS[1]], [f"n{n}"], kind="shuffled", level=1)[0] for n in range(30)}
    assert len(orders) > 25


def test_missing_keeps_the_order_and_leaves_nothing_at_last():
    kept = sentences(noisy(kind="missing", level=0.5)[1])
    assert 0 < len(kept) < 8 and kept == [part for part in sentences(TEXTS[1]) if part in kept]
    assert noisy(kind="missing", level=1) == [""] * len(TEXTS)


def test_white_space_between_sentences_stays():
    found = [noisy([TEXTS[4]], [f"n{n}"], kind="missing", level=0.3)[0] for n in range(40)]
    assert {TEXTS[4], "First line\n\nthird.", "second line\r\nthird.", "First line\n\nsecond line"} <= set(
        found
    )
    swapped = {noisy([TEXTS[4]], [f"n{n}"], kind="shuffled", level=1)[0] for n in range(40)}
    assert swapped == {"second line\n\nthird.\r\nFirst line", "third.\n\nFirst line\r\nsecond line"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"kind": "typos"}, "typos"), ({"level": 1.5}, "level 1.5"), ({"level": np.nan}, "level nan")],
)
def test_unknown_noise_is_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        noisy(**options)
    with pytest.raises(ValueError, match="argument"):
        noisy(TEXTS, IDS[:2])
