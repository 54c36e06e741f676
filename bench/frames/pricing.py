"""What an hour of a machine costs: a number, or a row of a dated table of instances; no torch here.

A price is applied when tables are made. It is in no cell and in no key, so that another price needs no new run.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from illmrec.errors import InputError

SECONDS_PER_HOUR = 3600.0
TABLE = Path(__file__).with_name("instances.csv")
"""The price table that comes along; ``--prices`` names another one with the same columns."""

COLUMNS = (
    "instance", "provider", "region", "gpus", "gpu", "price_per_hour", "currency", "date", "source",
)  # fmt: skip
_OFFERED = 5


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A row of a price table.

    Attributes:
        instance: Name, as ``--instance`` gives it.
        provider: Who rents it out.
        region: Where, or nothing where the price is the same everywhere.
        gpus: Number of GPUs.
        gpu: Their kind, a part of the name that the driver gives them; nothing without any.
        price_per_hour: On demand, in currency.
        currency: Three capital letters.
        date: On which the price was read, ISO 8601.
        source: Where it was read.
    """

    instance: str
    provider: str
    region: str
    gpus: int
    gpu: str
    price_per_hour: float
    currency: str
    date: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Pricing:
    """What an hour of the machine costs and what power it draws; nothing of it is known by default.

    Attributes:
        price_per_hour: Price of an hour of the machine that was measured, in the currency.
        currency: Its currency, three letters such as EUR.
        instance: Instead of a price, a row of the price table.
        prices: CSV file that replaces the price table.
        watts: Power that the machine draws at work, for energy that no counter has measured; None is an estimate from
            cores and GPUs.

    Raises:
        InputError: If they contradict each other, the price table has a fault or lacks the instance.
    """

    price_per_hour: float | None = None
    currency: str | None = None
    instance: str | None = None
    prices: Path | None = None
    watts: float | None = None

    def __post_init__(self) -> None:
        for option, value in (("--price-per-hour", self.price_per_hour), ("--watts", self.watts)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{option} {value}: give a number above 0")
        if self.price_per_hour is not None and self.instance is not None:
            raise InputError("--price-per-hour and --instance: give one of them, each is a price")
        if self.price_per_hour is not None and self.currency is None:
            raise InputError(
                f"--price-per-hour {self.price_per_hour}: say in which currency with --currency, such as EUR"
            )
        if self.currency is not None:
            if self.price_per_hour is None:
                raise InputError(f"--currency {self.currency}: goes with --price-per-hour")
            if not _is_currency(self.currency):
                raise InputError(f"--currency {self.currency}: give three letters, such as EUR or USD")
        if self.prices is not None and self.instance is None:
            raise InputError(f"--prices {self.prices}: goes with --instance, which names a row of it")
        self.row()

    def row(self) -> Instance | None:
        """Return the row of the price table that was named, or None where none was."""
        if self.instance is None:
            return None
        table = price_table(self.prices or TABLE)
        if self.instance not in table:
            near = difflib.get_close_matches(self.instance, table, n=_OFFERED, cutoff=0.5)
            offered = (
                f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(table))}"
            )
            where = "" if self.prices is None else f" in {self.prices}"
            raise InputError(
                f"--instance {self.instance}: no such instance{where}; {offered} (or give --price-per-hour, or another"
                " table with --prices)"
            )
        return table[self.instance]

    @property
    def hourly(self) -> float | None:
        """The price of an hour, or None where no price is known."""
        row = self.row()
        return self.price_per_hour if row is None else row.price_per_hour

    @property
    def code(self) -> str:
        """The currency, or nothing where no price is known."""
        row = self.row()
        return (self.currency or "") if row is None else row.currency

    def cost(self, seconds: float | None) -> float:
        """Return what the machine costs for so many seconds; NaN where price or time are not known."""
        hourly = self.hourly
        return math.nan if hourly is None or seconds is None else hourly * seconds / SECONDS_PER_HOUR

    def words(self) -> str:
        """Return the price as readers see it, with where it is from; nothing where none is known."""
        row = self.row()
        if row is not None:
            where = " ".join(part for part in (row.provider, row.region) if part)
            return (
                f"{row.price_per_hour:g} {row.currency} an hour ({row.instance}, {where}, on demand, read on {row.date}"
                f" at {row.source})"
            )
        return "" if self.price_per_hour is None else f"{self.price_per_hour:g} {self.currency} an hour"

    def described(self) -> dict[str, Any]:
        """Return the price as JSON values; empty where none is known."""
        row = self.row()
        if row is not None:
            return {field.name: getattr(row, field.name) for field in fields(row)}
        if self.price_per_hour is None:
            return {}
        return {"price_per_hour": self.price_per_hour, "currency": self.currency}

    def options(self) -> list[str]:
        """Return the command-line options that give this pricing."""
        return [
            part
            for field in fields(self)
            if (value := getattr(self, field.name)) is not None
            for part in (f"--{field.name.replace('_', '-')}", str(value))
        ]


NO_PRICE = Pricing()


@cache
def price_table(path: Path) -> Mapping[str, Instance]:
    """Return the rows of a price table by instance.

    Args:
        path: A CSV file with ``COLUMNS``, in any order; other columns are not read.

    Raises:
        InputError: If it cannot be read, or a line has a fault; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"--prices {path}: cannot be read: {reason}") from error
    reader = csv.DictReader(io.StringIO(text), strict=True)
    found: dict[str, Instance] = {}
    try:
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise InputError(f"{path} line 1: the columns {', '.join(missing)} are missing")
        for line in reader:
            row = _instance(line, f"{path} line {reader.line_num}")
            if row.instance in found:
                raise InputError(f"{path} line {reader.line_num}: {row.instance} has a row above already")
            found[row.instance] = row
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}: {error}") from error
    if not found:
        raise InputError(f"{path}: it has no rows")
    return found


def _instance(line: Mapping[str | None, Any], where: str) -> Instance:
    """Return a line as a row of the table.

    Args:
        line: Values by column, as they stand in the file.
        where: File and line, for errors.
    """
    if None in line or None in line.values():
        raise InputError(f"{where}: it has another number of values than the first line has columns")
    values = {name: str(line[name]).strip() for name in COLUMNS}
    if not values["instance"]:
        raise InputError(f"{where}: the instance has no name")
    price, gpus = _number(values["price_per_hour"]), values["gpus"] or "0"
    if price is None or price <= 0:
        raise InputError(f"{where}: price_per_hour '{values['price_per_hour']}' is no number above 0")
    if not gpus.isdecimal() or len(gpus) > 9:
        raise InputError(f"{where}: gpus '{gpus}' is no number of GPUs")
    if not _is_currency(values["currency"]):
        raise InputError(f"{where}: currency '{values['currency']}' is not three letters, such as EUR or USD")
    try:
        date.fromisoformat(values["date"])
    except ValueError:
        raise InputError(f"{where}: date '{values['date']}' is no day, such as 2026-11-09") from None
    if not values["source"]:
        raise InputError(f"{where}: source is empty; say where the price is from")
    return Instance(**{**values, "price_per_hour": price, "gpus": int(gpus)})  # type: ignore[arg-type]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _is_currency(text: str) -> bool:
    return len(text) == 3 and text.isascii() and text.isalpha() and text.isupper()
