"""From publishers' files to the folder format: every layout, every fault, and resumption to the same fingerprint."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from publishers import (
    N_ITEMS,
    WRITERS,
    build,
    pairs,
    picture,
    write_amazon18,
    write_hm,
    write_movielens_1m,
)

from illmrec.data import load_dataset
from illmrec.data.registry import source_named
from illmrec.data.sources.filtering import Interactions, drop_repeats
from illmrec.data.sources.pipeline import Build, BuildOptions
from illmrec.data.sources.places import built_folder
from illmrec.data.sources.report import lines_of
from illmrec.data.sources.writing import read_note
from illmrec.errors import InputError


def counted(note: dict, step: str) -> dict:
    (found,) = [entry for entry in note["steps"] if entry["name"] == step]
    return found


def core(rows: pd.DataFrame, k: int) -> pd.DataFrame:
    """Return the k-core by the book: drop one kind after the other until nothing changes."""
    while True:
        users, items = rows["user"].value_counts(), rows["item"].value_counts()
        left = rows[rows["user"].map(users).ge(k) & rows["item"].map(items).ge(k)]
        if len(left) == len(rows):
            return rows
        rows = left


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_becomes_a_data_set(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    k = 2 if name == "hm-article" else 5
    images = "none" if name.startswith(("amazon", "good", "movie")) else "download"
    note = build(name, tmp_path, options=BuildOptions(images=images, min_interactions=k))
    dataset = load_dataset(name, min_interactions=k)
    rows = pd.DataFrame(pairs(), columns=["user", "item", "place"])
    if name == "hm-article":  # one colour of two has pictures
        rows = rows[rows["place"] % 2 == 0]
    left = core(rows, k)
    assert dataset.n_interactions == len(left)
    assert dataset.n_users == left["user"].nunique() and dataset.n_items == left["item"].nunique()
    assert dataset.name == name and dataset.fingerprint == note["fingerprint"]
    # Sequences are in the order of time: items of a user by place.
    numbers = {f"{item}": item for item in range(N_ITEMS)}
    found = {
        tuple(numbers[_digits(dataset.items["item_id"][row], name)] for row in dataset.sequence(user))
        for user in range(dataset.n_users)
    }
    assert found == {tuple(group.sort_values("place")["item"]) for _, group in left.groupby("user")}
    if images == "download":
        assert dataset.images is not None and dataset.images.available.all()
        assert dataset.images.read(0).size == (12, 9)
    shown = "\n".join(lines_of(source_named(name), note))
    assert f"{dataset.n_interactions}" in shown and "licence: " in shown


def _digits(item_id: str, name: str) -> str:
    """Return the number that the fixture gave an item."""
    if name == "hm":
        return str(int(item_id[2:]))
    if name == "hm-article":
        return str(int(item_id[2:7]))
    return str(int(item_id.strip("B")) - (0 if name.startswith("amazon") else 1))


def test_texts_of_amazon_items(tmp_path: Path) -> None:
    write_amazon18(tmp_path)
    build("amazon18-art", tmp_path)
    item = load_dataset("amazon18-art").items.set_index("item_id").loc["B000000002"]
    assert item["title"] == "Thing 2" and item["brand"] == "Brand 0"
    assert item["category"] == "Arts, Crafts & Sewing | Kind 2"
    assert item["description"] == "A thing of kind 2 &amp; more. <p>Good for many a use.</p>"


def test_texts_are_cleaned_where_that_is_asked_for(tmp_path: Path) -> None:
    write_amazon18(tmp_path)
    options = BuildOptions(images="none", clean=("whitespace", "tags", "entities"))
    note = build("amazon18-art", tmp_path, options=options)
    items = load_dataset("amazon18-art").items
    assert items["description"][0] == "A thing of kind 0 & more. Good for many a use."
    assert note["cleaned"]["entities"] == len(items) and note["cleaned"]["tags"] == len(items)


def _without(number: int, key: str) -> Callable[[list[dict]], list[dict]]:
    return lambda rows: [
        row if place != number else {**row, key: "" if key == "title" else []}
        for place, row in enumerate(rows)
    ]


def test_rules_are_counted_one_by_one(tmp_path: Path) -> None:
    def items(rows: list[dict]) -> list[dict]:
        rows = _without(1, "title")(rows)
        rows = _without(2, "description")(rows)
        rows[3] |= {"imageURL": [], "imageURLHighRes": []}
        # One is unknown in reviews, one is there twice, one is missing.
        return [*rows[:-1], {**rows[0], "asin": "B999999999"}, rows[0]]

    write_amazon18(tmp_path, items=items)
    note = build("amazon18-art", tmp_path, options=BuildOptions(images="none", min_interactions=2))
    of_item = np.bincount([item for _, item, _ in pairs()])
    assert counted(note, "filter: in the file of items")["dropped"] == of_item[9]
    assert counted(note, "filter: title")["dropped"] == of_item[1]
    assert counted(note, "filter: image-url")["dropped"] == of_item[3]
    assert counted(note, "filter: description")["dropped"] == of_item[2]
    assert counted(note, "filter: in the file of items")["notes"] == {
        "items that break the rule": 1,
        "rows of items without interactions, or of an item again": 2,
    }


def test_what_is_required_can_be_chosen(tmp_path: Path) -> None:
    write_amazon18(tmp_path, items=_without(2, "description"))
    strict = build("amazon18-art", tmp_path)
    loose = build("amazon18-art", tmp_path, options=BuildOptions(images="none", require=("title",)))
    assert loose["statistics"]["items"] == strict["statistics"]["items"] + 1
    assert any(
        "items had to have title, not" in line for line in lines_of(source_named("amazon18-art"), loose)
    )


def test_repeats_are_dropped_and_what_they_would_change_is_told(tmp_path: Path) -> None:
    def reviews(rows: list[dict]) -> list[dict]:
        later = [{**row, "unixReviewTime": row["unixReviewTime"] + 999} for row in rows[:5]]
        return rows + rows[:7] + later

    write_amazon18(tmp_path, reviews=reviews)
    note = build("amazon18-art", tmp_path, options=BuildOptions(images="none", min_interactions=2))
    step = counted(note, "deduplicate")
    assert step["dropped"] == 7 and step["notes"]["interactions"] == note["statistics"]["interactions"] + 7
    first = BuildOptions(images="none", min_interactions=2, repeats="first")
    note = build("amazon18-art", tmp_path, options=first)
    once = len({(user, item) for user, item, _ in pairs()})
    assert counted(note, "deduplicate")["dropped"] == 72 + 7 + 5 - once
    assert note["statistics"]["interactions"] == once


def test_repeats_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    users, items, times = (rng.integers(0, n, 300).astype(np.int32) for n in (8, 6, 4))
    for repeats, key in (("keep", 3), ("first", 2)):
        import pyarrow as pa

        found = Interactions(
            users=users,
            items=items,
            times=times.astype(np.int64),
            user_ids=pa.array([str(number) for number in range(8)]),
            item_ids=pa.array([str(number) for number in range(6)]),
            kept=np.ones(300, dtype=bool),
        )
        drop_repeats(found, repeats)  # type: ignore[arg-type]
        rows = sorted(zip(users.tolist(), items.tolist(), times.tolist(), range(300), strict=True))
        best: dict[tuple[int, ...], int] = {}
        for row in rows:
            best.setdefault(row[:key], row[3])
        assert set(np.flatnonzero(found.kept).tolist()) == set(best.values())


def test_ids_that_change_case_are_one_item(tmp_path: Path) -> None:
    def reviews(rows: list[dict]) -> list[dict]:
        return [
            {**row, "asin": row["asin"].lower()} if place % 3 == 0 else row for place, row in enumerate(rows)
        ]

    write_amazon18(tmp_path)
    plain = build("amazon18-art", tmp_path)
    write_amazon18(tmp_path, reviews=reviews)
    mixed = build("amazon18-art", tmp_path)
    assert mixed["fingerprint"] == plain["fingerprint"]
    assert counted(mixed, "parse")["notes"]["item ids that differ in case alone"] > 0


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_milliseconds_among_seconds(share: float, tmp_path: Path) -> None:
    def reviews(rows: list[dict]) -> list[dict]:
        cut = int(len(rows) * share)
        return [{**row, "unixReviewTime": row["unixReviewTime"] * 1000} for row in rows[:cut]] + rows[cut:]

    write_amazon18(tmp_path)
    plain = build("amazon18-art", tmp_path)
    write_amazon18(tmp_path, reviews=reviews)
    mixed = build("amazon18-art", tmp_path)
    assert mixed["fingerprint"] == plain["fingerprint"]
    assert counted(mixed, "parse")["notes"]["times in milliseconds"] == int(72 * share)


def test_rows_without_user_item_or_time(tmp_path: Path) -> None:
    def reviews(rows: list[dict]) -> list[dict]:
        extra = [{**rows[0]}, {**rows[0]}, {**rows[0]}, {**rows[0]}]
        del extra[0]["reviewerID"]
        extra[1]["asin"] = ""
        extra[2]["unixReviewTime"] = None
        extra[3]["unixReviewTime"] = 0
        return rows + extra

    write_amazon18(tmp_path)
    plain = build("amazon18-art", tmp_path)
    write_amazon18(tmp_path, reviews=reviews)
    note = build("amazon18-art", tmp_path)
    assert note["fingerprint"] == plain["fingerprint"]
    step = counted(note, "parse")
    assert step["dropped"] == 4
    assert [step["notes"][f"without {name}"] for name in ("user_id", "item_id", "timestamp")] == [1, 1, 2]


def test_unpacked_files_and_zip_files_are_found(tmp_path: Path) -> None:
    write_amazon18(tmp_path)
    packed = build("amazon18-art", tmp_path)
    for path in list(tmp_path.glob("*.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    plain = build("amazon18-art", tmp_path)
    assert plain["fingerprint"] == packed["fingerprint"] and plain["key"] != packed["key"]


def test_another_description_of_a_data_set_is_built_anew(tmp_path: Path) -> None:
    write_amazon18(tmp_path)
    source, options = source_named("amazon18-art"), BuildOptions(images="none")
    keys = []
    for described in (source, replace(source, require=("title",)), source):
        folder = Build(source=described, options=options, directory=tmp_path).run()
        assert folder is not None
        keys.append((read_note(folder) or {})["key"])
    assert keys[0] != keys[1] and keys[0] == keys[2]


def test_nothing_is_built_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_amazon18(tmp_path)
    first = build("amazon18-art", tmp_path)
    monkeypatch.setattr("illmrec.data.sources.pipeline.parse", None)
    assert build("amazon18-art", tmp_path) == first


def test_fast_and_slow_reading_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from illmrec.data.sources import records

    for name in ("amazon18-art", "hm", "goodbooks", "movielens-100k"):
        folder = tmp_path / name
        folder.mkdir()
        WRITERS[name](folder)
        options = BuildOptions(images="none", min_interactions=2)
        fast = build(name, folder, options=options)
        shutil.rmtree(built_folder(name).parents[1])
        with monkeypatch.context() as patched:
            patched.setattr(records, "_fast_json", lambda *_: None)
            patched.setattr(records, "_fast_csv", lambda *_: None)
            slow = build(name, folder, options=options)
        assert fast["fingerprint"] == slow["fingerprint"], name
        assert fast["steps"] == slow["steps"]


def test_pictures_on_disk_that_are_broken_or_missing(tmp_path: Path) -> None:
    write_hm(tmp_path)
    (tmp_path / "images" / "010" / "0100003001.jpg").write_bytes(b"no picture")
    (tmp_path / "images" / "010" / "0100004001.jpg").write_bytes(picture(4, kind="PNG", size=(90, 90))[:-30])
    (tmp_path / "images" / "010" / "0100005001.jpg").unlink()
    other = tmp_path / "images" / "010" / "0100007001.jpg"
    other.rename(other.with_name("0100007002.jpg"))  # another colour of the product has one
    (tmp_path / "images" / "010" / "0100006001.jpg").write_bytes(b"")
    note = build("hm", tmp_path, options=BuildOptions(min_interactions=2))
    assert note["pictures"]["images"] == {
        "there": 6, "not a picture": 1, "corrupt or truncated": 1, "empty": 1, "no file of that name": 1,
    }  # fmt: skip
    assert counted(note, "pictures: image")["notes"] == {"items without a picture": 4}
    assert note["statistics"]["items"] == 6


def test_pictures_on_disk_above_the_limits_count_as_missing(tmp_path: Path, monkeypatch) -> None:
    write_hm(tmp_path)
    large = tmp_path / "images" / "010" / "0100003001.jpg"
    large.write_bytes(picture(3) + b"x" * 2000)
    (tmp_path / "images" / "010" / "0100004001.jpg").write_bytes(picture(4, size=(70, 50)))
    monkeypatch.setattr("illmrec.data.sources.picture_stores.MAX_BYTES", 2000)
    monkeypatch.setattr("illmrec.data.images.MAX_PIXELS", 3000)
    note = build("hm", tmp_path, options=BuildOptions(min_interactions=2))
    assert note["pictures"]["images"] == {
        "there": 8, "larger than the limit": 1, "more pixels than the limit": 1,
    }  # fmt: skip


def test_posters_are_given_as_a_folder(tmp_path: Path) -> None:
    write_movielens_1m(tmp_path)
    posters = tmp_path / "my posters"
    posters.mkdir()
    for item in range(1, 5):
        (posters / f"{item}.png").write_bytes(picture(item, kind="PNG"))
    options = BuildOptions(min_interactions=2)
    note = build("movielens-1m", tmp_path, options=options, picture_folder=posters)
    dataset = load_dataset("movielens-1m")
    assert note["pictures"]["images"]["there"] == 4 and dataset.n_items == 9
    assert dataset.images is not None and dataset.images.available.sum() == 4
    with pytest.raises(InputError, match=r"--picture-folder .*: no such"):
        build("movielens-1m", tmp_path, options=options, picture_folder=tmp_path / "nowhere")


def test_a_smaller_core_than_was_built_is_refused(tmp_path: Path) -> None:
    write_amazon18(tmp_path)
    build("amazon18-art", tmp_path)
    with pytest.raises(
        InputError, match=r"built with its 5-core; for --min-interactions 3 run: .* get amazon18-art"
    ):
        load_dataset("amazon18-art", min_interactions=3)


def test_nothing_left_says_where_it_went(tmp_path: Path) -> None:
    write_amazon18(tmp_path, items=lambda rows: [{**row, "title": ""} for row in rows])
    with pytest.raises(InputError, match=r"nothing is left .*filter: title left 0"):
        build("amazon18-art", tmp_path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"min_interactions": 0}, "--min-interactions 0: give 1 or more"),
        ({"max_bad_lines": -1}, "--max-bad-lines -1"),
        ({"require": ("titel",)}, "did you mean 'title'"),
    ],
)
def test_options_that_cannot_be_used(values: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        BuildOptions(**values)
