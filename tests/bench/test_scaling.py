"""Scaling: the fit against scipy's, the table, the users, and the command itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench import scaling
from bench.frames.scaling import AXES, COLUMNS, power_law, scaling_frame
from bench.store.cell import Cell
from bench.store.store import Store
from illmrec.command_line import run


def test_the_exponent_and_its_error_are_those_of_a_linear_regression_on_logarithms():
    values = np.array([1000, 3000, 10_000, 70_000, 1_000_000])
    seconds = 1e-6 * values**0.9 * np.exp(np.random.default_rng(0).normal(0, 0.2, 5))
    expected = stats.linregress(np.log(values), np.log(seconds))
    assert power_law(values, seconds) == pytest.approx((expected.slope, expected.stderr))
    assert power_law([2, 4, 8], [3, 12, 48]) == pytest.approx((2.0, 0.0), abs=1e-12)


def test_too_few_values_have_no_error_and_one_no_exponent():
    exponent, error = power_law([2, 4], [1, 8])
    assert exponent == pytest.approx(3) and np.isnan(error)
    for values in ([], [5], [5, 5]):
        assert np.isnan(power_law(values, values)).all()


def record(store: Store, axis: str, value: int, seconds: float):
    cell = Cell(
        experiment="scaling",
        version=1,
        config={"method": "engine", "seed": 0, "axis": axis, "value": value},
        method="engine",
        seed=0,
        dataset={},
    )
    results = {"axis": axis, "value": value, "users": 8, "device": "cpu", "dtype": "float32"}
    return store.write(cell, {**results, "seconds_median": seconds}, {}, seconds=1.0)


def test_each_axis_has_its_own_exponent(tmp_path: Path):
    store = Store(tmp_path)
    records = [record(store, "catalogue", 10 * n, 5.0 * n**2) for n in (4, 1, 2)]
    records += [record(store, "users", n, 3.0 * n) for n in (8, 2)]
    table = scaling_frame(records)
    assert tuple(table.columns) == COLUMNS
    assert table["axis"].tolist() == ["users"] * 2 + ["catalogue"] * 3
    assert table["value"].tolist() == [2, 8, 10, 20, 40]
    assert table["exponent"].tolist() == pytest.approx([1, 1, 2, 2, 2])
    assert scaling_frame([]).empty


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--lengths", "2,90"], "have a history of 90 items"),
        (["--user-counts", "0,4"], "--user-counts"),
        (["--catalogues", "0"], "--catalogues"),
        (["--repeats", "0"], "--repeats"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, expected, tmp_path, capsys):
    common = ["--preset", "smoke", "--no-report", "--out", str(tmp_path / "out")]
    assert run(scaling.main, prog="bench.scaling", args=[*common, *arguments]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and expected in errors[0]


@pytest.mark.slow
def test_the_command_measures_every_axis(tmp_path: Path):
    arguments = [
        "--preset",
        "smoke",
        "--no-progress",
        "--no-report",
        "--out",
        str(tmp_path),
        "--repeats",
        "1",
    ]
    assert run(scaling.main, prog="bench.scaling", args=arguments) == 0
    table = pd.read_csv(tmp_path / "tables" / "scaling.csv")
    assert tuple(table.columns) == COLUMNS
    assert table["axis"].tolist() == [axis for axis in AXES for _ in range(3)]
    assert (table["seconds_median"] > 0).all() and table["exponent"].notna().all()
    users = table[table["axis"] == "users"]
    assert (users["users"] == users["value"]).all()
