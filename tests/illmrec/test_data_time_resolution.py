"""Times that tell the day alone: found in what exporters write, not in moments; ties, lots and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.harness.loading import loaded_dataset
from bench.harness.settings import Settings
from illmrec.data import load_dataset
from illmrec.data.building import build_dataset
from illmrec.data.dataset import Dataset
from illmrec.data.splits import split_at_times
from illmrec.data.time_resolution import found_beginning, known_times
from illmrec.errors import InputError

DAY, HOUR = 86_400, 3_600
FIRST = 18_000  # days after 1970: 14 April 2019


def visits(*, users: int = 120, days: int = 30, items: int = 40, seed: int = 0) -> pd.DataFrame:
    """Return what users bought: columns user_id, item_id, day and place, the place within the basket of that day."""
    generator = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        bought = iter(generator.permutation(items).tolist())
        for day in np.sort(generator.choice(days, generator.integers(1, 4), replace=False)).tolist():
            rows += [
                (f"u{user}", f"i{next(bought):02}", day, at) for at in range(int(generator.integers(1, 9)))
            ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "day", "place"])


def berlin(table: pd.DataFrame) -> pd.Series:
    """Return midnight in Berlin, where summer time ends after ten of the days."""
    dates = pd.Timestamp("2019-10-18") + pd.to_timedelta(table["day"], unit="D")
    local = dates.dt.tz_localize("Europe/Berlin").dt.tz_convert("UTC").dt.tz_localize(None)
    return (local - pd.Timestamp(0)) // pd.Timedelta(seconds=1)


def midnight(table: pd.DataFrame) -> pd.Series:
    return (FIRST + table["day"]) * DAY


def exact(table: pd.DataFrame) -> pd.Series:
    """Return moments: a visit begins at any second, an item comes some seconds after the one before it."""
    begins = np.random.default_rng(3).integers(0, DAY - HOUR, len(table))
    of_visit = table.assign(begins=begins).groupby(["user_id", "day"])["begins"].transform("first")
    return midnight(table) + of_visit + 7 * table["place"]


DAYS: dict[str, tuple[Callable[[pd.DataFrame], pd.Series], int]] = {
    "midnight alone": (midnight, 0),
    "places after it": (lambda t: midnight(t) + t["place"], 0),
    "places from 1": (lambda t: midnight(t) + t["place"] + 1, 1),
    "places in ms": (lambda t: midnight(t) * 1000 + t["place"], 0),
    "seconds as ms": (lambda t: (midnight(t) + t["place"]) * 1000, 0),
    "nanoseconds": (lambda t: (midnight(t) + t["place"]) * 10**9, 0),
    "floats": (lambda t: (midnight(t) + t["place"]).astype(float), 0),
    "noon": (lambda t: midnight(t) + 12 * HOUR + t["place"], 12 * HOUR),
    "midnight in Kolkata": (lambda t: midnight(t) - 19_800 + t["place"], DAY - 19_800),
    "midnight in Berlin": (lambda t: berlin(t) + t["place"], 22 * HOUR),
}


@pytest.mark.parametrize("kind", DAYS)
def test_days_are_found_however_they_are_written(kind: str) -> None:
    written, begins = DAYS[kind]
    table = visits()
    users, times = pd.factorize(table["user_id"])[0], written(table).to_numpy()
    found = found_beginning(users, times)
    assert found == begins
    known = known_times(times, found)
    # One time for each day, and the days in their order.
    by_day = pd.Series(known).groupby(table["day"].to_numpy())
    assert (by_day.nunique() == 1).all() and by_day.first().is_monotonic_increasing
    assert by_day.first().nunique() == table["day"].nunique()


def test_days_are_found_where_rows_were_left_out_and_a_few_are_odd() -> None:
    table = visits(users=400)
    times = midnight(table) + table["place"]
    stays = np.random.default_rng(1).random(len(table)) > 0.3
    users = pd.factorize(table["user_id"])[0]
    assert found_beginning(users[stays], times[stays].to_numpy()) == 0
    odd = times.to_numpy().copy()
    odd[:: len(odd) // 8] += 5 * HOUR
    assert found_beginning(users, odd) == 0
    odd[:: len(odd) // 40] += 5 * HOUR
    assert found_beginning(users, odd) is None


def test_moments_are_no_days() -> None:
    table = visits()
    users, times = pd.factorize(table["user_id"])[0], exact(table).to_numpy()
    for unit in (1, 1000, 10**9):
        assert found_beginning(users, times * unit) is None
    # Rounded to the minute and to the hour, as in logs.
    assert found_beginning(users, times // 60 * 60) is None
    assert found_beginning(users, times // HOUR * HOUR) is None
    # All at the same hour of each day, as in a laboratory; and within a quarter of it.
    at_ten = midnight(table).to_numpy() + 10 * HOUR
    assert found_beginning(users, at_ten + times % HOUR) is None
    assert found_beginning(users, at_ten + times % 900) is None


def test_a_count_as_time_or_a_single_day_is_no_day() -> None:
    table = visits()
    users = pd.factorize(table["user_id"])[0]
    place = table.groupby("user_id").cumcount().to_numpy()
    assert found_beginning(users, place) is None  # no unit
    assert found_beginning(users, 1_600_000_000 + place) is None
    assert found_beginning(users, FIRST * DAY + place) is None
    assert found_beginning(np.array([], dtype=int), np.array([], dtype=int)) is None


def test_the_toyshop_has_moments() -> None:
    shop = load_dataset("toyshop", users=100, items=60)
    assert shop.days_begin is None and shop.statistics()["same_time"] == 0


def build(table: pd.DataFrame, times: pd.Series, **options: Any) -> Dataset:
    ids = [f"i{item:02}" for item in range(40)]
    return build_dataset(
        name="some",
        items=pd.DataFrame({"item_id": ids, "title": ids}),
        interactions=table.assign(timestamp=times),
        min_interactions=1,
        **options,
    )


def last_on_one_day(table: pd.DataFrame) -> float:
    """Return the share of users, of those with two items or more, whose last two are of one day, by hand."""
    days = table.groupby("user_id")["day"].agg(list)
    several = days[days.map(len) > 1]
    return float(several.map(lambda own: own[-1] == own[-2]).mean())


@pytest.fixture
def table() -> pd.DataFrame:
    rows = visits()
    return rows[rows.groupby("user_id")["day"].transform("size") >= 3].reset_index(drop=True)


def test_ties_are_counted_by_day(table: pd.DataFrame) -> None:
    share = last_on_one_day(table)
    assert 0.5 < share < 1
    for times in (midnight(table), midnight(table) + table["place"], berlin(table) + table["place"]):
        found = build(table, times)
        assert found.tied_targets == pytest.approx(share)
        assert found.statistics()["same_time"] == round(share, 4) == found.statistics()["same_day"]
    moments = build(table, exact(table))
    assert moments.tied_targets == moments.statistics()["same_time"] == 0
    assert moments.statistics()["same_day"] == round(share, 4)


def test_the_tables_order_and_its_fingerprint_stay(table: pd.DataFrame) -> None:
    times = midnight(table) + table["place"]
    found, taken = build(table, times), build(table, times, time_resolution="exact")
    assert found.fingerprint == taken.fingerprint
    assert found.days_begin == 0 and taken.days_begin is None
    assert taken.tied_targets == 0 == taken.statistics()["same_time"]
    assert found.times is not None and sorted(found.times) == sorted(times), "kept as they came"


def ordered(dataset: Dataset) -> dict[str, list[str]]:
    ids = dataset.items["item_id"].to_numpy()
    return {
        user: ids[dataset.sequence(number)].tolist() for number, user in enumerate(dataset.user_ids.tolist())
    }


def test_lots_order_a_day_and_days_stay_in_order(table: pd.DataFrame) -> None:
    times = midnight(table) + table["place"]
    drawn = build(table, times, ties="drawn")
    found = ordered(drawn)
    day_of = table.set_index(["user_id", "item_id"])["day"]
    for user, items in found.items():
        own = table[table["user_id"] == user]
        assert sorted(items) == sorted(own["item_id"])
        assert [day_of[user, item] for item in items] == own["day"].tolist()
    # Each item of a last day is as likely to be the last one as any other.
    last_day = table[table["day"] == table.groupby("user_id")["day"].transform("max")]
    expected = (1 / last_day.groupby("user_id").size()).mean()
    last = last_day.groupby("user_id")["item_id"].last()
    assert np.mean([found[user][-1] == last[user] for user in found]) == pytest.approx(expected, abs=0.1)
    # Neither the table's order nor what was written into the seconds has a part in it.
    shuffled = table.sample(frac=1, random_state=2)
    assert ordered(build(shuffled, midnight(shuffled), ties="drawn")) == found
    assert ordered(build(table, times, ties="drawn", seed=1)) != found
    assert build(table, times, ties="drawn", seed=1).tied_targets == drawn.tied_targets
    # No lot where moments are known, or said to be.
    assert ordered(build(table, times, ties="drawn", time_resolution="exact")) == ordered(build(table, times))


def test_who_knows_better_says_so(table: pd.DataFrame) -> None:
    moments = exact(table)
    days = build(table, moments, time_resolution="day")
    assert days.days_begin == 0 and days.tied_targets == pytest.approx(last_on_one_day(table))
    assert ordered(days) == ordered(build(table, moments))
    drawn = build(table, moments, time_resolution="day", ties="drawn")
    assert ordered(drawn) == ordered(build(table, midnight(table), ties="drawn"))
    with pytest.raises(
        InputError, match=r"buys\.csv: --time-resolution day: the unit of the times cannot be"
    ):
        build(table, table["day"], time_resolution="day", interactions_file="buys.csv")


def test_points_in_time_lie_between_drawn_days(table: pd.DataFrame) -> None:
    times = midnight(table) + table["place"]
    whole = split_at_times(build(table, times, ties="drawn"))
    assert whole.points is not None and all(point % DAY == 0 for point in whole.points)
    assert replace(whole, times=None).statistics().keys().isdisjoint({"same_day", "same_time"})


def test_the_log_says_whose_order_a_day_has(
    table: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [f"i{item:02}" for item in range(40)]
    pd.DataFrame({"item_id": ids, "title": ids}).to_csv(tmp_path / "items.csv", index=False)
    share = 100 * last_on_one_day(table)

    def said(times: pd.Series, **options: Any) -> list[str]:
        table.assign(timestamp=times).to_csv(tmp_path / "interactions.csv", index=False)
        caplog.clear()
        loaded_dataset(Settings(dataset=f"folder:{tmp_path}", min_interactions=1, **options).resolved())
        return [record.message for record in caplog.records if record.levelname == "WARNING"]

    days = midnight(table) + table["place"]
    told = (
        f"{tmp_path.name}: times tell the day alone, and the last two interactions of {share:.1f} % of the users fall "
        "on one: the order within a day is "
    )
    by_table = told + "the table's order; --ties drawn draws it by lot"
    assert said(days) == [by_table]
    assert said(days, ties="drawn") == [told + "drawn by lot"]
    assert said(days, time_resolution="exact") == said(exact(table)) == []
    # Fifty users at one second of different days.
    moments = exact(table)
    tied = table["user_id"].isin(table["user_id"].unique()[:50])
    seconds = moments.where(~tied, moments.groupby(table["user_id"]).transform("first"))
    (second,) = said(seconds)
    assert "% of the users have one time: which of them is tested is the table's order" in second
    assert said(days, split="global-time") == [
        by_table.replace(tmp_path.name, f"{tmp_path.name}-global-time"),
        f"{tmp_path.name}-global-time: --split global-time cuts a day by the table's order; --ties drawn cuts between "
        "days",
    ]
    assert len(said(days, split="global-time", ties="drawn")) == 1
