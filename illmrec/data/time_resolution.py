"""What the times of a data set tell: moments, or the day alone. No torch here."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from illmrec.data.times import UNITS, within
from illmrec.errors import InputError

TimeResolution = Literal["auto", "exact", "day"]

_DAY, _HOUR, _QUARTER = 86_400, 3_600, 900
_ROWS, _GROUPS = 0.99, 0.5


def units_per_second(times: np.ndarray) -> int | None:
    """Return how many units of the times a second has, or None where that cannot be told.

    Seconds, milliseconds, microseconds and nanoseconds of the years 1980 to 2100 do not overlap.
    """
    if not len(times):
        return None
    ends = np.array([times.min(), times.max()])
    for per_second in UNITS.values():
        if within(ends, per_second).all():
            return per_second
    return None


def day_numbers(times: np.ndarray) -> np.ndarray | None:
    """Return the days (UTC) since 1970 of moments, int32, or None where their unit cannot be told."""
    per_second = units_per_second(times)
    return None if per_second is None else (times // (per_second * _DAY)).astype(np.int32)


def beginning_of_days(
    users: np.ndarray, times: np.ndarray, *, resolution: TimeResolution, file: str
) -> int | float | None:
    """Return the time of day (UTC) at which days begin where times tell the day alone, or None where they tell more.

    Args:
        users: Int [n].
        times: [n], in any order.
        resolution: ``auto`` finds out (:func:`found_beginning`), ``exact`` takes times as they are, ``day`` takes the
            day alone, that of UTC where no other beginning is found.
        file: What errors call the table.

    Raises:
        InputError: With ``day``, if the unit of the times cannot be told.
    """
    if resolution == "exact":
        return None
    found = found_beginning(users, times)
    if resolution == "day" and found is None:
        if units_per_second(times) is None:
            raise InputError(
                f"{file}: --time-resolution day: the unit of the times cannot be told; write them in seconds, "
                "milliseconds, microseconds or nanoseconds since 1970, of the years 1980 to 2100"
            )
        return 0
    return found


def found_beginning(users: np.ndarray, times: np.ndarray) -> int | float | None:
    """Return the time of day at which days begin, in the unit of the times, where these tell the day alone, or None.

    Exporters write a date as its midnight, in UTC or in the shop's time zone, and some add the row's place in the
    basket. So times tell the day alone where there is more than one day, half of what users did on a day, or more,
    begins at one time of day, and 99 % of all rows are less than a quarter of an hour after it. An hour earlier or
    later counts as well, for zones with summer time. Moments at which people did something keep to no quarter of an
    hour.

    Args:
        users: Int [n].
        times: [n], in any order.
    """
    per_second = units_per_second(times)
    if per_second is None:
        return None
    day, hour, quarter = (per_second * length for length in (_DAY, _HOUR, _QUARTER))
    numbers, clock = times // day, times % day
    if numbers.min() == numbers.max():
        return None
    # Both quarters of an hour lie in four of the day's 96 at most: this spares most data what follows.
    by_quarter = np.bincount((clock // quarter).astype(np.int64), minlength=_DAY // _QUARTER)
    if np.sort(by_quarter)[-4:].sum() < _ROWS * len(times):
        return None
    rows = pd.DataFrame({"user": users, "day": numbers, "clock": clock})
    firsts = rows.groupby(["user", "day"])["clock"].min().value_counts().sort_index()
    mark = firsts.idxmax()
    before, after = (mark - hour) % day, (mark + hour) % day
    other = max((before, after), key=lambda time: firsts.get(time, 0))
    shifted = firsts.get(other, 0) > 0
    if firsts[mark] + firsts.get(other, 0) < _GROUPS * firsts.sum():
        return None
    inside = (clock - mark) % day < quarter
    if shifted:
        inside |= (clock - other) % day < quarter
    if inside.mean() < _ROWS:
        return None
    # With summer time, a day that begins an hour later lies within the same 24 hours.
    beginning = other if shifted and other == before else mark
    return beginning.item() if isinstance(beginning, np.generic) else beginning


def known_times(times: np.ndarray, beginning: float | None) -> np.ndarray:
    """Return what times tell: as they are, or the beginning of each one's day.

    Args:
        times: [n].
        beginning: The time of day at which days begin, or None where times are moments.
    """
    per_second = None if beginning is None else units_per_second(times)
    if per_second is None:
        return times
    return times - (times - beginning) % (per_second * _DAY)
