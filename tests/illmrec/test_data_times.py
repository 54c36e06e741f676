"""Moments in every form that tables hold them in; mixed units and what is no moment are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from illmrec.data import load_dataset
from illmrec.data.tables import read_table_file
from illmrec.data.times import moments
from illmrec.errors import InputError

TEXTS = ["2020-10-07T20:39:57Z", "2020-10-07", "2020-10-07 22:39:58+02:00", "1969-12-31T23:59:59"]
SECONDS = [1_602_103_197, 1_602_028_800, 1_602_103_198, -1]  # GNU date -u -d TEXT +%s


def read(values: object, **options: object) -> np.ndarray:
    return moments(pd.Series(values, **options), file="interactions.csv")


def test_iso_8601_texts_are_seconds_since_1970() -> None:
    found = read(TEXTS)
    assert found.dtype == np.int64
    assert found.tolist() == SECONDS
    assert read(TEXTS, dtype=object).tolist() == SECONDS


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_dates_of_every_unit_and_zone_are_seconds_since_1970(unit: str, zone: str | None) -> None:
    values = pd.Series(np.array(SECONDS, dtype="datetime64[s]").astype(f"datetime64[{unit}]"))
    if zone is not None:
        values = values.dt.tz_localize("UTC").dt.tz_convert(zone)
    found = read(values)
    assert found.dtype == np.int64
    assert found.tolist() == SECONDS


@pytest.mark.parametrize(
    "kind", [pa.timestamp("ms"), pa.timestamp("us", tz="Europe/Berlin"), pa.date32(), pa.date64()], ids=str
)
@pytest.mark.parametrize("backend", ["numpy", "pyarrow"])
def test_dates_of_parquet(tmp_path: Path, kind: pa.DataType, backend: str) -> None:
    days = [18_542 + number for number in range(6)]  # the first is 2020-10-07
    zone = getattr(kind, "tz", None)
    stored = pa.array(days, pa.date32()).cast(pa.timestamp("s")).cast(pa.timestamp("s", tz=zone)).cast(kind)
    path = tmp_path / "interactions.parquet"
    parquet.write_table(pa.table({"timestamp": stored}), path)
    options = {} if backend == "numpy" else {"dtype_backend": "pyarrow"}
    found = moments(pd.read_parquet(path, **options)["timestamp"], file="t")
    assert found.tolist() == [86_400 * day for day in days]


def test_fractions_of_a_second_keep_their_order() -> None:
    found = read(["2020-10-07", "2020-10-07T00:00:00.123456789Z", "2020-10-07T00:00:00.123456788Z"])
    assert (found - found[0]).tolist() == [0, 123_456_789, 123_456_788]
    assert read(["2020-10-07T20:39:57.250", TEXTS[0]]).tolist() == [1_602_103_197_250, 1_602_103_197_000]


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        (["2020-10-07", "10/07/2020", "noon"], ["data row 2", "'10/07/2020'", "ISO 8601", "2 such rows"]),
        (["2020-02-30", "2020-02-28"], ["data row 1", "'2020-02-30'"]),
        (["2020-10-07", "now"], ["data row 2", "'now'"]),
        (["2020-10-07", ""], ["data row 2", "is missing"]),
        (["2020-10-07", None], ["data row 2", "is missing"]),
        (
            ["2020-10-07", "1602103197", "17"],
            ["data row 2", "'1602103197', a number (2 such rows)", "in 1 rows"],
        ),
        (
            [np.datetime64("2020-10-07T00:00:00", "s"), np.datetime64("NaT", "s")],
            ["data row 2", "is missing"],
        ),
        ([b"2020-10-07", b"\x95"], ["data row 2", "1 such rows"]),
        ([True, False], ["bool"]),
    ],
)
def test_what_is_no_moment_is_named(values: list[object], parts: list[str]) -> None:
    with pytest.raises(InputError, match=r"^interactions\.csv, data row \d: timestamp ") as caught:
        read(values)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_mixed_units_are_counted_and_refused() -> None:
    seconds = np.arange(1_600_000_000, 1_600_000_009)
    mixed = np.where(np.arange(9) % 3 == 1, seconds * 1000, seconds)
    for values in (mixed, mixed.astype(float), mixed.astype(str)):
        with pytest.raises(InputError) as caught:
            read(values)
        message = str(caught.value)
        assert "6 rows in seconds, 3 rows in milliseconds" in message
        assert "data row 2, '16000000010" in message
    with pytest.raises(InputError, match="2 rows in milliseconds, 1 rows in nanoseconds"):
        read([0, 1_600_000_000_000, 1_600_000_000_001, 1_600_000_000_000_000_000])


@pytest.mark.parametrize(
    "values",
    [
        [0, 1, 2, 500_000_000],  # places in a table
        [0, -5, 1_600_000_000],
        [0, 400_000_000, 10_000_000_000, 400_000_000_000],  # microseconds since the first
        [1_600_000_000_000_000_001, 1_600_000_000_000_000_000],
        ["0.5", "1e9"],
    ],
)
def test_numbers_of_one_clock_stay_what_they_are(values: list[object]) -> None:
    assert read(values).tolist() == [float(value) if isinstance(value, str) else value for value in values]


@pytest.mark.parametrize("form", ["parquet dates", "csv texts", "csv dates with zones", "jsonl texts"])
def test_a_folder_with_dates_is_the_folder_with_seconds(tmp_path: Path, form: str) -> None:
    ids = [f"i{number}" for number in range(6)]
    rows = [
        (f"u{user}", ids[(user + 3 * place) % 6], 1_602_103_197 + 90_000 * place)
        for user in range(6)
        for place in range(6)
    ][::-1]
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    dates = pd.to_datetime(table["timestamp"], unit="s")
    loaded = []
    for name, values in (("seconds", table["timestamp"]), ("dates", dates)):
        folder = tmp_path / name / "mine"
        folder.mkdir(parents=True)
        pd.DataFrame({"item_id": ids, "title": ids}).to_csv(folder / "items.csv", index=False)
        given = table.assign(timestamp=values)
        if form == "parquet dates":
            given.to_parquet(folder / "interactions.parquet")
        elif form == "jsonl texts":
            lines = [json.dumps(row, default=str) for row in given.to_dict("records")]
            (folder / "interactions.jsonl").write_text("\n".join(lines), encoding="utf-8")
        else:
            if name == "dates":
                zoned = values.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
                given["timestamp"] = zoned if "zones" in form else values.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
            given.to_csv(folder / "interactions.csv", index=False)
        loaded.append(load_dataset(f"folder:{folder}", min_interactions=1, split="global-time"))
    seconds, read_as_dates = loaded
    assert read_as_dates.fingerprint == seconds.fingerprint
    assert read_as_dates.times.tolist() == seconds.times.tolist()


def test_dates_beyond_all_years_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "interactions.parquet"
    parquet.write_table(pa.table({"timestamp": pa.array([-(2**31), 0], pa.date32())}), path)
    with pytest.raises(InputError, match=r"interactions\.parquet: cannot be read as parquet \(year -5877641"):
        read_table_file(path)
