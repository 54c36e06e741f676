"""Accuracy against time: the frames against brute force, and the command as a user runs it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench import time_to_accuracy
from bench.frames.time_to_accuracy import COLUMNS, LEVELS, curves, first_reached, levels
from bench.store.store import Store
from illmrec.command_line import run

SMALL = [
    *("--preset", "smoke", "--users", "60", "--items", "60", "--min-interactions", "1", "--layers", "2"),
    *("--features", "image,text", "--no-sasrec", "--no-progress", "--no-report", "--seconds", "1"),
    *("--negatives", "20"),
]


def curve(strategy: str, values: list[float], *, step: float, method: str = "illmrec", session: str = "a"):
    count = len(values)
    return pd.DataFrame(
        {
            **{"dataset": "d", "fingerprint": "f", "llm": "l", "method": method, "strategy": strategy},
            "seed": 0,
            "seconds": step * np.arange(1, count + 1),
            "targets": 10 * np.arange(1, count + 1),
            "gflops": 1.0,
            "valid_ndcg@10": values,
            "session": session,
        }
    )[list(COLUMNS)]


def test_levels_are_shares_of_the_best_of_joint_training():
    table = pd.concat(
        [
            curve("frozen", [0.05, 0.1, 0.19, 0.2, 0.18], step=10),
            curve("cached", [0.1, 0.21, 0.25], step=2, session="b"),
            curve("two-stage", [0.1, 0.12], step=5),
            curve("frozen", [0.3], step=1, method="tallrec"),
        ],
        ignore_index=True,
    )
    found = levels(table)
    assert tuple(found.columns) == LEVELS and set(found["method"]) == {"illmrec"}
    cached = found[found["strategy"] == "cached"].set_index("level")
    assert cached.index.tolist() == pytest.approx([0.18, 0.19, 0.2])
    assert cached["seconds"].tolist() == [4, 4, 4] and cached["against_seconds"].tolist() == [30, 30, 40]
    assert cached["speedup"].tolist() == pytest.approx([7.5, 7.5, 10]) and not cached["one_session"].any()
    staged = found[found["strategy"] == "two-stage"]
    assert staged["seconds"].isna().all() and staged["one_session"].all()


def test_a_level_is_reached_at_the_first_point_that_has_it():
    frame = curve("frozen", [0.1, 0.3, 0.2, 0.3], step=1)
    assert (
        first_reached(frame, 0.3) == 2
        and first_reached(frame, 0.2) == 2
        and first_reached(frame, 0.31) is None
    )


def test_trainings_are_recorded_once(tmp_path, tiny_llm, tiny_encoders):
    arguments = [
        *SMALL,
        "--llm",
        str(tiny_llm),
        *tiny_encoders,
        "--out",
        str(tmp_path),
        "--methods",
        "illmrec",
    ]
    assert run(time_to_accuracy.main, prog="bench.time_to_accuracy", args=arguments) == 0
    store = Store(tmp_path)
    records = store.records("time_to_accuracy")
    assert sorted(record.config["strategy"] for record in records) == ["cached", "frozen", "two-stage"]
    assert len({record.results["session"] for record in records}) == 1
    table = curves(records, store)
    for _, rows in table.groupby("strategy"):
        for name in ("seconds", "targets", "gflops"):
            assert (rows[name].diff().dropna() >= 0).all() and (rows[name] > 0).all()
        assert rows["valid_ndcg@10"].between(0, 1).all()
    cached = next(record for record in records if record.config["strategy"] == "cached")
    first = table[table["strategy"] == "cached"].iloc[0]
    assert first["seconds"] > cached.results["encoding_seconds"] > 0
    assert first["targets"] == cached.results["positions"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".states")]
    written = pd.read_csv(tmp_path / "tables" / "time_to_accuracy.csv")
    assert len(written) == len(table) and {"dataset", "method", "strategy", "seed"} <= set(written.columns)
    before = {record.key: record.created for record in records}
    assert run(time_to_accuracy.main, prog="bench.time_to_accuracy", args=arguments) == 0
    assert {record.key: record.created for record in store.records("time_to_accuracy")} == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--strategies", "lora"], "--strategies lora"),
        (["--strategies", ""], "--strategies: give at least one"),
        (["--methods", "sasrec"], "--methods sasrec"),
        (["--seconds", "0"], "--seconds 0"),
        (["--warm-up", "5"], "--warm-up: states are stored by --strategy cached alone"),
        (["--strategy", "cached", "--warm-up", "-5"], "--warm-up -5"),
        (["--strategy", "cached", "--last-targets", "0"], "--last-targets 0"),
    ],
)
def test_bad_input_is_one_line(arguments, expected, tmp_path, capsys, tiny_llm):
    common = [*SMALL, "--llm", str(tiny_llm), "--out", str(tmp_path)]
    assert run(time_to_accuracy.main, prog="bench.time_to_accuracy", args=[*common, *arguments]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and expected in error[0]
    assert not list(tmp_path.rglob("cell.json"))
