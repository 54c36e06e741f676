"""Serving: the two tables from stored cells, bad input, and the command itself on a random LLM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import serving
from bench.frames.serving import COLUMNS, LOAD_COLUMNS, load_frame, serving_frame
from bench.store.store import Store
from illmrec.command_line import run


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--lengths", "1,4"], "--lengths: give at least 2"),
        (["--lengths", "900"], "have so long a history"),
        (["--sessions", "0"], "--sessions: give at least 1"),
        (["--repeats", "0"], "--repeats 0: give at least 1"),
        (["--group-users", "0"], "--group-users 0: give at least 1"),
        (["--methods", "sasrec"], "--methods sasrec: only LLM methods have prompts to go on from"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, expected, refusal) -> None:
    assert expected in refusal(serving.main, arguments)


def test_the_command_times_both_ways_and_scores_are_equal(tmp_path: Path, tiny_llm, tiny_encoders) -> None:
    arguments = [
        *("--preset", "smoke", "--llm", str(tiny_llm), "--dtype", "float32", *tiny_encoders),
        *("--methods", "illmrec,title", "--out", str(tmp_path), "--no-report", "--no-progress", "--repeats", "1"),
    ]  # fmt: skip
    assert run(serving.main, prog="bench.serving", args=arguments) == 0
    table = pd.read_csv(tmp_path / "tables" / "serving.csv")
    assert tuple(table.columns) == COLUMNS
    assert table["method"].tolist() == ["illmrec"] * 4 + ["title"] * 4
    assert table["history_length"].tolist() == [2, 2, 4, 4] * 2
    assert table["way"].tolist() == ["append", "anew"] * 4
    by_way = table.pivot(index=["method", "history_length"], columns="way")
    np.testing.assert_allclose(by_way["speedup"]["anew"], 1)
    medians = by_way["latency_ms_median"]
    ratio = medians["anew"] / medians["append"]
    np.testing.assert_allclose(by_way["speedup"]["append"], ratio, rtol=1e-4)  # tables are rounded
    # One item and a branch do not grow with the history; the whole of it does.
    tokens = by_way["tokens"].unstack()
    assert (tokens["anew"][4] > tokens["anew"][2]).all()
    assert (tokens["append"] < tokens["anew"]).to_numpy().all()
    load = pd.read_csv(tmp_path / "tables" / "serving_load.csv")
    assert tuple(load.columns) == LOAD_COLUMNS
    assert load["sessions"].tolist() == [1, 1, 4, 4] * 2
    kept = load[load["way"] == "append"].groupby("method")["kept_mb"].apply(list)
    for one, four in kept:
        assert 3 * one < four < 5 * one
    records = Store(tmp_path).records("serving")
    differences = [r.results["score_difference"] for r in records if r.config["sessions"] is None]
    assert len(differences) == 4 and max(differences) < 1e-3


def test_no_cells_make_empty_tables() -> None:
    assert tuple(serving_frame([]).columns) == COLUMNS
    assert load_frame([]).empty
