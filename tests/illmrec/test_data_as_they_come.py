"""Data as they come: rows written twice, times that tie, ids that lost digits, lists in lists, small catalogues."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from illmrec.data import load_dataset
from illmrec.data.building import build_dataset
from illmrec.data.candidates import draw_negatives
from illmrec.data.dataset import Dataset
from illmrec.errors import InputError

FORMATS = ("parquet", "csv", "jsonl")


def interactions(*, users: int = 40, length: int = 6, items: int = 20, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    rows = [
        (f"u{user}", f"i{item:03}", time)
        for user in range(users)
        for time, item in enumerate(generator.choice(items, length, replace=False))
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def catalogue(items: int = 20, **columns: object) -> pd.DataFrame:
    ids = [f"i{item:03}" for item in range(items)]
    return pd.DataFrame({"item_id": ids, "title": [f"Mug {i}" for i in ids], **columns})


def build(table: pd.DataFrame, *, items: int = 20, **options: object) -> Dataset:
    return build_dataset(name="some", items=catalogue(items), interactions=table, **options)  # type: ignore[arg-type]


def write(table: pd.DataFrame, path: Path, kind: str) -> None:
    if kind == "parquet":
        table.to_parquet(path / f"{path.name}.parquet")
    elif kind == "csv":
        table.to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_dict("records")))


def test_a_table_written_twice_is_that_written_once() -> None:
    table = interactions()
    twice = build(pd.concat([table, table]))
    once = build(table)
    assert twice.fingerprint == once.fingerprint
    assert twice.dropped["duplicate rows"] == len(table) and once.dropped["duplicate rows"] == 0
    kept = build(pd.concat([table, table]), duplicates="keep")
    assert kept.repeated == len(table) and kept.n_interactions == 2 * len(table)


def test_one_review_five_times_is_no_five_core() -> None:
    table = pd.DataFrame({"user_id": "u", "item_id": "i000", "timestamp": [7] * 5})
    with pytest.raises(InputError, match="of 5 interactions none is left"):
        build(table)


def test_repeat_purchases_at_other_times_are_kept() -> None:
    table = interactions()
    later = table.assign(timestamp=table["timestamp"] + 100)
    assert build(pd.concat([table, later])).n_interactions == 2 * len(table)


def test_the_share_of_tied_targets_is_told() -> None:
    table = interactions(users=40)
    assert build(table).tied_targets == 0
    tied = table["user_id"].isin([f"u{user}" for user in range(10)])
    flat = table.assign(timestamp=table["timestamp"].mask(tied & (table["timestamp"] == 4), 5))
    assert build(flat).tied_targets == pytest.approx(10 / 40)


def targets(dataset: Dataset) -> np.ndarray:
    return dataset.items["item_id"].to_numpy()[dataset.sequence_items[dataset.offsets[1:] - 1]]


def test_lots_break_ties_whatever_the_table_is_sorted_by() -> None:
    table = interactions(users=300).assign(timestamp=1)
    largest = table.groupby("user_id", sort=False)["item_id"].max().to_numpy()
    by_item = table.sort_values("item_id", kind="stable")
    shuffled = table.sample(frac=1, random_state=1)

    def found(order: pd.DataFrame, **options: object) -> pd.Series:
        dataset = build(order, **options)
        return pd.Series(targets(dataset), index=dataset.user_ids).sort_index()

    expected = pd.Series(largest, index=table["user_id"].unique()).sort_index()
    assert (found(by_item) == expected).all(), "the table's order is that of the items"
    drawn = found(by_item, ties="drawn")
    # Of six items each is the last one for a sixth of the users.
    assert (drawn == expected).mean() == pytest.approx(1 / 6, abs=0.08)
    pd.testing.assert_series_equal(found(shuffled, ties="drawn"), drawn)
    assert (found(by_item, ties="drawn", seed=1) != drawn).mean() > 0.5
    assert build(by_item, ties="drawn").tied_targets == 1


def test_times_that_differ_are_never_a_matter_of_lots() -> None:
    table = interactions()
    assert build(table, ties="drawn").fingerprint == build(table).fingerprint


@pytest.mark.parametrize("column", ["user_id", "item_id"])
@pytest.mark.parametrize("dtype", ["float64", "Float64", "float32", object])
def test_ids_that_lost_digits_are_refused(column: str, dtype: object) -> None:
    first = 76561197980428000 if dtype != "float32" else 2**24
    table = interactions()
    codes = pd.Series(pd.factorize(table[column])[0] + first)
    table[column] = codes.astype(float).astype(dtype)
    with pytest.raises(InputError, match=rf"row \d+: {column} .* write the column as text or as integers"):
        build(table)
    if column == "user_id":
        whole = build(table.assign(user_id=codes))
        assert whole.n_users == codes.nunique() and whole.user_ids[0] == str(first)


def test_item_ids_that_lost_digits_are_refused_in_the_items_table() -> None:
    items = catalogue().assign(item_id=np.arange(20) + 2.0**53)
    with pytest.raises(InputError, match=r"item_id .* floating-point"):
        build_dataset(name="some", items=items, interactions=interactions())


def test_small_whole_floats_are_ids_still() -> None:
    table = interactions()
    table["user_id"] = pd.factorize(table["user_id"])[0] + 0.0
    assert build(table).user_ids[3] == "3"


NESTED = [
    ([["Clothing", "Citizen"], ["Clothing", "Men"]], "Clothing | Citizen | Clothing | Men"),
    (["x", None, "y"], "x | y"),
    ([float("nan")], ""),
    ([[], [["deep"], ""]], "deep"),
    ("plain [text]", "plain [text]"),
    (None, ""),
    ([1, 2], "1 | 2"),
    (["a nan, b", "None, nan"], "a nan, b | None, nan"),
    (['it\'s "so"', "\\"], 'it\'s "so" | \\'),
]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("cell", "expected"), NESTED)
def test_lists_are_one_text_in_every_format(tmp_path: Path, kind: str, cell: object, expected: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    items = catalogue()
    items["category"] = pd.Series([cell] * len(items), dtype=object)
    if kind == "parquet":
        if expected in ("", "deep") and cell is not None:  # a parquet list has parts of one kind
            cell = [["deep"], []] if expected else [None]
            items["category"] = pd.Series([cell] * len(items), dtype=object)
        items.to_parquet(folder / "items.parquet")
    elif kind == "csv":
        # As pandas writes lists, and as JSON writes them.
        items.to_csv(folder / "items.csv", index=False)
    else:
        rows = items.to_dict("records")
        (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    interactions().to_parquet(folder / "interactions.parquet")
    read = load_dataset(f"folder:{folder}")
    assert read.items["category"].unique().tolist() == [expected]


def test_json_lists_in_csv_are_lists_and_other_brackets_are_text(tmp_path: Path) -> None:
    items = catalogue(
        brand=['["A", "B"]'] * 20,
        category=["['a' 'b']"] * 20,
        description=["[sic] and so on]"] * 20,
    )
    items["title"] = '["REC"]'
    items.to_csv(tmp_path / "items.csv", index=False)
    interactions().to_csv(tmp_path / "interactions.csv", index=False)
    read = load_dataset(f"folder:{tmp_path}").items.iloc[0]
    assert read[["title", "brand", "category", "description"]].tolist() == [
        '["REC"]',
        "A | B",
        "['a' 'b']",
        "[sic] and so on]",
    ]


def test_objects_with_names_are_refused_where_they_would_be_shown() -> None:
    table = interactions()
    shown = catalogue(category=pd.Series([{"a": 1}] * 20, dtype=object))
    with pytest.raises(InputError, match="data row 1: category holds an object with names"):
        build_dataset(name="some", items=shown, interactions=table)
    other = catalogue(details=pd.Series([{"b": 1, "a": [2]}] * 20, dtype=object))
    read = build_dataset(name="some", items=other, interactions=table)
    assert read.items["details"][0] == '{"a": [2], "b": 1}'


def test_titles_that_a_careless_export_wrote_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    items = catalogue()
    build_dataset(name="some", items=items, interactions=interactions())
    assert not caplog.messages
    items.loc[[2, 3, 9], "title"] = ["nan", "None", "nan"]
    build_dataset(name="some", items=items, interactions=interactions(), items_file="items.csv")
    assert caplog.messages == [
        "items.csv: 3 titles are 'None' or 'nan'; if the export wrote missing titles so, remove them"
    ]


def test_small_catalogues_name_an_option_that_exists() -> None:
    dataset = build(interactions())
    with pytest.raises(
        InputError, match=r"fewer than 100 candidates; give --negatives (\d+) or less"
    ) as refused:
        draw_negatives(dataset, seed=0)
    enough = int(str(refused.value).split("--negatives ")[1].split()[0])
    assert draw_negatives(dataset, seed=0, n=enough).shape == (dataset.n_users, enough)
    with pytest.raises(InputError):
        draw_negatives(dataset, seed=0, n=enough + 1)


def test_the_number_of_candidates_is_an_option_of_every_experiment(tmp_path: Path) -> None:
    from bench import comparison
    from illmrec.command_line import run

    folder = tmp_path / "data"
    folder.mkdir()
    catalogue().to_parquet(folder / "items.parquet")
    interactions().to_parquet(folder / "interactions.parquet")
    common = [
        "--dataset",
        f"folder:{folder}",
        "--methods",
        "popularity,random",
        "--out",
        str(tmp_path / "out"),
    ]
    common += ["--no-progress"]
    assert run(comparison.main, prog="comparison", args=common) == 2
    assert run(comparison.main, prog="comparison", args=[*common, "--negatives", "10"]) == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert "target among 10 sampled items" in page and "target among 100" not in page
