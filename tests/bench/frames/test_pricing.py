"""Prices: a number with its currency, or a row of a table whose faults are named by line."""

from __future__ import annotations

import csv
import re
from datetime import date
from pathlib import Path

import pytest

from bench.frames.pricing import COLUMNS, TABLE, Pricing, price_table
from illmrec.errors import InputError

HEAD = ",".join(COLUMNS)
ROW = "mine,me,cellar,1,A10,0.36,EUR,2026-11-01,my bill"


def table_of(folder: Path, *lines: str) -> Path:
    path = folder / "prices.csv"
    path.write_text("\n".join([HEAD, *lines]) + "\n", encoding="utf-8")
    return path


def test_time_at_a_price_by_hand() -> None:
    pricing = Pricing(price_per_hour=0.36, currency="EUR")
    assert pricing.cost(50.0) == pytest.approx(0.005), "0.36 an hour are 0.0001 a second"
    assert (pricing.code, pricing.words()) == ("EUR", "0.36 EUR an hour")
    assert Pricing().cost(50.0) != Pricing().cost(50.0) and Pricing().words() == Pricing().code == ""


def test_every_row_of_the_table_has_a_date_and_a_source() -> None:
    rows = price_table(TABLE)
    assert len(rows) >= 10
    for row in rows.values():
        assert row.source.startswith("https://") and date.fromisoformat(row.date) <= date(2026, 11, 30)
        assert (row.gpus > 0) == bool(row.gpu)
    with TABLE.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(rows)


def test_an_instance_is_its_row(tmp_path: Path) -> None:
    path = table_of(tmp_path, ROW)
    pricing = Pricing(instance="mine", prices=path)
    assert (pricing.hourly, pricing.code) == (0.36, "EUR")
    assert pricing.described()["source"] == "my bill" and pricing.described()["gpus"] == 1
    assert "2026-11-01" in pricing.words() and "my bill" in pricing.words()
    assert pricing.options() == ["--instance", "mine", "--prices", str(path)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"instance": "g5.xlrge"}, "--instance g5.xlrge: no such instance; did you mean g5.xlarge"),
        ({"instance": "abacus!"}, "there are Standard_NC24ads_A100_v4, "),
        ({"price_per_hour": 1.0}, "say in which currency with --currency"),
        ({"price_per_hour": 0.0, "currency": "EUR"}, "--price-per-hour 0.0: give a number above 0"),
        ({"price_per_hour": float("nan"), "currency": "EUR"}, "--price-per-hour nan: give a number above 0"),
        ({"price_per_hour": 1.0, "currency": "euro"}, "--currency euro: give three letters"),
        ({"currency": "EUR"}, "--currency EUR: goes with --price-per-hour"),
        ({"price_per_hour": 1.0, "currency": "EUR", "instance": "g5.xlarge"}, "give one of them"),
        ({"prices": Path("x.csv")}, "--prices x.csv: goes with --instance"),
        ({"instance": "mine", "prices": Path("none.csv")}, "none.csv: cannot be read: No such file"),
        ({"watts": -3.0}, "--watts -3.0: give a number above 0"),
    ],
)
def test_what_cannot_be_a_price_is_one_line(arguments, expected) -> None:
    with pytest.raises(InputError, match=re.escape(expected)) as caught:
        Pricing(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([ROW, "a,b,c,1,A10,free,EUR,2026-11-01,bill"], "line 3: price_per_hour 'free' is no number above 0"),
        ([ROW, "a,b,c,1,A10,-1,EUR,2026-11-01,bill"], "line 3: price_per_hour '-1' is no number above 0"),
        ([ROW, "a,b,c,1,A10,inf,EUR,2026-11-01,bill"], "line 3: price_per_hour 'inf' is no number above 0"),
        ([ROW, "a,b,c,two,A10,1,EUR,2026-11-01,bill"], "line 3: gpus 'two' is no number of GPUs"),
        ([ROW, "a,b,c,1,A10,1,€,2026-11-01,bill"], "line 3: currency '€' is not three letters"),
        ([ROW, "a,b,c,1,A10,1,EUR,yesterday,bill"], "line 3: date 'yesterday' is no day"),
        ([ROW, "a,b,c,1,A10,1,EUR,2026-11-01,"], "line 3: source is empty"),
        ([ROW, "a,b,c,1,A10,1,EUR"], "line 3: it has another number of values"),
        ([ROW, f"{ROW},more"], "line 3: it has another number of values"),
        ([ROW, ROW], "line 3: mine has a row above already"),
        ([",b,c,1,A10,1,EUR,2026-11-01,bill"], "line 2: the instance has no name"),
        ([], "prices.csv: it has no rows"),
    ],
)
def test_a_fault_in_a_table_names_its_line(lines, expected, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(expected)):
        Pricing(instance="mine", prices=table_of(tmp_path, *lines))


def test_a_table_without_a_column_names_it(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("instance,price_per_hour\nmine,1\n")
    with pytest.raises(InputError, match=r"line 1: the columns provider, region, .*source are missing"):
        price_table(path)
    path = tmp_path / "latin.csv"
    path.write_bytes(HEAD.encode() + b"\n\xe9\n")
    with pytest.raises(InputError, match=r"latin\.csv: cannot be read: it is not UTF-8"):
        price_table(path)
