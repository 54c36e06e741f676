"""The generated catalogue: deterministic, sized, with the overlap knob, and with something to learn."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from illmrec.command_line import run
from illmrec.data import Dataset, load_dataset
from illmrec.data.candidates import draw_negatives
from illmrec.data.contact_sheet import contact_sheet, main
from illmrec.data.images import SelectedImages
from illmrec.data.splits import leave_one_out
from illmrec.data.toyshop.catalogue import VOCABULARIES, make_catalogue, visible
from illmrec.data.toyshop.kinds import KINDS
from illmrec.data.toyshop.marks import mark_glyph
from illmrec.data.toyshop.pictures import DRAWINGS, SHOWABLE, ToyshopImages
from illmrec.data.toyshop.vocabulary import BRANDS, COLOURS, MARK_WORDS, PATTERNS, SHAPES
from illmrec.errors import InputError

SMALL = {"users": 150, "items": 160}


@pytest.fixture(scope="module")
def toyshop() -> Dataset:
    return load_dataset("toyshop")


@pytest.fixture(scope="module")
def small() -> Dataset:
    return load_dataset("toyshop", **SMALL)


def pixels(dataset: Dataset, item: int) -> np.ndarray:
    assert dataset.images is not None
    return np.asarray(dataset.images.read(item))


def test_nearly_everything_survives_the_k_core(toyshop: Dataset, small: Dataset) -> None:
    assert toyshop.n_users >= 580 and toyshop.n_items >= 380
    assert small.n_users >= 145 and small.n_items >= 150


def test_sequences_are_as_long_as_wanted_and_without_repeats(toyshop: Dataset) -> None:
    lengths = toyshop.lengths
    assert lengths.min() >= 5 and lengths.max() <= 40
    assert 10 <= np.median(lengths) <= 15
    assert (lengths >= 22).mean() >= 0.2
    assert all(len(set(toyshop.sequence(u))) == lengths[u] for u in range(toyshop.n_users))


def test_the_seed_decides_everything(small: Dataset) -> None:
    again = load_dataset("toyshop", **SMALL)
    assert again.fingerprint == small.fingerprint
    assert (pixels(again, 3) == pixels(small, 3)).all()
    other = load_dataset("toyshop", **SMALL, seed=1)
    assert other.fingerprint != small.fingerprint
    assert other.name == "toyshop-150x160-seed1"


def test_overlap_changes_the_pictures_and_nothing_else(small: Dataset) -> None:
    blind = load_dataset("toyshop", **SMALL, overlap=0)
    assert blind.items.equals(small.items)
    assert (blind.sequence_items == small.sequence_items).all()
    assert (blind.offsets == small.offsets).all()
    assert blind.fingerprint != small.fingerprint


def test_what_is_shown_is_nested_over_the_knob() -> None:
    shown = [visible(items=500, overlap=overlap, seed=0) for overlap in (0, 0.3, 0.6, 1)]
    assert not shown[0].any() and shown[3].all()
    for less, more in itertools.pairwise(shown):
        assert not (less & ~more).any()
    assert abs(shown[1].mean() - 0.3) < 0.03
    assert shown[1].shape == (500, len(SHOWABLE))


def test_blind_pictures_are_neutral() -> None:
    """At overlap 0 the pictures of two mugs differ in placement and backdrop only; no colour is left."""
    blind = load_dataset("toyshop", **SMALL, overlap=0)
    assert isinstance(blind.images, SelectedImages | ToyshopImages)
    for item in np.flatnonzero(blind.items["kind"].isin(["mug", "clock", "T-shirt", "suitcase"]))[:6]:
        image = pixels(blind, int(item)).astype(int)
        assert (image.max(axis=2) - image.min(axis=2)).max() < 40


def _images(shown: list[bool], **values: int) -> ToyshopImages:
    attributes = {name: np.array([values.get(name, 1)]) for name in SHOWABLE}
    return ToyshopImages(
        kinds=["mug"], attributes=attributes, shown=np.array([shown]), seed=0, fingerprint="x"
    )


@pytest.mark.parametrize("place", range(len(SHOWABLE)))
def test_each_attribute_is_seen_only_where_it_is_shown(place: int) -> None:
    name = SHOWABLE[place]
    seen = [np.asarray(_images([True] * 4, **{name: value}).read(0)) for value in (1, 2)]
    assert (seen[0] != seen[1]).any()
    hidden = [flag != place for flag in range(4)]
    unseen = [np.asarray(_images(hidden, **{name: value}).read(0)) for value in (1, 2)]
    assert (unseen[0] == unseen[1]).all()


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_every_kind_can_be_drawn_in_every_shape(kind: str) -> None:
    for shape in range(len(SHAPES)):
        images = ToyshopImages(
            kinds=[kind],
            attributes={
                "brand": np.array([3]),
                "colour": np.array([0]),
                "pattern": np.array([2]),
                "shape": np.array([shape]),
            },
            shown=np.ones((1, 4), dtype=bool),
            seed=shape,
            fingerprint="x",
        )
        image = images.read(0)
        assert (image.size, image.mode) == ((224, 224), "RGB")
        array = np.asarray(image).astype(int)
        red = (array[:, :, 0] > 120) & (array[:, :, 1] < 90)
        assert red.mean() > 0.015, "the body's colour has to be seen"
        # Nothing is cut off: left and right edges show the wall and the floor alone.
        for edge in (array[:, 0], array[:, -1]):
            assert (edge.max(axis=1) - edge.min(axis=1)).max() < 40 and edge.min() > 110


def test_vocabularies_fit_together() -> None:
    names = {kind.name for kind in KINDS}
    assert len(names) == len(KINDS) >= 12
    assert names == set(DRAWINGS)
    assert all(set(kind.leads_to) <= names - {kind.name} for kind in KINDS)
    assert {brand.mark for brand in BRANDS} == set(MARK_WORDS)
    assert len({brand.name for brand in BRANDS}) == 12
    for brand in BRANDS:
        points = np.array([point for shape in mark_glyph(brand.mark) for point in shape])
        assert np.hypot(points[:, 0], points[:, 1]).max() < 1.25, "marks stay on their badge"
    assert set(VOCABULARIES) == {"kind", *SHOWABLE}


def test_descriptions_are_prose_that_tells_every_attribute(toyshop: Dataset) -> None:
    items = toyshop.items
    assert items["description"].str.split().str.len().between(80, 160).all()
    assert items["summary"].str.split().str.len().between(25, 45).all()
    assert items["description"].is_unique
    brands = {brand.name: brand for brand in BRANDS}
    clauses = {pattern.name: pattern.clauses for pattern in PATTERNS}
    shapes = {shape.name: (*shape.clauses, *shape.adjectives) for shape in SHAPES}
    for row in items.to_dict("records"):
        assert "{" not in row["description"] + row["summary"] + row["title"]
        assert row["brand"] in row["description"] and row["brand"] in row["summary"]
        mark = MARK_WORDS[brands[row["brand"]].mark]
        assert mark in row["description"] and mark in row["summary"]
        for text in (row["description"].lower(), row["summary"].lower()):
            assert row["colour"] in text
            assert any(phrase in text for phrase in shapes[row["shape"]])
        assert any(clause in row["description"] for clause in clauses[row["pattern"]])
        assert len({sentence.split()[0] for sentence in row["description"].split(". ")}) > 3


def test_descriptions_name_no_other_colour_or_pattern(toyshop: Dataset) -> None:
    words = {colour.name: colour.words for colour in COLOURS}
    for row in toyshop.items.to_dict("records"):
        told = set(row["description"].lower().replace(",", " ").replace(".", " ").split())
        assert told & set(words) == {row["colour"]}


def test_titles_give_away_the_kind_only(toyshop: Dataset) -> None:
    items = toyshop.items
    assert items["title"].str.split().str.len().between(4, 7).all()
    assert items["title"].is_unique
    secrets = [colour.name for colour in COLOURS]
    secrets += [adjective for look in (*PATTERNS, *SHAPES) for adjective in look.adjectives]
    for row in items.to_dict("records"):
        assert row["title"].lower().endswith(row["kind"].lower())
        assert not set(row["title"].lower().split()) & set(secrets)
        assert row["brand"] not in row["title"]


def test_a_large_catalogue_has_distinct_titles() -> None:
    table = make_catalogue(items=6000, seed=0).table
    assert table["title"].is_unique


def test_content_beats_popularity_and_popularity_beats_chance(toyshop: Dataset) -> None:
    split = leave_one_out(toyshop)
    candidates, targets = draw_negatives(toyshop, seed=0, n=100), split.targets("test")
    popularity = np.bincount(split.train_items(), minlength=toyshop.n_items).astype(float)
    columns = [toyshop.items[name].to_numpy(dtype=str) for name in ("kind", *SHOWABLE)]
    one_hot = np.hstack([column[:, None] == np.unique(column) for column in columns]).astype(float)
    profiles = np.stack([one_hot[history[-20:]].mean(axis=0) for history in split.histories("test")])
    cosine = (profiles / np.linalg.norm(profiles, axis=1, keepdims=True)) @ one_hot.T
    rng = np.random.default_rng(0)

    def ndcg(scores: np.ndarray) -> float:
        target = np.take_along_axis(scores, targets[:, None], axis=1)
        ranks = 1 + (np.take_along_axis(scores, candidates, axis=1) >= target).sum(axis=1)
        return float(np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean())

    shape = (toyshop.n_users, toyshop.n_items)
    by_chance, by_popularity = ndcg(rng.random(shape)), ndcg(np.broadcast_to(popularity, shape))
    assert by_popularity > 1.5 * by_chance
    assert ndcg(cosine) > 1.5 * by_popularity


def test_the_next_kind_depends_on_the_last_item(toyshop: Dataset) -> None:
    kinds = toyshop.items["kind"].to_numpy()[toyshop.sequence_items]
    inside = np.ones(len(kinds), dtype=bool)
    inside[toyshop.offsets[:-1]] = False
    leads = {kind.name: kind.leads_to for kind in KINDS}
    follows = np.array([b in leads[a] for a, b in itertools.pairwise(kinds)])[inside[1:]]
    assert follows.mean() > 1.5 * 2 / len(KINDS)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"overlap": 1.2}, "overlap is 1.2"),
        ({"overlap": float("nan")}, "overlap is nan"),
        ({"users": 3}, "users is 3"),
        ({"items": 10}, "items is 10"),
        ({"seed": -1}, "seed is -1"),
        ({"users": 40, "items": 400, "min_interactions": 30}, "toyshop interactions"),
    ],
)
def test_bad_options(options: dict, part: str) -> None:
    with pytest.raises(InputError, match=part):
        load_dataset("toyshop", **options)


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("toyshpo", {}, "did you mean 'toyshop'"),
        ("", {}, "valid: folder:PATH, toyshop"),
        ("foldr:somewhere", {}, "did you mean 'folder:PATH'"),
        ("toyshop:600", {}, "takes options"),
        ("folder:somewhere", {"overlap": 0.5}, "overlap: only toyshop"),
    ],
)
def test_unknown_names_and_misplaced_options(name: str, options: dict, part: str) -> None:
    with pytest.raises(InputError, match=part):
        load_dataset(name, **options)


def test_max_users(small: Dataset) -> None:
    few = load_dataset("toyshop", **SMALL, max_users=20)
    assert (few.n_users, few.n_items) == (20, small.n_items)
    assert few.name == "toyshop-150x160-20users"


def test_contact_sheet_of_titles_that_fill_it(small: Dataset) -> None:
    """A word of 100,000 letters took minutes: it was measured again for every five letters that were cut off."""
    titles = ["x" * 100_000, "mug " * 25_000, "\ufeff\u202e\x00\x1b[2J", "e" + "\u0301" * 5_000]
    hostile = replace(small, items=small.items.assign(title=np.resize(titles, small.n_items)))
    assert contact_sheet(hostile, n=5).size == contact_sheet(small, n=5).size


def test_contact_sheet(small: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = contact_sheet(small, n=5)
    assert sheet.mode == "RGB" and sheet.width > 600
    out = tmp_path / "sheet.png"
    arguments = ["--dataset", "toyshop", "--users", "150", "--items", "160", "--n", "3", "--out", str(out)]
    prog = "python -m illmrec.data.contact_sheet"
    assert run(main, prog=prog, args=arguments) == 0
    assert Image.open(out).size[0] > 200
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    assert run(main, prog=prog, args=[*arguments[:-1], str(tmp_path / "no" / "sheet.png")]) == 2
    assert run(main, prog=prog, args=["--dataset", "nothing"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    with pytest.raises(InputError, match="1 or more"):
        contact_sheet(small, n=0)
