"""Moments of interactions as numbers: from numbers, dates and ISO 8601 texts, of one unit."""

from __future__ import annotations

import numpy as np
import pandas as pd

from illmrec.data.columns import quote, written
from illmrec.errors import InputError

UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
"""Units of moments since 1970, in parts of a second."""

_YEAR = 86_400 * 365.25
# From 1980 to 2100 no number of one unit is a number of another.
_FIRST, _LAST = 10 * _YEAR, 130 * _YEAR

_REMEDY = "give seconds since 1970, or dates as in 2020-10-07T20:39:57Z"


def moments(values: pd.Series, *, file: str) -> np.ndarray:
    """Return moments as numbers: numbers as they are, dates as whole seconds since 1970 (UTC).

    Integers stay integers, because floats lose digits of nanoseconds. Dates are columns of a type of date, and texts
    of ISO 8601; without a time zone they are UTC. Where one has a fraction of a second, all of them are in the
    longest of milliseconds, microseconds and nanoseconds that loses nothing.

    Args:
        values: The column.
        file: What error messages call the table.

    Raises:
        InputError: If a cell is missing or no moment, or if numbers have several units or stand among dates.
    """
    if pd.api.types.is_bool_dtype(values.dtype):
        raise InputError(f"{file}, data row 1: timestamp is a {values.dtype}; {_REMEDY}")
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        _refuse(values, values.isna().to_numpy(dtype=bool), file=file)
        return _since_1970(pd.to_datetime(values, utc=True))
    numbers = pd.to_numeric(values, errors="coerce")
    if pd.api.types.is_bool_dtype(numbers.dtype):
        raise InputError(f"{file}, data row 1: timestamp is a {numbers.dtype}; {_REMEDY}")
    wrong = ~np.isfinite(numbers.to_numpy(dtype=float, na_value=np.nan))
    if not wrong.any():
        found = numbers.to_numpy()
        _refuse_mixed_units(found, file=file)
        return found
    return _dates(values, numbers.notna().to_numpy(dtype=bool), wrong, file=file)


def _dates(values: pd.Series, is_number: np.ndarray, wrong: np.ndarray, *, file: str) -> np.ndarray:
    """Return a column of texts, ``wrong`` of which are no finite numbers, as moments."""
    text = pd.Series(written(values), dtype=object).str.strip()
    # Pandas reads words such as "now" as well.
    dated = text.where(text.str[:1].str.isdigit().to_numpy(dtype=bool) & ~is_number)
    parsed = pd.to_datetime(dated, format="ISO8601", utc=True, errors="coerce")
    is_date = parsed.notna().to_numpy(dtype=bool)
    _refuse(values, wrong & ~is_date, file=file)
    if is_number.any():
        row = int(np.flatnonzero(is_number)[0])
        raise InputError(
            f"{file}, data row {row + 1}: timestamp is {quote(values.iloc[row])}, a number "
            f"({int(is_number.sum())} such rows), and in {int(is_date.sum())} rows it is a date; {_REMEDY}, in all rows"
        )
    return _since_1970(parsed)


def _refuse(values: pd.Series, wrong: np.ndarray, *, file: str) -> None:
    if not wrong.any():
        return
    row = int(np.flatnonzero(wrong)[0])
    cell = values.iloc[row]
    said = (
        "is missing"
        if pd.api.types.is_scalar(cell) and (pd.isna(cell) or str(cell).strip() == "")
        else f"is {quote(cell)}, not a number or an ISO 8601 date"
    )
    raise InputError(
        f"{file}, data row {row + 1}: timestamp {said} ({int(wrong.sum())} such rows); {_REMEDY}"
    )


def _since_1970(dates: pd.Series) -> np.ndarray:
    """Return dates with a time zone as int64, in the longest unit that loses nothing."""
    found = dates.dt.tz_convert(None).to_numpy()
    counts = found.astype(np.int64)
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[np.datetime_data(found.dtype)[0]]
    while per_second > 1 and not (counts % 1000).any():
        counts, per_second = counts // 1000, per_second // 1000
    return counts


def _refuse_mixed_units(numbers: np.ndarray, *, file: str) -> None:
    """Refuse moments of several units, which sort by unit and not by time.

    Where others lie between those of two units, the column is a clock of its own, such as microseconds since the first.
    """
    counts = numbers.astype(float)
    of_unit = {unit: within(counts, per_second) for unit, per_second in UNITS.items()}
    found = {unit: rows for unit, rows in of_unit.items() if rows.any()}
    if len(found) < 2:
        return
    known = np.logical_or.reduce(list(found.values()))
    lowest = _FIRST * UNITS[next(iter(found))]
    if (~known & (counts > lowest)).any():
        return
    counted = [f"{int(rows.sum())} rows in {unit}" for unit, rows in found.items()]
    fewest = min(found.values(), key=np.count_nonzero)
    row = int(np.flatnonzero(fewest)[0])
    raise InputError(
        f"{file}: timestamp has several units since 1970: {', '.join(counted)}, the first of the fewest in data row "
        f"{row + 1}, {quote(numbers[row])}; bring all rows to one unit"
    )


def within(counts: np.ndarray, per_second: int) -> np.ndarray:
    """Return where numbers are moments of the years 1980 to 2100, in a unit of which a second has so many."""
    return (counts >= _FIRST * per_second) & (counts <= _LAST * per_second)
