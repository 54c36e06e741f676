"""Two commits' smoke tables, rank by rank."""

from __future__ import annotations

import subprocess

import pandas as pd
import pytest

from bench.suite.same import COLUMNS, METHODS, ROOT, differences, main, stored_ranks
from illmrec.command_line import run
from illmrec.errors import InputError


def made(method: str, ranks: list[int], *, features: str = "image") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "method": method,
            "features": features,
            "seed": 0,
            "user_id": [f"u{number}" for number in range(len(ranks))],
            "rank_sampled": ranks,
            "rank_full": [10 * rank for rank in ranks],
        }
    )


def test_ranks_that_differ_are_counted_by_method() -> None:
    here = pd.concat([made("a", [1, 2, 3]), made("b", [1, 2, 3]), made("only", [4])])
    there = pd.concat([made("a", [1, 2, 3]), made("b", [1, 5, 6]), made("b", [1, 2], features="text")])
    table = differences(here, there)
    assert tuple(table.columns) == COLUMNS
    found = table.set_index(["method", "features"])
    assert found.loc[("a", "image"), ["sampled_differ", "full_differ"]].tolist() == [0, 0]
    assert found.loc[("b", "image"), ["sampled_differ", "full_differ"]].tolist() == [2, 2]
    assert found.loc[("only", "image"), ["here", "there"]].tolist() == [True, False]
    assert found.loc[("b", "text"), ["here", "there", "full_differ"]].tolist() == [False, True, 2]


def test_users_that_one_side_lacks_are_different() -> None:
    table = differences(made("a", [1, 2, 3]), made("a", [1, 2]))
    assert table["users"].tolist() == [3] and table["sampled_differ"].tolist() == [1]


def test_a_store_without_ranks_is_an_error(tmp_path) -> None:
    with pytest.raises(InputError, match="no ranks were stored"):
        stored_ranks(tmp_path)


def test_bad_input_is_one_line(capsys) -> None:
    for arguments, said in (
        (["--against", "no-such-commit"], "no such commit here"),
        (["--against", "HEAD", "--methods", "[]"], "give at least one"),
        ([], "give either --against"),
        (["--against", "HEAD", "--plain"], "give either --against"),
    ):
        assert run(main, prog="python -m bench same", args=arguments) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and said in errors[0]
    assert METHODS


@pytest.mark.slow
def test_the_last_commit_has_the_same_ranks_for_floors(capsys) -> None:
    if subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, check=False
    ).returncode:
        pytest.skip("not a git checkout")
    assert (
        run(main, prog="python -m bench same", args=["--against", "HEAD", "--methods", "popularity,item-knn"])
        == 0
    )
    shown = capsys.readouterr().out
    assert "popularity" in shown and "item-knn" in shown
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "worktree", "list"], capture_output=True, text=True, check=True
    )
    assert "bench-same-" not in listed.stdout
