"""Scores from files against brute force: order, ties, what is missing or unknown, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from baselines.scores_file import GivenScores, content_hash, read_scores
from illmrec.errors import InputError

USERS = ["u0", "u1", "007", "u3"]
ITEMS = ["a", "b", "12", "d", "e"]


def write(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_dict("records")), encoding="utf-8")
    return path


def read(table: pd.DataFrame, path: Path) -> GivenScores:
    return read_scores(write(table, path), user_ids=USERS, item_ids=ITEMS)


def rows(*entries: tuple[object, object, object], value: str = "score") -> pd.DataFrame:
    return pd.DataFrame(list(entries), columns=["user_id", "item_id", value])


SOME = rows(
    ("u1", "d", 0.5), ("u0", "a", -3.0), ("u0", "12", 7.25), ("u1", "a", 0.5), ("007", "e", 1e300), ("u0", "e", 0.0),
    ("u1", "b", 9.0), ("007", "b", 1e300 * (1 + 1e-15)), ("u1", "e", -0.5),
)  # fmt: skip


def test_ids_that_a_csv_file_has_as_floats_are_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    rows(("u0", "7.0", 1.0)).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"ids look like floats \('7\.0'\): write them as integers$"):
        read_scores(path, user_ids=["u0"], item_ids=["7"])


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_order_and_ties_of_a_users_items_are_those_of_the_file(tmp_path: Path, ending: str) -> None:
    given = read(SOME, tmp_path / f"mine{ending}")
    scores = given.score_users(np.array([2, 0, 1, 3]), [np.array([0])] * 4)
    assert scores.dtype == np.float32 and scores.shape == (4, 5)
    for user, found in zip(("007", "u0", "u1", "u3"), scores, strict=True):
        named = SOME[SOME["user_id"] == user].set_index("item_id")["score"].to_dict()
        for one, first in zip(ITEMS, found, strict=True):
            assert np.isfinite(first) == (one in named)
            for other, second in zip(ITEMS, found, strict=True):
                if one in named and other in named:
                    assert (first > second, first == second) == (
                        named[one] > named[other],
                        named[one] == named[other],
                    )
    assert given.without_rows(np.arange(4)) == 1 and given.without_rows(np.array([1, 2])) == 0


def test_a_drawn_file_equals_brute_force(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    users, items = [f"user {n}" for n in range(40)], [f"item {n}" for n in range(30)]
    dense = generator.integers(-6, 6, (40, 30)) / 4
    named = generator.random((40, 30)) < 0.4
    at = generator.permutation(np.argwhere(named))
    table = pd.DataFrame(
        {
            "user": np.array(users)[at[:, 0]],
            "item": np.array(items)[at[:, 1]],
            "score": dense[at[:, 0], at[:, 1]],
        }
    )
    given = read_scores(write(table, tmp_path / "drawn.parquet"), user_ids=users, item_ids=items)
    scores = given.score_users(np.arange(40), [])
    np.testing.assert_array_equal(np.isfinite(scores), named)
    masked = np.where(named, dense, -np.inf)
    np.testing.assert_array_equal(
        scores[:, :, None] >= scores[:, None, :], masked[:, :, None] >= masked[:, None, :]
    )


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_ranks_count_from_the_best(tmp_path: Path, ending: str) -> None:
    table = rows(("u0", "d", 1), ("u0", "a", 2), ("u0", "12", 10), ("u3", "a", 1), value="rank")
    scores = read(table, tmp_path / f"list{ending}").score_users(np.array([0]), [])[0]
    assert np.argsort(-scores, kind="stable")[:3].tolist() == [3, 0, 2]
    assert np.isneginf(scores[[1, 4]]).all()
    # Where there are both, it is the score that counts.
    both = table.assign(score=[1.0, 2.0, 3.0, 0.0])
    scores = read(both, tmp_path / f"both{ending}").score_users(np.array([0]), [])[0]
    assert np.argsort(-scores, kind="stable")[:3].tolist() == [2, 0, 3]


def test_unknown_ids_are_counted_and_ignored(tmp_path: Path) -> None:
    table = rows(
        ("u0", "a", 1.0), ("who", "a", 2.0), ("who", "b", 2.0), ("u0", "what", 3.0), ("u3", "which", 3.0),
        ("nobody", "which", 3.0),
    )  # fmt: skip
    given = read(table, tmp_path / "mine.csv")
    assert given.described(np.array([0, 1, 3])) == {
        "rows": 1, "ignored_rows": 5, "unknown_users": 2, "unknown_items": 2, "users_without_rows": 2,
    }  # fmt: skip
    with pytest.raises(
        InputError, match=r"data row 1 has user 'U0' and item 'a', the data set user 'u0' and item"
    ):
        read(rows(("U0", "a", 1.0)), tmp_path / "other.csv")


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_ids_are_text(tmp_path: Path, ending: str) -> None:
    # A number is the text that writes it; text keeps its zeros.
    table = pd.DataFrame({"user_id": ["007", "u0"], "item_id": [12, 12], "score": [1, 2]})
    given = read(table, tmp_path / f"mine{ending}")
    assert given.ignored == 0 and given.items.tolist() == [2, 2]
    table = pd.DataFrame({"user_id": ["007"], "item_id": pd.Series([12.0]), "score": [1]})
    if ending == ".parquet":
        assert read(table, tmp_path / f"floats{ending}").items.tolist() == [2]
        assert read(table.astype({"item_id": "category"}), tmp_path / f"codes{ending}").items.tolist() == [2]


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (rows(("u0", "a", 1.0), ("u1", "a", 1.0), ("u0", "a", 2.0)), "data row 3: data row 1 has user 'u0' with item"),
        (rows(("who", "a", 1.0), ("u0", "b", 1.0), ("u0", "b", 1.0)), "data row 3: data row 2 has"),
        (rows(("u0", "a", 1.0), ("u0", "b", float("inf"))), "data row 2: score is 'inf', not a finite number"),
        (rows(("u0", "a", 1.0), ("who", "b", float("nan"))), "data row 2: score is"),
        (rows(("u0", "a", "1"), ("u0", "b", "much")), "data row 2: score is 'much', not a finite number (1 such rows)"),
        (rows(("u0", "a", 1), ("u0", "b", None), value="rank"), "data row 2: rank is"),
        (rows(("u0", "a", 1.0), ("u0", None, 2.0)), "data row 2: item_id is missing"),
        (rows(("u0", "a", 1.0), (None, "a", 2.0)), "data row 2: user_id is missing"),
        (rows(("u0", "a", 1.0), value="points"), "missing column score, or rank where items are listed best first"),
        (rows(("u0", "a", 1.0)).rename(columns={"user_id": "customer"}), "missing column user_id"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_with_the_row(
    tmp_path: Path, ending: str, table: pd.DataFrame, expected: str
) -> None:
    with pytest.raises(InputError) as refused:
        read(table, tmp_path / f"bad{ending}")
    message = str(refused.value)
    assert expected in message and f"bad{ending}" in message and "\n" not in message


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text('{"user": "u0", "item": "a", "score": [1, 2]}\n', encoding="utf-8")
    with pytest.raises(InputError, match="data row 1: score is"):
        read_scores(path, user_ids=USERS, item_ids=ITEMS)
    path.write_text('{"user": "u0", "item": ["a", "b"], "score": 1}\n', encoding="utf-8")
    with pytest.raises(InputError, match="item holds lists; write a row for each user and item"):
        read_scores(path, user_ids=USERS, item_ids=ITEMS)
    with pytest.raises(InputError, match="holds no row"):
        read(SOME.iloc[:0], tmp_path / "empty.csv")
    for name in ("scores.txt", "nothing.csv"):
        with pytest.raises(InputError, match=name):
            content_hash(tmp_path / name)


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    first, same = write(SOME, tmp_path / "a.csv"), write(SOME, tmp_path / "b.csv")
    other = write(SOME.assign(score=SOME["score"] * 2), tmp_path / "c.csv")
    assert content_hash(first) == content_hash(same) != content_hash(other)
