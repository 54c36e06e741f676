"""The serving experiment: both ways give the same, take what they say, and bad input is one line."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bench import serving
from bench.frames.serving import ANEW, APPEND, COLUMNS, USERS_COLUMNS
from illmrec.command_line import run

SMALL = ["--preset", "smoke", "--users", "60", "--items", "60", "--min-interactions", "1", "--layers", "2"]
SMALL += ["--no-progress", "--no-report"]


def test_the_command_measures_both_ways(tmp_path: Path, tiny_llm: Path, tiny_encoders: list[str]) -> None:
    arguments = [*SMALL, *tiny_encoders, "--llm", str(tiny_llm), "--methods", "illmrec,title"]
    arguments += ["--group-users", "2", "--sessions", "2", "--repeats", "1", "--out", str(tmp_path)]
    assert run(serving.main, prog="bench.serving", args=arguments) == 0
    alone = pd.read_csv(tmp_path / "tables" / "serving.csv")
    users = pd.read_csv(tmp_path / "tables" / "serving_users.csv")
    assert tuple(alone.columns) == COLUMNS and tuple(users.columns) == USERS_COLUMNS
    assert len(alone) == len(users) == 2 * 2 * 2
    assert (alone[["tokens", "latency_ms_median"]] > 0).all(axis=None)
    assert (alone["latency_ms_p95"] >= alone["latency_ms_median"]).all()
    by_way = alone.set_index(["way", "method", "history_length"]).sort_index()
    append, anew = by_way.loc[APPEND, "tokens"], by_way.loc[ANEW, "tokens"]
    # An item and a branch, however long the history; all of it otherwise.
    assert (append < anew).all()
    for method in ("illmrec", "title"):
        assert append[method, 6] == pytest.approx(append[method, 3], rel=0.3)
        assert anew[method, 6] > 1.3 * anew[method, 3]
    assert (users.loc[users["way"] == APPEND, "megabytes_per_session"] > 0).all()
    assert (alone.loc[alone["way"] == ANEW, "speedup"] == 1).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lengths", "1,4"], "--lengths 1: give at least 2, an item to append and one before it"),
        (["--sessions", "0"], "--sessions 0: give at least 1"),
        (["--repeats", "0"], "--repeats 0: give at least 1"),
        (["--methods", "sasrec"], "--methods sasrec: only LLM methods keep what the LLM has read"),
    ],
)
def test_bad_input_is_one_line(arguments, said, tmp_path, capsys) -> None:
    assert run(serving.main, prog="bench.serving", args=[*SMALL, *arguments, "--out", str(tmp_path)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and said in errors[0]
