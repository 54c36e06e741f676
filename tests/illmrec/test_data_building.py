"""From tables to a Dataset: k-core, order, bad cells, fingerprint, sample of users."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from illmrec.data import ITEM_COLUMNS, Dataset, ImageSource
from illmrec.data.building import build_dataset, clean_items, k_core
from illmrec.errors import InputError


class SolidImages:
    """One grey level for each item; odd rows have no image."""

    def __init__(self, n: int, fingerprint: str = "solid") -> None:
        self.available = np.arange(n) % 2 == 0
        self.fingerprint = fingerprint

    def read(self, item: int) -> Image.Image:
        return Image.new("RGB", (4, 4), (item, item, item))


def items_table(n: int = 8, **columns: object) -> pd.DataFrame:
    table = pd.DataFrame({"item_id": [f"i{k}" for k in range(n)], "title": [f"Item {k}" for k in range(n)]})
    return table.assign(**columns)


def full_interactions(users: int = 6, items: int = 6) -> pd.DataFrame:
    """Every user has every item once; user u starts with item u."""
    rows = [(f"u{u}", f"i{(u + k) % items}", 100 * k) for u in range(users) for k in range(items)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def build(items: pd.DataFrame | None = None, interactions: pd.DataFrame | None = None, **options) -> Dataset:
    return build_dataset(
        name="toy",
        items=items_table() if items is None else items,
        interactions=full_interactions() if interactions is None else interactions,
        items_file="items.csv",
        interactions_file="interactions.csv",
        **options,
    )


@given(
    pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=80),
    k=st.integers(1, 5),
)
@settings(max_examples=150, deadline=None)
def test_k_core_equals_removing_one_by_one(pairs: list[tuple[int, int]], k: int) -> None:
    kept = list(range(len(pairs)))
    while True:
        users, items = Counter(pairs[n][0] for n in kept), Counter(pairs[n][1] for n in kept)
        bad = next((n for n in kept if users[pairs[n][0]] < k or items[pairs[n][1]] < k), None)
        if bad is None:
            break
        kept.remove(bad)
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    assert np.flatnonzero(k_core(array[:, 0], array[:, 1], k=k)).tolist() == kept


def test_items_without_interactions_are_dropped_and_images_follow() -> None:
    dataset = build(images=SolidImages(8), interactions=full_interactions(items=6))
    assert dataset.n_items == 6
    assert dataset.dropped == {"users": 0, "items": 2, "interactions": 0, "duplicate rows": 0}
    # Drop the first rows instead, so that the rows move.
    dataset = build(
        images=SolidImages(8),
        interactions=full_interactions().assign(
            item_id=lambda t: "i" + (t.item_id.str[1:].astype(int) + 2).astype(str)
        ),
    )
    assert dataset.items["item_id"].tolist() == [f"i{k}" for k in range(2, 8)]
    assert dataset.images is not None
    assert dataset.images.available.tolist() == [True, False] * 3
    assert dataset.images.read(0).getpixel((0, 0)) == (2, 2, 2)
    assert isinstance(dataset.images, ImageSource)


def test_short_users_are_dropped_and_counted() -> None:
    short = pd.DataFrame({"user_id": ["s"] * 4, "item_id": ["i0", "i1", "i2", "i3"], "timestamp": range(4)})
    dataset = build(interactions=pd.concat([full_interactions(), short], ignore_index=True))
    assert "s" not in dataset.user_ids
    assert dataset.dropped["users"] == 1
    assert dataset.dropped["interactions"] == 4


def test_order_is_timestamp_then_row() -> None:
    table = full_interactions()
    table["timestamp"] = 0
    dataset = build(interactions=table)
    assert dataset.items["item_id"].to_numpy()[dataset.sequence(2)].tolist() == [
        "i2",
        "i3",
        "i4",
        "i5",
        "i0",
        "i1",
    ]
    backwards = full_interactions().iloc[::-1]
    a, b = build(), build(interactions=backwards)
    by_user = {u: b.sequence(k).tolist() for k, u in enumerate(b.user_ids)}
    assert {u: a.sequence(k).tolist() for k, u in enumerate(a.user_ids)} == by_user


def test_timestamps_of_nanoseconds_keep_their_order() -> None:
    table = full_interactions()
    base = 1_700_000_000_000_000_000
    table["timestamp"] = [str(base + 6 - n % 6) for n in range(len(table))]  # a float would make them equal
    assert build(interactions=table).sequence(0).tolist() == [5, 4, 3, 2, 1, 0]


def test_repeat_purchases_are_kept() -> None:
    again = pd.concat([full_interactions(), full_interactions().assign(timestamp=10_000)], ignore_index=True)
    dataset = build(interactions=again)
    assert dataset.lengths.tolist() == [12] * 6


def test_arrays_are_compact_and_read_only() -> None:
    dataset = build()
    assert dataset.sequence_items.dtype == np.int32
    assert dataset.offsets.dtype == np.int64
    assert dataset.offsets.tolist() == list(range(0, 37, 6))
    with pytest.raises(ValueError, match="read-only"):
        dataset.sequence(0)[0] = 3


def test_columns_default_to_empty_text_and_extras_are_kept() -> None:
    table = items_table(price=np.arange(8.0), colour=["red", None] * 4, brand=[None, "Acme"] * 4)
    dataset = build(items=table, interactions=full_interactions())
    assert tuple(dataset.items.columns) == (*ITEM_COLUMNS, "price", "colour")
    assert dataset.items["brand"].tolist() == ["", "Acme"] * 3
    assert dataset.items["colour"].tolist() == ["red", ""] * 3
    assert dataset.items["price"].dtype == float
    assert (dataset.items["summary"] == "").all()


def test_html_scripts_and_lists_survive_as_text() -> None:
    texts = ["<script>alert(1)</script>", "日本語 описание 🎸", "a\x00b\r\n\tc", "&amp; {title} %s"] * 2
    table = items_table(description=texts, category=[["Home", "Mugs"]] * 8)
    cleaned = clean_items(table)
    assert cleaned["description"].tolist() == texts
    assert cleaned["category"].iloc[0] == "Home | Mugs"


def test_numeric_ids_match_however_they_were_read() -> None:
    items = items_table().assign(item_id=range(8))
    interactions = full_interactions()
    interactions["item_id"] = interactions["item_id"].str[1:].astype(float)
    assert build(items=items, interactions=interactions).items["item_id"].tolist() == list("012345")


def test_statistics_have_the_form_of_table_4() -> None:
    dataset = build(images=SolidImages(8), items=items_table(description=["x", ""] * 4))
    assert dataset.statistics() == {
        "dataset": "toy",
        "users": 6,
        "items": 6,
        "interactions": 36,
        "avg_length": 6.0,
        "images": 0.5,
        "descriptions": 0.5,
        "same_time": 0.0,
    }


def test_fingerprint_changes_with_content_and_only_with_it() -> None:
    images = SolidImages(8)
    same = build(images=images).fingerprint
    assert build(images=SolidImages(8)).fingerprint == same
    shuffled = full_interactions()
    shuffled.loc[[0, 1], "timestamp"] = [1, 0]
    others = [
        build(),
        build(images=SolidImages(8, fingerprint="other")),
        build(images=images, items=items_table(description="x")),
        build(images=images, items=items_table(colour="x")),
        build(images=images, interactions=shuffled),
    ]
    assert len({same, *(other.fingerprint for other in others)}) == 1 + len(others)
    assert len(same) == 16


def test_text_cannot_move_between_cells_unnoticed() -> None:
    left = items_table(brand=["a", "bc"] * 4)
    right = items_table(brand=["ab", "c"] * 4)
    assert build(items=left).fingerprint != build(items=right).fingerprint


def test_max_users_samples_users_and_keeps_the_catalogue() -> None:
    whole = build(interactions=full_interactions(users=30))
    one, again, other = (
        build(interactions=full_interactions(users=30), max_users=7, seed=seed) for seed in (1, 1, 2)
    )
    assert (one.n_users, one.n_items) == (7, whole.n_items)
    assert one.name == "toy-7users"
    assert one.user_ids.tolist() == again.user_ids.tolist() != other.user_ids.tolist()
    assert len({whole.fingerprint, one.fingerprint, other.fingerprint}) == 3
    position = {user: k for k, user in enumerate(whole.user_ids)}
    for k, user in enumerate(one.user_ids):
        assert one.sequence(k).tolist() == whole.sequence(position[user]).tolist()
    enough = build(interactions=full_interactions(users=30), max_users=30)
    assert (enough.name, enough.fingerprint) == (whole.name, whole.fingerprint)


@pytest.mark.parametrize("floats", ["interactions", "items"])
def test_ids_that_a_csv_file_has_as_floats_are_told(floats: str) -> None:
    items = items_table(item_id=[str(1111 + k) for k in range(8)])
    interactions = full_interactions()
    interactions["item_id"] = interactions["item_id"].str[1:].astype(int).add(1111).astype(str)
    table = items if floats == "items" else interactions
    table["item_id"] += ".0"
    with pytest.raises(
        InputError, match=r"data row 1: .* \(36 such rows\); .*ids look like floats \('1111\.0'\): write"
    ):
        build(items=items, interactions=interactions)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([2], "(1 such rows)"),
        ([2, 5], "(2 such rows: 'i2', 'i5')"),
        (range(1, 7), "'i1', 'i2', 'i3', 'i4', 'i5', ...)"),
    ],
)
def test_items_without_titles_are_listed(rows: list[int], said: str) -> None:
    items = items_table()
    items.loc[list(rows), "title"] = " "
    with pytest.raises(InputError) as caught:
        build(items=items)
    assert said in str(caught.value)


def _with(table: pd.DataFrame, row: int, column: str, value: object) -> pd.DataFrame:
    table = table.astype({column: object})
    table.loc[row, column] = value
    return table


@pytest.mark.parametrize(
    ("items", "interactions", "parts"),
    [
        (items_table().drop(columns="title"), None, ["items.csv", "missing column title", "item_id"]),
        (None, full_interactions().drop(columns=["user_id", "timestamp"]), ["interactions.csv", "user_id, timestamp"]),
        (None, _with(full_interactions(), 4, "item_id", "i99"), ["interactions.csv, data row 5", "'i99'", "1 such"]),
        (_with(items_table(), 3, "item_id", "i1"), None, ["items.csv, data row 4", "'i1'", "row 2"]),
        (_with(items_table(), 2, "item_id", None), None, ["items.csv, data row 3", "item_id is missing"]),
        (_with(items_table(), 2, "title", " \t"), None, ["items.csv, data row 3", "'i2'", "empty title"]),
        (_with(items_table(), 2, "title", None), None, ["items.csv, data row 3", "'i2'", "empty title"]),
        (None, _with(full_interactions(), 7, "timestamp", "noon"), ["data row 8", "'noon'", "a number"]),
        (None, _with(full_interactions(), 7, "timestamp", None), ["data row 8", "timestamp is missing"]),
        (None, _with(full_interactions(), 7, "timestamp", ""), ["data row 8", "timestamp is missing"]),
        (None, _with(full_interactions(), 7, "timestamp", float("inf")), ["data row 8", "not a number"]),
        (None, full_interactions().assign(timestamp=True), ["bool", "seconds since 1970"]),
        (None, _with(full_interactions(), 1, "user_id", None), ["interactions.csv, data row 2", "user_id is missing"]),
        (None, full_interactions().iloc[:3], ["interactions.csv", "min_interactions"]),
        (None, full_interactions().iloc[:0], ["interactions.csv", "no rows"]),
        (items_table().iloc[:0], None, ["items.csv", "no rows"]),
        (pd.concat([items_table(), items_table()["title"]], axis=1), None, ["title", "more than once"]),
    ],
)  # fmt: skip
def test_bad_tables_name_file_row_and_remedy(items, interactions, parts) -> None:
    with pytest.raises(InputError) as caught:
        build(items=items, interactions=interactions)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("options", [{"min_interactions": 0}, {"max_users": 0}])
def test_bad_options(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        build(**options)


def test_a_long_or_multiline_cell_stays_on_one_short_line() -> None:
    table = _with(full_interactions(), 0, "item_id", "x\n" * 500)
    with pytest.raises(InputError) as caught:
        build(interactions=table)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_the_data_floor_does_not_import_torch() -> None:
    code = (
        "import sys, illmrec.data.folder, illmrec.data.toyshop, illmrec.data.contact_sheet, illmrec.data.candidates;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
